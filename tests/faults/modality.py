"""A modality for fault tests: small brain studies of noise, with or without an edit that the test detector sees."""

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

STORESCU = "/usr/bin/storescu"
EDIT_VALUE = 3000  # brighter than any noise: what `tests.faults.service` takes for an edit
MATRIX = 64


@dataclass(frozen=True)
class SentStudy:
    """A study on disk, ready to send."""

    study_uid: str
    files: tuple[Path, ...]
    edited: bool

    @property
    def instance_uids(self) -> list[str]:
        return [file.stem for file in self.files]


def make_study(folder: Path, *, edited: bool, slices: int = 5, seed: int = 0, matrix: int = MATRIX) -> SentStudy:
    """Write a study of one series; an edited one has a bright box in its three middle slices."""
    random = np.random.default_rng(seed)
    study_uid, series_uid, frame_uid = generate_uid(), generate_uid(), generate_uid()
    target = folder / study_uid
    target.mkdir(parents=True)
    files = []
    for index in range(slices):
        pixels = random.integers(100, 1000, (matrix, matrix), dtype=np.uint16)
        if edited and abs(index - slices // 2) <= 1:
            pixels[20:32, 24:36] = EDIT_VALUE
        files.append(_write(target, pixels, study_uid, series_uid, frame_uid, index))
    return SentStudy(study_uid, tuple(files), edited)


def add_slices(study: SentStudy, count: int, seed: int = 1) -> SentStudy:
    """More slices of a study's series, above the others: what arrives late."""
    from pydicom import dcmread

    random = np.random.default_rng(seed)
    first = dcmread(study.files[0], stop_before_pixels=True)
    uids = str(first.StudyInstanceUID), str(first.SeriesInstanceUID), str(first.FrameOfReferenceUID)
    files = []
    for index in range(len(study.files), len(study.files) + count):
        pixels = random.integers(100, 1000, (first.Rows, first.Columns), dtype=np.uint16)
        files.append(_write(study.files[0].parent, pixels, *uids, index))
    return SentStudy(study.study_uid, tuple(files), study.edited)


def _write(
    folder: Path, pixels: NDArray[np.uint16], study_uid: str, series_uid: str, frame_uid: str, index: int
) -> Path:
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = MRImageStorage, generate_uid()
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = study_uid, series_uid, frame_uid
    dataset.PatientName, dataset.PatientID = "Phantom^Fault", "PHANTOM-1"
    dataset.PatientBirthDate, dataset.PatientSex = "19700101", "O"
    dataset.StudyDate, dataset.StudyTime, dataset.StudyID, dataset.AccessionNumber = "20261120", "090000", "1", "A1"
    dataset.ReferringPhysicianName = dataset.PositionReferenceIndicator = ""
    dataset.Modality, dataset.BodyPartExamined, dataset.Manufacturer = "MR", "BRAIN", "Phantom"
    dataset.SeriesNumber, dataset.InstanceNumber, dataset.SeriesDescription = 1, index + 1, "T2 FLAIR"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND"]
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.PixelSpacing, dataset.SliceThickness = [1, 1], 3
    dataset.ImageOrientationPatient, dataset.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, 3 * index]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PixelRepresentation = 1, "MONOCHROME2", 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelData = pixels.astype("<u2").tobytes()
    dataset["PixelData"].VR = "OW"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    path = folder / f"{dataset.SOPInstanceUID}.dcm"
    dcmwrite(path, dataset, enforce_file_format=True)
    return path


_RESPONSE = re.compile(r"Received Store Response \(Success\)")
_SENDING = re.compile(r"Sending file: (?P<file>.+)")


def send(files: Sequence[Path], port: int, ae_title: str = "SCANWARDEN", seconds: float = 60) -> list[Path]:
    """C-STORE with DCMTK; the files that were acknowledged with success, also when the association broke."""
    command = [STORESCU, "-v", "-aec", ae_title, "-aet", "MODALITY", "-to", "10", "-ta", "10", "-td", "20"]
    done = subprocess.run(
        [*command, "127.0.0.1", str(port), *map(str, files)],
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    acknowledged, current = [], None
    for line in (done.stdout + done.stderr).splitlines():
        if match := _SENDING.search(line):
            current = Path(match["file"])
        elif _RESPONSE.search(line) and current is not None:
            acknowledged.append(current)
            current = None
    return acknowledged
