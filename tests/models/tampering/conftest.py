"""A head as CT and MR store it, small enough for every family."""

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray

from models.tampering.phantom import make_phantom_study, phantom_volume


@pytest.fixture(scope="session")
def mr() -> NDArray[np.uint16]:
    return phantom_volume(np.random.default_rng(3), slices=5, matrix=96)


@pytest.fixture(scope="session")
def ct() -> NDArray[np.int16]:
    """Signed stored values as of CT: air at -1000, tissue around 40, a padded border at -2000."""
    head = phantom_volume(np.random.default_rng(4), slices=5, matrix=96).astype(np.int32)
    volume = np.where(head > 60, head // 3, head * 20 - 1000).clip(-1000, 1500).astype(np.int16)
    volume[:, :3] = -2000
    return volume


@pytest.fixture(scope="session")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six files of 12 signed bits in 16, without a file name's ending, in a folder in a folder."""
    folder = tmp_path_factory.mktemp("signed")
    for path in make_phantom_study(folder / "series", np.random.default_rng(4), slices=6, matrix=96):
        dataset = pydicom.dcmread(path)
        dataset.PixelRepresentation = 1
        dataset["SmallestImagePixelValue"].VR = dataset["LargestImagePixelValue"].VR = "SS"
        dataset.PixelData = (dataset.pixel_array.astype(np.int16) - 1024).tobytes()
        dataset.save_as(path.with_suffix(""))
        path.unlink()
    return folder


def stack(folder: Path, pattern: str = "*") -> dict[str, NDArray[Any]]:
    """The pixels of every DICOM file, by its SOP Instance UID."""
    files = [pydicom.dcmread(path) for path in folder.rglob(pattern) if path.is_file() and path.suffix != ".txt"]
    return {str(dataset.SOPInstanceUID): dataset.pixel_array for dataset in files}
