"""What the viewers are shown: studies, their analyses and evidence objects, sent to an archive as we send them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread

from config.settings import Destination, Settings
from gateway.dicom.scu import send
from gateway.results import PROFILES, EvidenceKind, RevisionContext, build_evidence, model_set_digest
from inference.analysis import analyse_study
from inference.findings import StudyAnalysis
from models.tampering.phantom import make_phantom_study
from models.tampering.study import tamper_study
from tests.gateway.results.scans import SCANS, Written, analysed, write_scan
from tests.peers import Orthanc

AT = datetime(2026, 11, 20, 9, 8, 7)  # noqa: DTZ001 - the wall clock of a site has no zone in DICOM


@dataclass(frozen=True)
class Study:
    """A study on disk with what was found in it."""

    files: tuple[Path, ...]
    analysis: StudyAnalysis
    context: RevisionContext

    @property
    def uid(self) -> str:
        return self.analysis.study_uid

    def evidence(self, profile: str, folder: Path) -> dict[EvidenceKind, list[Path]]:
        """Make the objects of a profile that comes along."""
        made: dict[EvidenceKind, list[Path]] = {}
        folder.mkdir(parents=True, exist_ok=True)
        for each in build_evidence(self.analysis, self.context, PROFILES[profile], folder):
            made.setdefault(each.kind, []).append(each.path)
        return made

    def source(self, sop_instance_uid: str) -> Dataset:
        """One of its images."""
        headers = (dcmread(file) for file in self.files)
        return next(each for each in headers if each.SOPInstanceUID == sop_instance_uid)


def genuine_and_tampered(folder: Path) -> tuple[Study, Study]:
    """A generated head and a copy with an edit, as `make demo` makes them, analysed with the shipped network."""
    make_phantom_study(folder / "genuine", np.random.default_rng(11), lesion=True)
    tamper_study(folder / "genuine", folder / "tampered", "telea", np.random.default_rng(3), new_uids=True)
    return _analysed(folder / "genuine"), _analysed(folder / "tampered")


def _analysed(folder: Path) -> Study:
    files = tuple(sorted(folder.glob("*.dcm")))
    analysis = analyse_study(files, models=Settings().analysis.models)
    return Study(files, analysis, RevisionContext(analysis.study_uid, 1, model_set_digest(analysis.models), files, AT))


def scans(folder: Path) -> tuple[Study, dict[str, Written]]:
    """One study with a series for every geometry, each with one bright box that is reported as edited."""
    written = {scan.name: write_scan(folder, scan, series=n) for n, scan in enumerate(SCANS, start=1)}
    for each in written.values():
        for file in each.files:
            _fix_window(file)
    analysis, context = analysed(*written.values())
    return Study(context.files, analysis, context), written


def _fix_window(file: Path) -> None:
    """Give an MR image a window, so that a viewer shows what is bright in the same way on every slice."""
    dataset = dcmread(file)
    if dataset.Modality == "MR":
        holder: Dataset = dataset
        if "SharedFunctionalGroupsSequence" in dataset:
            holder = Dataset()
            dataset.SharedFunctionalGroupsSequence[0].FrameVOILUTSequence = [holder]
        holder.WindowCenter, holder.WindowWidth = 500, 1000
        dataset.save_as(file, enforce_file_format=True)


def deliver(files: Sequence[Path], archive: Orthanc) -> None:
    """C-STORE them as the gateway does; every one has to arrive."""
    destination = Destination(name="archive", ae_title=archive.ae_title, host=archive.host, port=archive.dicom_port)
    assert all(outcome.stored for outcome in send(files, destination, "SCANWARDEN"))


def corners(source: Dataset) -> NDArray[np.float64]:
    """The matrix's corners at the top left, top right and bottom left in millimetres (PS3.3 C.7.6.2.1.1)."""
    origin = np.array(source.ImagePositionPatient, float)
    across, down = np.array(source.ImageOrientationPatient, float).reshape(2, 3)
    rows, columns = (float(value) for value in source.PixelSpacing)
    places = [(-0.5, -0.5), (source.Columns - 0.5, -0.5), (-0.5, source.Rows - 0.5)]
    return np.array([origin + across * columns * column + down * rows * row for column, row in places])
