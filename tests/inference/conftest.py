"""Generated series: small images whose every property is known, written as files as a scanner would send them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, MRImageStorage, generate_uid

from inference import coverage
from inference.coverage import Coverage
from inference.detectors import Detection
from inference.findings import FindingClass
from inference.volume import Stack, Volume
from models.card import ModelCard

WriteSeries = Callable[..., list[Path]]
WriteDataset = Callable[..., Path]

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
STUDY = "1.2.826.0.1.3680043.8.498.1"
WRITER = "1.2.826.0.1.3680043.8.498.9"


def head(pixels: NDArray[Any], **attributes: Any) -> Dataset:
    """A head MR slice of `pixels` with plain attributes; `attributes` replace them, None deletes."""
    dataset = Dataset()
    signed = np.issubdtype(pixels.dtype, np.signedinteger)
    bits = pixels.dtype.itemsize * 8
    values: dict[str, Any] = {
        "SOPClassUID": MRImageStorage,
        "SOPInstanceUID": generate_uid(),
        "StudyInstanceUID": STUDY,
        "SeriesInstanceUID": f"{STUDY}.1",
        "FrameOfReferenceUID": f"{STUDY}.2",
        "Modality": "MR",
        "BodyPartExamined": "BRAIN",
        "ImageType": ["ORIGINAL", "PRIMARY", "M"],
        "Rows": pixels.shape[-2],
        "Columns": pixels.shape[-1],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": bits,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": int(signed),
        "PixelSpacing": [0.5, 0.75],
        "SliceThickness": 3,
        "ImageOrientationPatient": list(AXIAL),
        "ImagePositionPatient": [0, 0, 0],
        "InstanceNumber": 1,
        "PixelData": pixels.tobytes(),
    }
    for keyword, value in {**values, **attributes}.items():
        if value is not None:
            setattr(dataset, keyword, value)
    dataset["PixelData"].VR = "OW"
    return dataset


@pytest.fixture
def write_dataset() -> WriteDataset:
    """Writes one data set as a Part 10 file."""

    def write(dataset: Dataset, path: Path, *, syntax: str = ExplicitVRLittleEndian, **meta: Any) -> Path:
        file_meta = FileMetaDataset()
        file_meta.TransferSyntaxUID = UID(syntax)
        file_meta.MediaStorageSOPClassUID = dataset.get("SOPClassUID", MRImageStorage)
        file_meta.MediaStorageSOPInstanceUID = dataset.get("SOPInstanceUID", "1.2.3")
        file_meta.ImplementationClassUID = UID(WRITER)
        for keyword, value in meta.items():
            setattr(file_meta, keyword, value)
        path.parent.mkdir(parents=True, exist_ok=True)
        file = FileDataset(str(path), dataset, preamble=b"\0" * 128, file_meta=file_meta)
        file.save_as(path, enforce_file_format=True)
        return path

    return write


@pytest.fixture
def write_series(write_dataset: WriteDataset, tmp_path: Path) -> WriteSeries:
    """Writes a volume (slices, rows, columns) as single-frame slices `distance` mm apart along z, or at `places`."""

    def write(
        voxels: NDArray[Any],
        *,
        folder: str = "series",
        distance: float = 3.0,
        places: Sequence[float] | None = None,
        **attributes: Any,
    ) -> list[Path]:
        at = [index * distance for index in range(len(voxels))] if places is None else places
        paths = []
        for index, pixels in enumerate(voxels):
            placed = {"ImagePositionPatient": [-20.0, -30.0, at[index]], "InstanceNumber": index + 1}
            dataset = head(np.ascontiguousarray(pixels), **{**placed, **attributes})
            paths.append(write_dataset(dataset, tmp_path / folder / f"{index:04d}.dcm"))
        return paths

    return write


@pytest.fixture
def make_head() -> Callable[..., Dataset]:
    return head


@pytest.fixture
def brain() -> NDArray[np.uint16]:
    """(8, 64, 80): no two slices, rows or columns alike."""
    slices, rows, columns = np.meshgrid(np.arange(8), np.arange(64), np.arange(80), indexing="ij")
    return (slices * 300 + rows * 3 + columns).astype(np.uint16)


class KnownCube:
    """A detector that knows where the edit is: `box` is ((slices), (rows), (columns)), half-open; None: nothing."""

    def __init__(self, box: tuple[tuple[int, int], ...] | None = None, *, logit: float = 6.0, **card: Any) -> None:
        self._box, self._logit = box, logit
        self.card = ModelCard(
            name="known-cube", version="1", network="none", arguments={}, digest="0" * 64, licence="test",
            **{"min_matrix": 32, **card},
        )  # fmt: skip
        self.seen = 0

    def covers(self, stack: Stack) -> Coverage:
        return coverage.by_header(self.card, stack)

    def recognises(self, volume: Volume) -> Coverage:
        return Coverage(tuple(self.card.outside_domain({"rows": float(volume.voxels.shape[1])})))

    def detect(self, volume: Volume, *, batch: int) -> Detection:
        self.seen += 1
        edit = np.full(volume.voxels.shape, 0.01, np.float32)
        logits = np.full(len(edit), -self._logit, np.float32)
        if self._box is not None:
            edit[tuple(slice(*ends) for ends in self._box)] = 0.95
            logits[slice(*self._box[0])] = self._logit
        return Detection(edit, logits, np.full(edit.shape, FindingClass.REMOVED_TUMOUR.code, np.uint8))


@pytest.fixture
def known_cube() -> type[KnownCube]:
    return KnownCube
