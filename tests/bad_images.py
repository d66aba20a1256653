"""Studies that no model was made for, and images that are merely unusual: one of each kind, as a sender would write it.

Each holds the bright box that `tests.faults.service` takes for an edit, wherever it can hold one: a detector that is
asked about it is sure, so only who does not ask, or knows better, keeps the verdict from being sure.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.uid import UID, MultiFrameGrayscaleWordSecondaryCaptureImageStorage, SecondaryCaptureImageStorage

from tests.faults.modality import EDIT_VALUE, SentStudy, make_study

ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4.1"
AXES = ([1, 0, 0, 0, 1, 0], [0, 1, 0, 0, 0, -1], [1, 0, 0, 0, 0, -1])
Change = Callable[[int, Dataset], None]


def changed(study: SentStudy, change: Change) -> SentStudy:
    """The same files with each data set changed; `change` gets the index of a slice and its data set."""
    for index, file in enumerate(study.files):
        dataset = dcmread(file)
        change(index, dataset)
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
        dcmwrite(file, dataset, enforce_file_format=True)
    return study


def set_pixels(dataset: Dataset, pixels: NDArray[np.generic]) -> None:
    dataset.Rows, dataset.Columns = pixels.shape[-2:]
    dataset.PixelData = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()


def _said(**values: object) -> Change:
    def change(_: int, dataset: Dataset) -> None:
        for keyword, value in values.items():
            setattr(dataset, keyword, value)

    return change


def _localiser(index: int, dataset: Dataset) -> None:
    """The same three views that every scanner takes first."""
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    dataset.ImageOrientationPatient, dataset.ImagePositionPatient = AXES[index % 3], [0, 0, 0]


def _phantom(_: int, dataset: Dataset) -> None:
    rows, columns = np.mgrid[-1:1:128j, -1:1:128j]
    radius = np.hypot(rows, columns)
    rings = np.where(radius < 0.9, 800 + 100 * (np.floor(12 * radius) % 2), 0)
    rings[40:60, 40:60] = EDIT_VALUE
    dataset.BodyPartExamined, dataset.SeriesDescription = "PHANTOM", "ACR QA"
    set_pixels(dataset, rings.astype(np.uint16))


def _colour(dataset: Dataset) -> None:
    dataset.SamplesPerPixel, dataset.PlanarConfiguration, dataset.PhotometricInterpretation = 3, 0, "RGB"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    dataset.Rows = dataset.Columns = 96
    picture = np.random.default_rng(2).integers(0, 255, (96, 96, 3), np.uint8)
    dataset.PixelData = picture.tobytes()


def _photograph(_: int, dataset: Dataset) -> None:
    _colour(dataset)


def _screenshot(_: int, dataset: Dataset) -> None:
    dataset.SOPClassUID, dataset.ConversionType = SecondaryCaptureImageStorage, "WSD"
    _colour(dataset)


def _constant(_: int, dataset: Dataset) -> None:
    set_pixels(dataset, np.full((64, 64), EDIT_VALUE, np.uint16))


def _monochrome1(_: int, dataset: Dataset) -> None:
    dataset.PhotometricInterpretation = "MONOCHROME1"
    set_pixels(dataset, (4095 - dataset.pixel_array).astype(np.uint16))


def _signed(_: int, dataset: Dataset) -> None:
    pixels = dataset.pixel_array.astype(np.int16) - 1500
    dataset.PixelRepresentation, dataset.RescaleIntercept, dataset.RescaleSlope = 1, 1500, 1
    dataset.BitsStored, dataset.HighBit = 16, 15
    set_pixels(dataset, pixels)


def _two_orientations(index: int, dataset: Dataset) -> None:
    dataset.ImageOrientationPatient = AXES[index // 5]
    step = 3 * (index % 5)
    dataset.ImagePositionPatient = [0, 0, step] if index < 5 else [step, 0, 0]


def _frames(study: SentStudy, sop_class: str) -> SentStudy:
    """All slices as the frames of the first file."""
    stack = np.stack([dcmread(file).pixel_array for file in study.files])

    def change(_: int, dataset: Dataset) -> None:
        dataset.SOPClassUID, dataset.NumberOfFrames = UID(sop_class), len(stack)
        set_pixels(dataset, stack)

    for file in study.files[1:]:
        file.unlink()
    return changed(SentStudy(study.study_uid, study.files[:1], study.edited), change)


def _enhanced(study: SentStudy) -> SentStudy:
    """PS3.3 C.7.6.16: geometry in functional groups."""

    def change(_: int, dataset: Dataset) -> None:
        shared, orientation, measures = Dataset(), Dataset(), Dataset()
        orientation.ImageOrientationPatient = AXES[0]
        measures.PixelSpacing, measures.SliceThickness = [1, 1], 3
        shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
        frames = []
        for index in range(int(dataset.NumberOfFrames)):
            frame, position = Dataset(), Dataset()
            position.ImagePositionPatient = [0, 0, 3 * index]
            frame.PlanePositionSequence = [position]
            frames.append(frame)
        dataset.SharedFunctionalGroupsSequence, dataset.PerFrameFunctionalGroupsSequence = [shared], frames
        for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"):
            delattr(dataset, keyword)

    return changed(_frames(study, ENHANCED_MR), change)


def _study(folder: Path, slices: int = 5, matrix: int = 64) -> SentStudy:
    return make_study(folder, edited=True, slices=slices, seed=11, matrix=matrix)


# What must end in ABSTAIN, and a word of its reason.
STRANGE: dict[str, tuple[Callable[[Path], SentStudy], str]] = {
    "another body part": (lambda folder: changed(_study(folder), _said(BodyPartExamined="KNEE")), "body part KNEE"),
    "localiser": (lambda folder: changed(_study(folder, 3), _localiser), "1 slice; at least 3"),
    "phantom": (lambda folder: changed(_study(folder), _phantom), "body part PHANTOM"),
    "screenshot": (lambda folder: changed(_study(folder, 1), _screenshot), "secondary capture"),
    "frames of a screen": (
        lambda folder: _frames(_study(folder), MultiFrameGrayscaleWordSecondaryCaptureImageStorage),
        "secondary capture",
    ),
    "photograph": (lambda folder: changed(_study(folder), _photograph), "only grey images"),
    "constant": (lambda folder: changed(_study(folder), _constant), "every pixel has the same value"),
    "16 × 16": (lambda folder: _study(folder, matrix=16), "matrix 16×16"),
    "4096 × 4096": (lambda folder: _study(folder, 1, matrix=4096), "1 slice; at least 3"),
    "one slice": (lambda folder: _study(folder, 1), "1 slice; at least 3"),
}
# What is unusual and has an answer: the box is found, and the study never called clear.
UNUSUAL: dict[str, Callable[[Path], SentStudy]] = {
    "MONOCHROME1": lambda folder: changed(_study(folder), _monochrome1),
    "signed": lambda folder: changed(_study(folder), _signed),
    "two orientations": lambda folder: changed(_study(folder, 10), _two_orientations),
    "enhanced MR": lambda folder: _enhanced(_study(folder)),
}
