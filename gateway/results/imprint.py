"""What every object of ours carries, whatever its kind: whose study it is, who made it, and when (PS3.3 C.12.1).

highdicom gets blank stand-ins for the patient and the wall clock; this module puts the real ones in. So no header of
a scanner can make highdicom refuse or log a patient's data, and a repeat gives the same bytes.
"""

import contextlib
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from gateway.results import codes
from gateway.results.evidence import MANUFACTURER
from gateway.results.patient import PatientStudy

MODEL_NAME = "Scanwarden integrity gateway"


def software_version() -> str:
    """The installed version of Scanwarden."""
    try:
        return version("scanwarden")
    except PackageNotFoundError:
        return "unknown"


def blank_source(study_uid: str) -> Dataset:
    """A header without a patient, for highdicom to copy from."""
    source = Dataset()
    for keyword in ("PatientName", "PatientID", "PatientSex", "AccessionNumber", "StudyID"):
        setattr(source, keyword, "")
    for keyword in ("PatientBirthDate", "StudyDate", "StudyTime"):
        setattr(source, keyword, None)
    source.StudyInstanceUID = study_uid
    return source


def imprint(dataset: Dataset, patient: PatientStudy, at: datetime) -> None:
    """Put patient, study, date and time into a finished object."""
    dataset.update(patient.attributes)
    day, moment = at.strftime("%Y%m%d"), at.strftime("%H%M%S")
    for kind in ("InstanceCreation", "Content"):
        setattr(dataset, f"{kind}Date", day)
        setattr(dataset, f"{kind}Time", moment)
    dataset.Manufacturer = MANUFACTURER
    scheme = Dataset()
    scheme.CodingSchemeDesignator = codes.SCHEME
    scheme.CodingSchemeName = codes.SCHEME_NAME
    scheme.CodingSchemeVersion = codes.SCHEME_VERSION
    scheme.CodingSchemeResponsibleOrganization = MANUFACTURER
    dataset.CodingSchemeIdentificationSequence = [scheme]
    for equipment in dataset.get("ContributingEquipmentSequence", []):
        equipment.ContributionDateTime = day + moment


def add_file_meta(dataset: Dataset) -> None:
    """File meta information for an object that we made without highdicom (PS3.10 7.1)."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(dataset.SOPClassUID)
    meta.MediaStorageSOPInstanceUID = UID(dataset.SOPInstanceUID)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta = meta


def encode(dataset: Dataset, syntax: UID) -> None:
    """Put a finished object into its transfer syntax (PS3.5 A); the pixels stay what they are.

    Objects are made in explicit little endian, which any other syntax is made of here, before they are signed.
    """
    if syntax.is_compressed and syntax.is_encapsulated:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset.compress(syntax, generate_instance_uid=False)
    else:
        dataset.file_meta.TransferSyntaxUID = syntax


@contextlib.contextmanager
def quiet_library() -> Iterator[None]:
    """highdicom warns and logs about what is deliberate here (blank names, unregistered schemes)."""
    logger = logging.getLogger("highdicom")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def write_atomically(dataset: Dataset, path: Path) -> None:
    """Temporary file, fsync, rename, fsync of the folder: `path` is whole or absent, also after power loss."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            dataset.save_as(file, enforce_file_format=True)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
