"""Scans of one bright box whose place in the patient is known in millimetres, as files, and their analysis.

Nothing here uses our geometry: every voxel's place follows from the attributes that are written (PS3.3 C.7.6.2.1.1).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, EnhancedMRImageStorage, MRImageStorage

from gateway.results import RevisionContext
from inference.analysis import analyse_study
from inference.coverage import Coverage
from inference.detectors import Detection, Detector
from inference.findings import FindingClass, StudyAnalysis
from inference.volume import Stack, Volume
from models.card import ModelCard
from tests.gateway.results.phantoms import AT, patient_header, write_part10

Vector = tuple[float, float, float]
STUDY = "1.2.826.0.1.3680043.8.498.99"
CLASSES = {
    ("MR", False): MRImageStorage,
    ("CT", False): CTImageStorage,
    ("MR", True): EnhancedMRImageStorage,
    ("CT", True): EnhancedCTImageStorage,
}


@dataclass(frozen=True)
class StackOfSlices:
    """Parallel slices: slice *k* begins at `centre` + `depths[k]` × `step`, less half the matrix."""

    row: Vector = (1.0, 0.0, 0.0)
    column: Vector = (0.0, 1.0, 0.0)
    step: Vector = (0.0, 0.0, 1.0)
    depths: tuple[float, ...] = tuple(3.0 * k - 15 for k in range(11))
    rows: int = 48
    columns: int = 56
    spacing: tuple[float, float] = (1.1, 0.9)
    echo: float | None = None

    def positions(self) -> NDArray[np.float64]:
        corner = (self.rows - 1) / 2 * self.spacing[0] * np.array(self.column)
        corner += (self.columns - 1) / 2 * self.spacing[1] * np.array(self.row)
        found: NDArray[np.float64] = np.outer(self.depths, self.step) - corner + CENTRE
        return np.round(found, 6)

    def places(self) -> NDArray[np.float64]:
        """The centre of every voxel in mm, (slices, rows, columns, 3)."""
        down = np.arange(self.rows)[:, None, None] * self.spacing[0] * np.array(self.column)
        across = np.arange(self.columns)[None, :, None] * self.spacing[1] * np.array(self.row)
        found: NDArray[np.float64] = self.positions()[:, None, None, :] + (down + across)[None]
        return found


@dataclass(frozen=True)
class Scan:
    """One series of one or more stacks, in single frames or in one enhanced file."""

    name: str
    stacks: tuple[StackOfSlices, ...] = (StackOfSlices(),)
    modality: str = "MR"
    is_enhanced: bool = False


CENTRE = np.array((12.3, -31.7, 44.9))
# The box is PLACE ± HALF along the patient's own axes, mm: beside the middle of every matrix, so that a mirrored one
# is at another place.
PLACE = np.add(CENTRE, (6.43, -4.29, 2.87))
HALF = np.array((8.37, 7.21, 8.83))

_TURN, _TILT = np.deg2rad(-33), np.deg2rad(20)
_ROUND = 9
_OBLIQUE_ROW = tuple(np.round((np.cos(_TURN), np.sin(_TURN), 0.0), _ROUND).tolist())
_OBLIQUE_COLUMN = tuple(
    np.round((-np.sin(_TURN) * np.cos(_TILT), np.cos(_TURN) * np.cos(_TILT), np.sin(_TILT)), _ROUND).tolist()
)
_OBLIQUE_NORMAL = tuple(np.cross(_OBLIQUE_ROW, _OBLIQUE_COLUMN).tolist())
_TILTED = (0.0, float(np.round(np.cos(_TILT), _ROUND)), float(np.round(-np.sin(_TILT), _ROUND)))
_AXIAL = StackOfSlices()
_SAGITTAL = replace(_AXIAL, row=(0.0, 1.0, 0.0), column=(0.0, 0.0, -1.0), step=(-1.0, 0.0, 0.0))
_CORONAL = replace(_AXIAL, row=(1.0, 0.0, 0.0), column=(0.0, 0.0, -1.0), step=(0.0, 1.0, 0.0))
_OBLIQUE = replace(_AXIAL, row=_OBLIQUE_ROW, column=_OBLIQUE_COLUMN, step=_OBLIQUE_NORMAL)
_EVEN = tuple(2.5 * k - 13 for k in range(11))

SCANS = (
    Scan("axial"),
    Scan("sagittal", (_SAGITTAL,)),
    Scan("coronal", (_CORONAL,)),
    Scan("oblique", (_OBLIQUE,)),
    Scan("columns-not-of-8", (replace(_AXIAL, rows=45, columns=53),)),
    Scan("unequal-spacing", (replace(_AXIAL, depths=(-15, -12, -9, -5.5, -2.2, 0, 3, 7.1, 9, 12.5, 16)),)),
    # A tilted gantry: planes lean, the table moves along z, so that positions shift within the planes.
    Scan("gantry-tilt", (replace(_AXIAL, column=_TILTED, depths=_EVEN),), modality="CT"),
    Scan("enhanced-mr", (replace(_OBLIQUE, columns=51),), is_enhanced=True),
    Scan("enhanced-ct", (_AXIAL,), modality="CT", is_enhanced=True),
    Scan("enhanced-two-stacks", (_AXIAL, replace(_SAGITTAL, depths=_EVEN)), is_enhanced=True),
    Scan("enhanced-two-echoes", (replace(_AXIAL, echo=15.0), replace(_AXIAL, echo=90.0)), is_enhanced=True),
)


def inside(places: NDArray[np.float64], shift: Sequence[float] = (0, 0, 0)) -> NDArray[np.bool_]:
    """Which places (…, 3) lie in the box."""
    found: NDArray[np.bool_] = (np.abs(places - PLACE - np.array(shift)) <= HALF).all(axis=-1)
    return found


@dataclass(frozen=True)
class Written:
    """A scan on disk."""

    scan: Scan
    files: tuple[Path, ...]
    series_uid: str
    frame_uid: str
    shift: Vector = (0.0, 0.0, 0.0)


def write_scan(folder: Path, scan: Scan, *, series: int = 1, shift: Vector = (0.0, 0.0, 0.0)) -> Written:
    """Write a scan as a series of the study, with a frame of reference of its own and its box `shift` mm away."""
    written = Written(scan, (), f"{STUDY}.{series}", f"{STUDY}.{series}.900", shift)
    datasets = [_enhanced(scan, shift)] if scan.is_enhanced else _single_frames(scan, shift)
    files = []
    for number, dataset in enumerate(datasets, start=1):
        dataset.StudyInstanceUID = STUDY
        dataset.SeriesInstanceUID = written.series_uid
        dataset.SOPInstanceUID = f"{written.series_uid}.{number}"
        dataset.FrameOfReferenceUID = written.frame_uid
        dataset.SeriesNumber = series
        dataset.InstanceNumber = number
        files.append(write_part10(dataset, folder / f"{series}-{number:03d}.dcm"))
    return replace(written, files=tuple(files))


def _voxels(stack: StackOfSlices, shift: Vector) -> NDArray[np.uint16]:
    places = stack.places()
    texture = 100 + 40 * np.sin(places.sum(axis=-1) / 3)
    return np.where(inside(places, shift), 1000, texture).astype(np.uint16)


def _header(scan: Scan, pixels: NDArray[np.uint16]) -> Dataset:
    dataset = patient_header(CLASSES[scan.modality, scan.is_enhanced], scan.modality)
    dataset.Rows, dataset.Columns = pixels.shape[-2:]
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit = 15
    dataset.PixelRepresentation = 0
    dataset.PixelData = pixels.tobytes()
    dataset["PixelData"].VR = "OW"
    return dataset


def _single_frames(scan: Scan, shift: Vector) -> list[Dataset]:
    datasets = []
    for stack in scan.stacks:
        for position, pixels in zip(stack.positions(), _voxels(stack, shift), strict=True):
            dataset = _header(scan, pixels)
            dataset.ImageType = ["ORIGINAL", "PRIMARY", "OTHER"]
            dataset.ImagePositionPatient = position.tolist()
            dataset.ImageOrientationPatient = [*stack.row, *stack.column]
            dataset.PixelSpacing = list(stack.spacing)
            dataset.SliceThickness = 2
            if scan.modality == "CT":
                dataset.RescaleIntercept, dataset.RescaleSlope = -1024, 1
                dataset.WindowCenter, dataset.WindowWidth = -600, 1200
            datasets.append(dataset)
    return datasets


def _enhanced(scan: Scan, shift: Vector) -> Dataset:
    """All frames in one file; frames of the stacks take turns where they are echoes of the same places."""
    frames = [
        (number, k, stack, position, pixels)
        for number, stack in enumerate(scan.stacks, start=1)
        for k, (position, pixels) in enumerate(zip(stack.positions(), _voxels(stack, shift), strict=True), start=1)
    ]
    if any(stack.echo is not None for stack in scan.stacks):
        frames.sort(key=lambda frame: (frame[1], frame[0]))
    dataset = _header(scan, np.stack([pixels for *_, pixels in frames]))
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    dataset.NumberOfFrames = len(frames)
    first = scan.stacks[0]
    one_plane = all((stack.row, stack.column) == (first.row, first.column) for stack in scan.stacks)
    dataset.SharedFunctionalGroupsSequence = [_shared(scan, first if one_plane else None)]
    dataset.PerFrameFunctionalGroupsSequence = [
        _frame(number, k, stack, position, with_orientation=not one_plane) for number, k, stack, position, _ in frames
    ]
    return dataset


def _shared(scan: Scan, plane: StackOfSlices | None) -> Dataset:
    shared = Dataset()
    shared.PixelMeasuresSequence = [
        _item(PixelSpacing=list(scan.stacks[0].spacing), SliceThickness=2),
    ]
    if plane is not None:
        shared.PlaneOrientationSequence = [_item(ImageOrientationPatient=[*plane.row, *plane.column])]
    if scan.modality == "CT":
        shared.PixelValueTransformationSequence = [_item(RescaleIntercept=-1024, RescaleSlope=1, RescaleType="HU")]
        shared.FrameVOILUTSequence = [_item(WindowCenter=-600, WindowWidth=1200)]
    return shared


def _frame(number: int, k: int, stack: StackOfSlices, position: Any, *, with_orientation: bool) -> Dataset:
    frame = Dataset()
    frame.PlanePositionSequence = [_item(ImagePositionPatient=position.tolist())]
    frame.FrameContentSequence = [_item(StackID="1" if stack.echo else str(number), InStackPositionNumber=k)]
    if with_orientation:
        frame.PlaneOrientationSequence = [_item(ImageOrientationPatient=[*stack.row, *stack.column])]
    if stack.echo is not None:
        frame.MREchoSequence = [_item(EffectiveEchoTime=stack.echo)]
    return frame


def _item(**attributes: Any) -> Dataset:
    item = Dataset()
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return item


@dataclass
class BrightIsEdited:
    """A detector that takes what is brighter than half the range for added; `coarse`: on every second row and column.

    A coarse mask comes back to the source's matrix by its nearest neighbour, as a detector's own grid has to.
    """

    coarse: bool = False
    card: ModelCard = field(
        default_factory=lambda: ModelCard(
            name="bright-is-edited", version="1", network="none", arguments={}, digest="ab" * 32, licence="test"
        )
    )

    def covers(self, stack: Stack) -> Coverage:
        return Coverage()

    def recognises(self, volume: Volume) -> Coverage:
        return Coverage()

    def detect(self, volume: Volume, *, batch: int) -> Detection:
        voxels = volume.voxels
        bright = voxels > (voxels.max() + voxels.min()) / 2
        if self.coarse:
            rows, columns = voxels.shape[1:]
            bright = bright[:, ::2, ::2].repeat(2, axis=1).repeat(2, axis=2)[:, :rows, :columns]
        logits = np.where(bright.any(axis=(1, 2)), 6, -6).astype(np.float32)
        classes = np.full(voxels.shape, FindingClass.ADDED_TUMOUR.code, np.uint8)
        return Detection(np.where(bright, 0.99, 0.01).astype(np.float32), logits, classes)


def analysed(
    *written: Written, coarse: bool = False, detector: Detector | None = None
) -> tuple[StudyAnalysis, RevisionContext]:
    """The whole way from files to an analysis, with a detector that sees the box."""
    files = tuple(file for each in written for file in each.files)
    analysis = analyse_study(files, models=[detector or BrightIsEdited(coarse)])
    return analysis, RevisionContext(STUDY, 1, "cd" * 32, files, AT)
