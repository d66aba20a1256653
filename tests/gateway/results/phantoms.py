"""Small studies with known geometry, and analyses of them with known regions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    EncapsulatedPDFStorage,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    SecondaryCaptureImageStorage,
)
from pydicom.valuerep import format_number_as_ds

from gateway.results import RevisionContext, model_set_digest
from inference.findings import (
    Finding,
    FindingClass,
    ModelUsed,
    Observation,
    SeriesAnalysis,
    Severity,
    StudyAnalysis,
    Verdict,
    classes_of,
)

AT = datetime(2026, 11, 20, 9, 8, 7)  # noqa: DTZ001 - the wall clock of a site has no zone in DICOM
MODELS = (ModelUsed("edit-unet", "1.0", "ab" * 32),)
Vector = tuple[float, float, float]
Box = tuple[int, int, int, int, int, int]
"""First slice, row, column and last slice, row, column, half-open."""


@dataclass(frozen=True)
class Geometry:
    """A stack of slices: direction cosines along a row and along a column, position of each slice along the normal."""

    name: str
    row: Vector = (1.0, 0.0, 0.0)
    column: Vector = (0.0, 1.0, 0.0)
    depths: tuple[float, ...] = (0.0, 3.0, 6.0, 9.0, 12.0, 15.0)
    rows: int = 32
    columns: int = 24
    spacing: tuple[float, float] = (0.9, 0.7)
    origin: Vector = (-40.0, -55.5, 12.25)
    is_enhanced: bool = False
    modality: str = "MR"

    @property
    def normal(self) -> NDArray[np.float64]:
        return np.cross(self.row, self.column)

    def position(self, k: int) -> list[float]:
        return [float(value) for value in np.array(self.origin) + self.depths[k] * self.normal]

    def millimetres(self, k: float, row: float, column: float) -> NDArray[np.float64]:
        """Where a pixel's centre lies in the patient (PS3.3 C.7.6.2.1.1)."""
        along = np.array(self.row) * self.spacing[1] * column + np.array(self.column) * self.spacing[0] * row
        place: NDArray[np.float64] = np.array(self.position(int(k))) + along
        return place


_TILT = np.deg2rad(20)
_TURN = np.deg2rad(-33)
_OBLIQUE_ROW = (float(np.cos(_TURN)), float(np.sin(_TURN)), 0.0)
_OBLIQUE_COLUMN = (
    float(-np.sin(_TURN) * np.cos(_TILT)),
    float(np.cos(_TURN) * np.cos(_TILT)),
    float(np.sin(_TILT)),
)

AXIAL = Geometry("axial")
GEOMETRIES = (
    AXIAL,
    Geometry("sagittal", row=(0.0, 1.0, 0.0), column=(0.0, 0.0, -1.0)),
    Geometry("coronal", row=(1.0, 0.0, 0.0), column=(0.0, 0.0, -1.0)),
    Geometry("oblique", row=_OBLIQUE_ROW, column=_OBLIQUE_COLUMN),
    Geometry("odd-columns", rows=29, columns=37),
    Geometry("unequal-spacing", depths=(0.0, 3.0, 6.5, 9.0, 14.0, 15.0)),
    Geometry("descending", depths=(15.0, 12.0, 9.0, 6.0, 3.0, 0.0)),
    Geometry("one-slice", depths=(4.0,)),
    Geometry("enhanced", is_enhanced=True),
    Geometry("enhanced-oblique", row=_OBLIQUE_ROW, column=_OBLIQUE_COLUMN, rows=33, columns=21, is_enhanced=True),
    Geometry("ct", modality="CT"),
)


@dataclass(frozen=True)
class Phantom:
    """A study on disk."""

    study_uid: str
    series_uid: str
    files: tuple[Path, ...]
    instance_uids: tuple[str, ...]
    geometry: Geometry

    def context(self, **changes: object) -> RevisionContext:
        context = RevisionContext(self.study_uid, 1, model_set_digest(MODELS), self.files, AT)
        return replace(context, **changes)  # type: ignore[arg-type]


def write_phantom(
    folder: Path, geometry: Geometry = AXIAL, *, change: Callable[[Dataset], None] | None = None, series: int = 1
) -> Phantom:
    """Write a study with one series; `change` sees every data set before it is written."""
    study_uid = "1.2.826.0.1.3680043.8.498.77"
    series_uid = f"{study_uid}.{series}"
    datasets = [_enhanced(geometry)] if geometry.is_enhanced else _single_frames(geometry)
    files = []
    for number, dataset in enumerate(datasets, start=1):
        dataset.StudyInstanceUID = study_uid
        dataset.SeriesInstanceUID = series_uid
        dataset.SOPInstanceUID = f"{series_uid}.{number}"
        dataset.FrameOfReferenceUID = f"{study_uid}.1000"
        dataset.SeriesNumber = series + 2
        dataset.InstanceNumber = number
        if change is not None:
            change(dataset)
        files.append(write_part10(dataset, folder / f"{series}-{number}.dcm"))
    uids = tuple(str(dataset.SOPInstanceUID) for dataset in datasets)
    return Phantom(study_uid, series_uid, tuple(files), uids, geometry)


def write_part10(dataset: Dataset, path: Path) -> Path:
    """A Part 10 file with whatever the data set holds, valid or not."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta = meta
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def patient_header(sop_class_uid: str, modality: str) -> Dataset:
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.SOPClassUID = sop_class_uid
    dataset.Modality = modality
    dataset.PatientName = "Müster^Jürgen"
    dataset.PatientID = "P-4711"
    dataset.PatientBirthDate = "19610412"
    dataset.PatientSex = "M"
    dataset.StudyDate = "20261119"
    dataset.StudyTime = "101500"
    dataset.StudyID = "S1"
    dataset.AccessionNumber = "A0815"
    dataset.ReferringPhysicianName = "Doe^Jane"
    dataset.Manufacturer = "Phantoms"
    return dataset


def _pixels(dataset: Dataset, geometry: Geometry, frames: int) -> None:
    dataset.Rows, dataset.Columns = geometry.rows, geometry.columns
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit = 15
    dataset.PixelRepresentation = 0
    dataset.PixelData = b"\x01\x00" * (frames * geometry.rows * geometry.columns)


def _single_frames(geometry: Geometry) -> list[Dataset]:
    datasets = []
    for k in range(len(geometry.depths)):
        is_ct = geometry.modality == "CT"
        dataset = patient_header(CTImageStorage if is_ct else MRImageStorage, geometry.modality)
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "OTHER"]
        dataset.ImagePositionPatient = [format_number_as_ds(float(value)) for value in geometry.position(k)]
        dataset.ImageOrientationPatient = [
            format_number_as_ds(float(value)) for value in (*geometry.row, *geometry.column)
        ]
        dataset.PixelSpacing = list(geometry.spacing)
        dataset.SliceThickness = "3"
        _pixels(dataset, geometry, 1)
        datasets.append(dataset)
    return datasets


def _enhanced(geometry: Geometry) -> Dataset:
    dataset = patient_header(EnhancedMRImageStorage, "MR")
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    dataset.NumberOfFrames = len(geometry.depths)
    measures, orientation, shared = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing = list(geometry.spacing)
    measures.SliceThickness = "3"
    orientation.ImageOrientationPatient = [
        format_number_as_ds(float(value)) for value in (*geometry.row, *geometry.column)
    ]
    shared.PixelMeasuresSequence = [measures]
    shared.PlaneOrientationSequence = [orientation]
    dataset.SharedFunctionalGroupsSequence = [shared]
    frames = []
    for k in range(len(geometry.depths)):
        position, frame = Dataset(), Dataset()
        position.ImagePositionPatient = [format_number_as_ds(float(value)) for value in geometry.position(k)]
        frame.PlanePositionSequence = [position]
        frames.append(frame)
    dataset.PerFrameFunctionalGroupsSequence = frames
    _pixels(dataset, geometry, len(frames))
    return dataset


def write_pdf_study(folder: Path) -> Phantom:
    """A study without any image."""
    dataset = patient_header(EncapsulatedPDFStorage, "DOC")
    dataset.StudyInstanceUID = "1.2.826.0.1.3680043.8.498.88"
    dataset.SeriesInstanceUID = "1.2.826.0.1.3680043.8.498.88.1"
    dataset.SOPInstanceUID = "1.2.826.0.1.3680043.8.498.88.1.1"
    dataset.MIMETypeOfEncapsulatedDocument = "application/pdf"
    dataset.EncapsulatedDocument = b"%PDF-1.4\n"
    file = write_part10(dataset, folder / "document.dcm")
    return Phantom(dataset.StudyInstanceUID, dataset.SeriesInstanceUID, (file,), (dataset.SOPInstanceUID,), AXIAL)


def make_secondary_capture(dataset: Dataset) -> None:
    """What a screen shot has: pixels, and no place in the patient."""
    dataset.SOPClassUID = SecondaryCaptureImageStorage
    dataset.ConversionType = "WSD"
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "FrameOfReferenceUID"):
        delattr(dataset, keyword)


def volume_of(phantom: Phantom, boxes: Sequence[Box]) -> tuple[SeriesAnalysis, list[Box]]:
    """The series as an analysis sees it, with box k filled with label k; boxes are cut to the volume."""
    geometry = phantom.geometry
    slices = len(geometry.depths)
    labels = np.zeros((slices, geometry.rows, geometry.columns), np.uint16)
    kept = []
    for label, (k0, r0, c0, k1, r1, c1) in enumerate(boxes, start=1):
        k0, k1 = min(k0, slices - 1), min(k1, slices)
        labels[k0:k1, r0:r1, c0:c1] = label
        kept.append((k0, r0, c0, k1, r1, c1))
    sources = [0 if geometry.is_enhanced else k for k in range(slices)]
    volume = SeriesAnalysis(
        series_uid=phantom.series_uid,
        sop_instance_uids=tuple(phantom.instance_uids[source] for source in sources),
        frame_numbers=tuple(k + 1 if geometry.is_enhanced else None for k in range(slices)),
        source_files=tuple(phantom.files[source] for source in sources),
        slice_scores=(0.1,) * slices,
        labels=labels,
        classes=np.zeros_like(labels, np.uint8),
    )
    return volume, kept


BOXES: tuple[Box, ...] = ((2, 5, 3, 5, 11, 9), (4, 20, 14, 6, 24, 20))
CLASSES = (FindingClass.ADDED_TUMOUR, FindingClass.REMOVED_TUMOUR, FindingClass.RESYNTHESISED, FindingClass.REAL_TUMOUR)


def analysis_of(phantom: Phantom, boxes: Sequence[Box] = BOXES, *, verdict: Verdict = Verdict.SUSPECT) -> StudyAnalysis:
    """An analysis that found every box; classes follow one another as in `CLASSES`."""
    volume, kept = volume_of(phantom, boxes)
    findings = tuple(
        Finding(
            finding_class=CLASSES[(label - 1) % len(CLASSES)],
            score=0.97 - 0.01 * label,
            series_uid=phantom.series_uid,
            slices=(k0, k1 - 1),
            key_slice=k0,
            box=(r0, c0, r1, c1),
            volume_mm3=123.4 * label,
            label=label,
        )
        for label, (k0, r0, c0, k1, r1, c1) in enumerate(kept, start=1)
    )
    return StudyAnalysis(
        study_uid=phantom.study_uid,
        verdict=verdict,
        score=0.97 if findings else 0.03,
        reasons=("the edit detector is sure of two regions",),
        findings=findings,
        series=(replace(volume, classes=classes_of(volume.labels, findings)),),
        observations=(Observation("uid-root", Severity.WARNING, "an instance has a UID of another root"),),
        models=MODELS,
    )


def abstention(phantom: Phantom, *reasons: str) -> StudyAnalysis:
    """An analysis that says nothing."""
    return StudyAnalysis(phantom.study_uid, Verdict.ABSTAIN, 0.5, reasons, models=MODELS)


def read_study(folder: Path, pattern: str = "*.dcm") -> Phantom:
    """A real single-frame series as a phantom: its geometry comes from its headers, in the order of its positions."""
    headers = [(dcmread(file, stop_before_pixels=True), file) for file in sorted(folder.rglob(pattern))]
    first = headers[0][0]
    cosines = [float(value) for value in first.ImageOrientationPatient]
    normal = np.cross(cosines[:3], cosines[3:])
    headers.sort(key=lambda pair: float(np.dot(normal, [float(value) for value in pair[0].ImagePositionPatient])))
    geometry = replace(
        AXIAL,
        name=folder.name,
        row=(cosines[0], cosines[1], cosines[2]),
        column=(cosines[3], cosines[4], cosines[5]),
        depths=tuple(float(k) for k in range(len(headers))),
        rows=first.Rows,
        columns=first.Columns,
    )
    files = tuple(file for _, file in headers)
    uids = tuple(str(header.SOPInstanceUID) for header, _ in headers)
    return Phantom(str(first.StudyInstanceUID), str(first.SeriesInstanceUID), files, uids, geometry)
