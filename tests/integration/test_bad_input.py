"""Bad input through the whole service: a status or an ABSTAIN with its reason, and the next association works."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import EncapsulatedPDFStorage, ExplicitVRLittleEndian, generate_uid

from storage.overview import StudyDetail, study_detail
from storage.tables import RevisionState
from tests.bad_images import STRANGE, UNUSUAL
from tests.faults.harness import Archive, Gateway, wait_for
from tests.faults.modality import STORESCU, make_study, send

pytestmark = [pytest.mark.peers, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def gateway(program: Callable[[str, str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    program(STORESCU, "dcmtk")
    archive = Archive()
    with archive.running():
        made = Gateway(tmp_path_factory.mktemp("gateway"), [archive])
        made.start()
        yield made
        made.stop()


def outcome(gateway: Gateway, study_uid: str) -> tuple[str, str]:
    """Verdict and reasons of a study, once its revisions are done: on a loaded machine it may arrive in several."""

    def detail() -> StudyDetail:
        with gateway.app() as app, app.database.reading() as session:
            return study_detail(session, study_uid)

    def is_done() -> bool:
        return all(each.revision.state is RevisionState.DONE for each in detail().revisions)

    wait_for(is_done, 100, f"{study_uid} is done")
    revision = max(detail().revisions, key=lambda each: each.revision.number)
    assert [evidence.kind for evidence in revision.evidence][-1] == "SR"
    (analysis,) = revision.analyses
    return str(analysis.verdict), " | ".join(analysis.reasons)


def events(gateway: Gateway) -> list[str]:
    with gateway.app() as app:
        return [record.event for record in app.ledger.list(limit=None)]


def rewritten(file: Path, change: Callable[[Dataset], None]) -> Path:
    dataset = dcmread(file)
    change(dataset)
    dcmwrite(file, dataset, enforce_file_format=False)
    return file


def test_a_study_with_only_a_pdf_abstains_and_says_so(gateway: Gateway, tmp_path: Path) -> None:
    document = Dataset()
    document.SOPClassUID, document.SOPInstanceUID = EncapsulatedPDFStorage, generate_uid()
    document.StudyInstanceUID, document.SeriesInstanceUID = generate_uid(), generate_uid()
    document.Modality, document.MIMETypeOfEncapsulatedDocument = "DOC", "application/pdf"
    document.PatientName, document.PatientID = "Phantom^Fault", "PHANTOM-1"
    document.EncapsulatedDocument = b"%PDF-1.4\n%%EOF\n"
    document.file_meta = FileMetaDataset()
    document.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    document.file_meta.MediaStorageSOPClassUID = document.SOPClassUID
    document.file_meta.MediaStorageSOPInstanceUID = document.SOPInstanceUID
    dcmwrite(tmp_path / "document.dcm", document, enforce_file_format=True)
    command = [STORESCU, "-R", "-aec", "SCANWARDEN", "127.0.0.1", str(gateway.port), str(tmp_path / "document.dcm")]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    verdict, reasons = outcome(gateway, str(document.StudyInstanceUID))
    assert verdict == "ABSTAIN"
    assert "without an image" in reasons


def test_two_slices_at_one_place_are_never_called_clear(gateway: Gateway, tmp_path: Path) -> None:
    study = make_study(tmp_path, edited=False, slices=6, seed=3)
    positions = [dcmread(file, stop_before_pixels=True).ImagePositionPatient for file in study.files]
    rewritten(study.files[1], lambda dataset: setattr(dataset, "ImagePositionPatient", positions[0]))
    assert len(send(study.files, gateway.port)) == 6
    verdict, reasons = outcome(gateway, study.study_uid)
    assert verdict in {"ABSTAIN", "REVIEW"}
    assert "lies where another one lies" in reasons


def test_a_body_part_that_no_model_covers_abstains(gateway: Gateway, tmp_path: Path) -> None:
    study = make_study(tmp_path, edited=False, slices=4, seed=4)
    for file in study.files:
        rewritten(file, lambda dataset: setattr(dataset, "BodyPartExamined", "KNEE"))
    send(study.files, gateway.port)
    verdict, reasons = outcome(gateway, study.study_uid)
    assert verdict == "ABSTAIN"
    assert "KNEE" in reasons


def test_refused_instances_cost_only_themselves(gateway: Gateway, tmp_path: Path) -> None:
    """Pixel data shorter than Rows × Columns or empty, and Rows of 65,535 without the bytes, among good slices."""
    study = make_study(tmp_path, edited=False, slices=7, seed=5)
    rewritten(study.files[6], lambda dataset: setattr(dataset, "PixelData", b""))
    rewritten(study.files[0], lambda dataset: setattr(dataset, "PixelData", bytes(100)))
    rewritten(study.files[5], lambda dataset: setattr(dataset, "Rows", 65535))
    stored = []
    for file in study.files:  # one association each: DCMTK stops at the first failure
        stored += send([file], gateway.port)
    assert [file.name for file in stored] == [file.name for file in study.files[1:5]]
    assert events(gateway).count("instance-refused") == 3
    verdict, _ = outcome(gateway, study.study_uid)
    assert verdict != "SUSPECT"


def test_same_uid_with_other_pixels_is_an_incident_and_both_copies_are_kept(gateway: Gateway, tmp_path: Path) -> None:
    study = make_study(tmp_path, edited=False, slices=4, seed=6)
    assert len(send(study.files, gateway.port)) == 4

    def brighten(dataset: Dataset) -> None:
        dataset.PixelData = (dataset.pixel_array + np.uint16(1)).tobytes()

    rewritten(study.files[2], brighten)
    assert len(send([study.files[2]], gateway.port)) == 1
    verdict, reasons = outcome(gateway, study.study_uid)
    assert verdict in {"REVIEW", "SUSPECT"}, reasons
    assert "instance-quarantined" in events(gateway)
    with gateway.app() as app, app.database.reading() as session:
        assert {state.value: n for state, n in study_detail(session, study.study_uid).instances.items()} == {
            "stored": 4,
            "quarantined": 1,
        }


# A 4096 × 4096 image goes the same way, and takes its time: tests/gateway/cli/test_bad_input.py has it.
SENT = [kind for kind in STRANGE if not kind.startswith("4096")]


@pytest.fixture(scope="module")
def sent(gateway: Gateway, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, str]]:
    """Verdict and reasons of one study of each kind, sent one after the other and analysed beside each other."""
    folder = tmp_path_factory.mktemp("kinds")
    studies = {kind: STRANGE[kind][0](folder) for kind in SENT} | {kind: make(folder) for kind, make in UNUSUAL.items()}
    for kind, study in studies.items():
        assert len(send(study.files, gateway.port)) == len(study.files), kind
    return {kind: outcome(gateway, study.study_uid) for kind, study in studies.items()}


@pytest.mark.parametrize("kind", SENT)
def test_what_no_model_was_made_for_is_kept_and_abstained_from(kind: str, sent: dict[str, tuple[str, str]]) -> None:
    verdict, reasons = sent[kind]
    assert verdict == "ABSTAIN"
    assert STRANGE[kind][1] in reasons


@pytest.mark.parametrize("kind", UNUSUAL)
def test_an_edit_in_unusual_images_is_found(kind: str, sent: dict[str, tuple[str, str]]) -> None:
    verdict, reasons = sent[kind]
    assert verdict == "SUSPECT"
    assert "looks added" in reasons
