"""Instances by the thousand: pydicom encodes one, the others are its bytes with UIDs and pixels of their own.

UIDs are all of one width, so that an instance costs a copy of its bytes and no encoding. For whoever sends many: the
benchmark of ingest and the fault harnesses of the receive path.
"""

import secrets
from dataclasses import dataclass, replace
from hashlib import sha256
from io import BytesIO

import numpy as np
from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, MRImageStorage


@dataclass(frozen=True)
class Identity:
    """The UIDs of one instance."""

    study_uid: str
    series_uid: str
    sop_instance_uid: str

    def sibling(self) -> "Identity":
        """Another instance of the same series."""
        return replace(self, sop_instance_uid=new_uid())


def new_uid() -> str:
    """A UID of 44 characters, from a random UUID (PS3.5 B.2)."""
    return f"2.25.{10**38 + secrets.randbelow(2 * 10**38)}"


def new_study() -> Identity:
    """The first instance of a study of its own."""
    return Identity(new_uid(), new_uid(), new_uid())


class Template:
    """An image of one kind, to be had under any identity. Explicit VR little endian."""

    def __init__(self, modality: str, matrix: int) -> None:
        """`modality`: CT or MR; `matrix`: rows and columns of 16-bit pixels, so it takes 2 × matrix² bytes."""
        self.name = modality
        self.sop_class_uid = CTImageStorage if modality == "CT" else MRImageStorage
        self.transfer_syntax = ExplicitVRLittleEndian
        self._mould = Identity(new_uid(), new_uid(), new_uid())
        whole = BytesIO()
        dcmwrite(whole, _image(modality, self.sop_class_uid, matrix, self._mould), enforce_file_format=True)
        self._file = whole.getvalue()
        self._pixels = len(self._file) - 2 * matrix * matrix
        self._places = [
            (name, place)
            for name in ("study_uid", "series_uid", "sop_instance_uid")
            for place in _places(self._file, getattr(self._mould, name).encode())
        ]

    def file(self, identity: Identity, copy: int = 0) -> bytes:
        """It as a Part 10 file; another `copy` has the same UIDs and other pixels."""
        content = bytearray(self._file)
        for name, place in self._places:
            uid = getattr(identity, name).encode()
            content[place : place + len(uid)] = uid
        mark = sha256(f"{identity.sop_instance_uid} {copy}".encode()).digest()
        content[self._pixels : self._pixels + len(mark)] = mark
        return bytes(content)

    def dataset(self, identity: Identity, copy: int = 0) -> bytes:
        """It as a C-STORE request carries it."""
        return dataset_of(self.file(identity, copy))


def dataset_of(file: bytes) -> bytes:
    """What follows a Part 10 file's meta information, whose length stands in its first element (PS3.10 7.1)."""
    return file[144 + int.from_bytes(file[140:144], "little") :]


CT = ("CT", 512)  # 512 KB
MR = ("MR", 256)  # 128 KB
SMALL = ("MR", 32)  # 2 KB


def _places(content: bytes, wanted: bytes) -> list[int]:
    found, start = [], content.find(wanted)
    while start >= 0:
        found.append(start)
        start = content.find(wanted, start + 1)
    return found


def _image(modality: str, sop_class_uid: UID, matrix: int, identity: Identity) -> Dataset:
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class_uid, UID(identity.sop_instance_uid)
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = identity.study_uid, identity.series_uid
    dataset.FrameOfReferenceUID = identity.study_uid
    dataset.PatientName, dataset.PatientID = "Phantom^Ingest", "PHANTOM-1"
    dataset.PatientBirthDate, dataset.PatientSex = "19700101", "O"
    dataset.StudyDate, dataset.StudyTime, dataset.StudyID, dataset.AccessionNumber = "20261120", "090000", "1", "A1"
    dataset.ReferringPhysicianName = dataset.PositionReferenceIndicator = ""
    dataset.Modality, dataset.BodyPartExamined, dataset.Manufacturer = modality, "BRAIN", "Phantom"
    dataset.SeriesNumber, dataset.InstanceNumber, dataset.SeriesDescription = 1, 1, "Ingest"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.Rows = dataset.Columns = matrix
    dataset.PixelSpacing, dataset.SliceThickness = [1, 1], 3
    dataset.ImageOrientationPatient, dataset.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, 0]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PixelRepresentation = 1, "MONOCHROME2", 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    if modality == "CT":
        dataset.RescaleIntercept, dataset.RescaleSlope, dataset.KVP = -1024, 1, 120
    dataset.PixelData = np.random.default_rng(1).integers(0, 4096, (matrix, matrix), dtype="<u2").tobytes()
    dataset["PixelData"].VR = "OW"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = sop_class_uid
    dataset.file_meta.MediaStorageSOPInstanceUID = UID(identity.sop_instance_uid)
    return dataset
