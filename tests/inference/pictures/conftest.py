"""A grey picture and a maker of NIfTI volumes, for tests of pictures by themselves."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.plain_files import nifti_file

Grey = NDArray[np.uint8]


@pytest.fixture
def grey() -> Grey:
    """(64, 80) no two rows or columns alike."""
    rows, columns = np.meshgrid(np.arange(64), np.arange(80), indexing="ij")
    return (rows * 2 + columns).astype(np.uint8)


@pytest.fixture
def nifti(tmp_path: Path) -> Callable[..., Path]:
    """Writes a volume (x, y, z) into the test's folder, as `tests.plain_files.nifti_file` does."""

    def make(
        voxels: NDArray[Any], name: str = "volume.nii.gz", affine: Any = None, **header: tuple[int, bytes]
    ) -> Path:
        return nifti_file(tmp_path / name, voxels, affine, **header)

    return make
