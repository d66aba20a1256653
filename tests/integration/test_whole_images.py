"""Studies of generated images through the whole service: flagged in the verdict, the ledger and the SR.

The looks at whole images are a stand-in's, which calls smooth images generated; the networks have tests of their own.
"""

import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.uid import DigitalXRayImageStorageForPresentation, SecondaryCaptureImageStorage

from storage.audit.events import AuditEventType
from storage.overview import study_detail
from storage.tables import RevisionState
from tests.bad_images import changed, set_pixels
from tests.faults import service
from tests.faults.harness import Archive, Gateway, wait_for
from tests.faults.modality import STORESCU, SentStudy, make_study, send
from tests.peers import Orthanc, running_orthanc

pytestmark = [pytest.mark.peers, pytest.mark.timeout(240)]

ROWS, COLUMNS = np.meshgrid(np.arange(64), np.arange(64), indexing="ij")


@dataclass(frozen=True)
class Site:
    gateway: Gateway
    orthanc: Orthanc
    studies: dict[str, SentStudy]

    def result(self, name: str) -> tuple[str, str]:
        """Verdict and reasons."""
        with self.gateway.app() as app, app.database.reading() as session:
            (revision,) = study_detail(session, self.studies[name].study_uid).revisions
            (analysis,) = revision.analyses
            return str(analysis.verdict), " | ".join(analysis.reasons)

    def report(self, name: str, folder: Path) -> Path:
        """The SR that the PACS has."""
        (instance,) = self.orthanc.instances(self.studies[name].study_uid, "SR")
        file = folder / f"{name}.dcm"
        file.write_bytes(self.orthanc.file(instance))
        return file


def smooth(index: int) -> NDArray[np.uint16]:
    """What the stand-in takes for generated: an image without noise."""
    return (200 + 4 * ROWS + 3 * COLUMNS + 7 * index).astype(np.uint16)


def generated(index: int, dataset: Dataset) -> None:
    set_pixels(dataset, smooth(index))


def generated_radiograph(_: int, dataset: Dataset) -> None:
    as_radiograph(dataset)
    set_pixels(dataset, np.tile(smooth(0), (1, 2)))


def genuine_radiograph(_: int, dataset: Dataset) -> None:
    as_radiograph(dataset)
    set_pixels(dataset, np.tile(dataset.pixel_array, (1, 2)))


def as_radiograph(dataset: Dataset) -> None:
    dataset.SOPClassUID, dataset.Modality = DigitalXRayImageStorageForPresentation, "DX"
    dataset.BodyPartExamined, dataset.SeriesDescription = "CHEST", "PA"
    del dataset.ImagePositionPatient, dataset.ImageOrientationPatient, dataset.FrameOfReferenceUID


def without_an_organ(_: int, dataset: Dataset) -> None:
    set_pixels(dataset, np.where((ROWS % 8 < 4) & (COLUMNS % 5 < 3), 0, 255).astype(np.uint16))


def screenshot(index: int, dataset: Dataset) -> None:
    without_an_organ(index, dataset)
    dataset.SOPClassUID, dataset.Modality, dataset.ConversionType = SecondaryCaptureImageStorage, "OT", "WSD"
    del dataset.ImagePositionPatient, dataset.ImageOrientationPatient, dataset.PixelSpacing


@pytest.fixture(scope="module")
def site(program: Callable[[str, str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Six studies sent by DCMTK; waits until the PACS has a report on each."""
    program(STORESCU, "dcmtk")
    program("/usr/sbin/Orthanc", "orthanc")
    folder = tmp_path_factory.mktemp("site")
    studies = {
        "genuine": make_study(folder, edited=False, slices=8, seed=1),
        "generated": changed(make_study(folder, edited=False, slices=8, seed=2), generated),
        "radiograph": changed(make_study(folder, edited=False, slices=1, seed=3), genuine_radiograph),
        "generated radiograph": changed(make_study(folder, edited=False, slices=1, seed=4), generated_radiograph),
        "no organ": changed(make_study(folder, edited=False, slices=4, seed=5), without_an_organ),
        "screenshot": changed(make_study(folder, edited=False, slices=1, seed=6), screenshot),
    }
    with running_orthanc() as orthanc:
        gateway = Gateway(folder, [Archive(port=orthanc.dicom_port, ae_title="ORTHANC")])
        gateway.start(environment={service.IMAGES: "smooth"})
        try:
            for study in studies.values():
                assert len(send(study.files, gateway.port)) == len(study.files)
            for study in studies.values():
                wait_for(partial(done, gateway, study.study_uid), 120, f"{study.study_uid} is done")
            yield Site(gateway, orthanc, studies)
        finally:
            gateway.stop()


def done(gateway: Gateway, study_uid: str) -> bool:
    with gateway.app() as app, app.database.reading() as session:
        return study_detail(session, study_uid).revisions[0].revision.state is RevisionState.DONE


def dumped(file: Path, program: Callable[[str, str], str]) -> str:
    """What DCMTK reads in a report, with its codes."""
    command = [program("/usr/bin/dsrdump", "dcmtk"), "+Pl", "+Pc", str(file)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("name", ["generated", "generated radiograph"])
def test_a_study_of_generated_images_comes_back_flagged(
    name: str, site: Site, program: Callable[[str, str], str], tmp_path: Path
) -> None:
    verdict, reasons = site.result(name)
    assert verdict == "SUSPECT"
    assert "the whole images look generated, not made by a scanner" in reasons
    report = dumped(site.report(name, tmp_path), program)
    assert "(SW-401,99SCANWARDEN" in report
    assert "(SW-204,99SCANWARDEN" in report
    assert "(SW-308,99SCANWARDEN" in report


@pytest.mark.parametrize(("name", "verdict"), [("genuine", "CLEAR"), ("radiograph", "ABSTAIN")])
def test_a_genuine_study_is_not_flagged_and_its_report_says_what_was_looked_at(
    name: str, verdict: str, site: Site, program: Callable[[str, str], str], tmp_path: Path
) -> None:
    found, reasons = site.result(name)
    assert found == verdict
    assert "no sign that whole images were generated" in reasons
    report = dumped(site.report(name, tmp_path), program)
    assert "(SW-403,99SCANWARDEN" in report
    assert "SW-401" not in report


def test_what_no_model_for_edits_covers_is_said_in_words(site: Site) -> None:
    for name in ("radiograph", "generated radiograph"):
        assert "shows a chest X-ray; no model for added or removed lesions covers it" in site.result(name)[1]


@pytest.mark.parametrize("name", ["no organ", "screenshot"])
def test_images_of_no_organ_are_abstained_from(
    name: str, site: Site, program: Callable[[str, str], str], tmp_path: Path
) -> None:
    verdict, reasons = site.result(name)
    assert verdict == "ABSTAIN"
    assert "no organ that I know" in reasons
    assert "(SW-404,99SCANWARDEN" in dumped(site.report(name, tmp_path), program)


def test_the_ledger_names_the_series_that_look_generated(site: Site) -> None:
    with site.gateway.app() as app:
        records = app.ledger.list(event=AuditEventType.ANALYSIS_FINISHED.value, limit=None)
        found = {record.study_uid: json.loads(record.details) for record in records}
    for name, study in site.studies.items():
        series = found[study.study_uid].get("generated_series", [])
        assert bool(series) == name.startswith("generated")
    (header,) = {str(dcmread(file).SeriesInstanceUID) for file in site.studies["generated"].files}
    assert found[site.studies["generated"].study_uid]["generated_series"] == [header]


def test_the_report_names_the_whole_image_model_to_the_bit(
    site: Site, program: Callable[[str, str], str], tmp_path: Path
) -> None:
    assert f"known-images 1: sha256 {'1' * 64}" in dumped(site.report("genuine", tmp_path), program)
