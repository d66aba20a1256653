"""A head that nobody has: an axial FLAIR-like MR series made from formulas, for the demonstration and for tests.

It has scalp, skull, folded grey and white matter, ventricles, a coil's shading and Rician noise with a scanner's grain;
it is no substitute for real images in training or in any figure that is reported.
"""

import datetime as dt
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

from models.tampering.material import FloatArray, slow_field

_THICKNESS = 3.0  # mm
_FIELD_OF_VIEW = 240.0  # mm
_LEVELS = {"scalp": 420.0, "skull": 45.0, "fluid": 60.0, "white": 210.0, "grey": 285.0, "lesion": 430.0}


def phantom_volume(
    rng: np.random.Generator, slices: int = 24, matrix: int = 256, *, lesion: bool = False
) -> NDArray[np.uint16]:
    """(slices, matrix, matrix) stored integers, about 0 to 700."""
    y, x = (np.mgrid[:matrix, :matrix].astype(np.float32) + 0.5) / matrix * 2 - 1
    wide, tall = rng.uniform(0.62, 0.68), rng.uniform(0.78, 0.84)
    folds = slow_field((slices, matrix, matrix), 34, rng)
    wave = slow_field((slices, matrix, matrix), 5, rng)
    texture = slow_field((slices, matrix, matrix), 60, rng)
    place = rng.uniform(-0.3, 0.3, size=2) * (wide, tall)
    planes = []
    for index, height in enumerate(np.linspace(-0.55, 0.85, slices)):
        size = np.sqrt(max(0.08, 1 - max(0.0, float(height)) ** 2))
        radius = np.sqrt((x / wide) ** 2 + (y / tall) ** 2) / size + 0.012 * wave[index]
        ventricles = ((np.abs(x) - 0.09) / 0.06) ** 2 + ((y + 0.02) / 0.26) ** 2 < max(
            0.0, 1 - 6 * (float(height) - 0.1) ** 2
        )
        middle = (np.abs(x + 0.01 * wave[index]) < 0.012) & (radius < 0.8)
        tissue = np.where(folds[index] + 9 * (radius - 0.78) > 0.2, _LEVELS["grey"], _LEVELS["white"])
        tissue = np.where(
            (np.abs(folds[index]) < 0.10) & (radius > 0.62) | ventricles | middle, _LEVELS["fluid"], tissue
        )
        plane = np.where(radius < 0.86, tissue + 9 * texture[index], _LEVELS["fluid"])
        plane = np.where(radius < 0.89, plane, _LEVELS["skull"])
        plane = np.where(radius < 0.95, plane, _LEVELS["scalp"] + 25 * texture[index])
        plane = np.where(radius < 1.0, plane, 0.0)
        if lesion:
            depth = ((x - place[0]) / 0.12) ** 2 + ((y - place[1]) / 0.1) ** 2 + ((float(height) - 0.2) / 0.2) ** 2
            share = np.clip(1.6 - depth - 0.25 * folds[index], 0, 1) * (radius < 0.8)
            plane = plane * (1 - share) + (_LEVELS["lesion"] + 12 * texture[index]) * share
        planes.append(cv2.GaussianBlur(plane.astype(np.float32), (0, 0), 0.9 * matrix / 256))
    return np.rint(np.clip(_acquired(np.stack(planes), rng), 0, 4095)).astype(np.uint16)


def make_phantom_study(
    folder: Path, rng: np.random.Generator, slices: int = 24, matrix: int = 256, *, lesion: bool = False
) -> list[Path]:
    """Write an axial MR series of `phantom_volume` as DICOM Part 10 files; returns them in order of position."""
    volume = phantom_volume(rng, slices, matrix, lesion=lesion)
    folder.mkdir(parents=True, exist_ok=True)
    study, series, frame = (generate_uid(prefix=None) for _ in range(3))
    number = f"{int(rng.integers(10**6)):06d}"
    now = dt.datetime.now(dt.UTC)  # one moment for all slices: instances of a study agree on its time
    paths = []
    for index, pixels in enumerate(volume):
        path = folder / f"{index + 1:04d}.dcm"
        dataset = _instance(path, index, matrix, now)
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = study, series, frame
        dataset.PatientID = dataset.AccessionNumber = f"PHANTOM{number}"
        dataset.StudyID = number
        dataset.SmallestImagePixelValue, dataset.LargestImagePixelValue = int(pixels.min()), int(pixels.max())
        dataset.PixelData = pixels.astype("<u2").tobytes()
        dataset.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def _acquired(volume: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Coil shading, then complex noise through the scanner's k-space window, then its magnitude (Gudbjartsson 1995)."""
    matrix = volume.shape[1]
    shaded = volume * (1 + 0.08 * slow_field(volume.shape, 3, rng))
    frequency = np.fft.fftfreq(matrix)
    window = np.clip((0.5 - np.abs(frequency)) / 0.08, 0, 1)
    planes = []
    for plane in shaded:
        noise = rng.standard_normal((2, matrix, matrix)) * 7.0
        spectrum = np.fft.fft2(plane + noise[0] + 1j * noise[1]) * window[:, np.newaxis] * window[np.newaxis]
        planes.append(np.abs(np.fft.ifft2(spectrum)))
    return np.stack(planes).astype(np.float32)


def _instance(path: Path, index: int, matrix: int, now: dt.datetime) -> FileDataset:
    """The header of one slice: MR Image IOD (PS3.3 A.4), every type 1 and type 2 attribute."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = MRImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid(prefix=None)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset(path, Dataset(), file_meta=meta, preamble=b"\0" * 128)
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "OTHER"]
    dataset.SOPClassUID, dataset.SOPInstanceUID = MRImageStorage, meta.MediaStorageSOPInstanceUID
    dataset.StudyDate = dataset.SeriesDate = dataset.ContentDate = now.strftime("%Y%m%d")
    dataset.StudyTime = dataset.SeriesTime = dataset.ContentTime = now.strftime("%H%M%S")
    dataset.Modality, dataset.Manufacturer, dataset.ReferringPhysicianName = "MR", "", ""
    dataset.StudyDescription, dataset.SeriesDescription = "Phantom head", "FLAIR phantom"
    dataset.PatientName, dataset.PatientBirthDate, dataset.PatientSex = "PHANTOM^SCANWARDEN", "", "O"
    dataset.BodyPartExamined, dataset.PatientPosition = "BRAIN", "HFS"
    dataset.ScanningSequence, dataset.SequenceVariant = ["SE", "IR"], "SK"
    dataset.ScanOptions, dataset.MRAcquisitionType, dataset.SequenceName = "", "2D", ""
    dataset.SliceThickness = dataset.SpacingBetweenSlices = _THICKNESS
    dataset.RepetitionTime, dataset.EchoTime, dataset.InversionTime = 9000.0, 120.0, 2500.0
    dataset.EchoTrainLength, dataset.MagneticFieldStrength = 16, 1.5
    dataset.SeriesNumber, dataset.InstanceNumber, dataset.AcquisitionNumber = 1, index + 1, 1
    pixel = _FIELD_OF_VIEW / matrix
    corner = -_FIELD_OF_VIEW / 2 + pixel / 2
    dataset.ImagePositionPatient = [corner, corner, index * _THICKNESS]
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.PositionReferenceIndicator, dataset.SliceLocation = "", index * _THICKNESS
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows = dataset.Columns = matrix
    dataset.PixelSpacing = [pixel, pixel]
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.WindowCenter, dataset.WindowWidth = 250.0, 500.0
    return dataset
