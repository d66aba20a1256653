"""From arrival to ledger and alert: a source that signs, a source that is trusted, and whoever plays them."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import yaml
from pydicom import dcmread

from config import load_settings
from gateway.alerts import AlertSender
from gateway.app import App, build, prepare
from gateway.pipeline import analysing
from gateway.pipeline.analysing import Analyst
from gateway.pipeline.trust import trust_in
from inference.instances import read_instance
from inference.provenance import prove
from inference.provenance.mac import MAC_PARAMETERS, SIGNATURES
from storage import AuditEventType, open_database
from storage.analyses import analysis_of
from storage.studies import close_revision, revision_contents
from storage.tables import CloseReason, Revision
from tests.gateway.results.phantoms import write_part10
from tests.inference.conftest import KnownCube, head
from tests.signers import DCMSIGN, Signatory, authority, signer
from tests.storage.arrivals import receive

pytestmark = pytest.mark.peers
SCANNER, ARCHIVE = ("CT1", "10.0.0.7"), ("PACS", "10.0.0.9")


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory, program: Callable[[str, str], str]) -> Signatory:
    program(DCMSIGN, "dcmtk")
    return authority(tmp_path_factory.mktemp("hospital"))


@pytest.fixture
def settings_file(tmp_path: Path, hospital: Signatory) -> Path:
    """CT1 signs everything; CT2, known by its certificate, is trusted; the PACS is neither."""
    sources = [
        {"ae_title": "CT1", "addresses": ["10.0.0.7"], "require_signature": True},
        {"ae_title": "CT2", "addresses": ["10.0.0.8"], "trusted": True, "certificate_subject": "ct2"},
        {"ae_title": "PACS", "addresses": ["10.0.0.9"]},
    ]
    file = tmp_path / "scanwarden.yaml"
    values = {
        "store": {"root": str(tmp_path / "var"), "high_watermark": 1.0},
        "dicom": {"sources": sources},
        "signatures": {"authorities": str(hospital.certificate)},
    }
    file.write_text(yaml.safe_dump(values))
    return file


@pytest.fixture
def app(settings_file: Path) -> Iterator[App]:
    settings = load_settings(settings_file)
    prepare(settings)
    with build(settings) as app:
        yield app


@pytest.fixture
def images(tmp_path: Path, hospital: Signatory) -> list[Path]:
    scanner = signer(tmp_path / "keys", hospital)
    files = []
    for number in range(6):
        rows, columns = np.meshgrid(np.arange(64), np.arange(80), indexing="ij")
        pixels = (number * 300 + rows * 3 + columns).astype(np.uint16)
        dataset = head(pixels, ImagePositionPatient=[0, 0, 3 * number], InstanceNumber=number + 1)
        files.append(scanner.signs(write_part10(dataset, tmp_path / "scanner" / f"{number}.dcm")))
    return files


def stripped(file: Path) -> Path:
    dataset = dcmread(file)
    del dataset[MAC_PARAMETERS], dataset[SIGNATURES]
    dataset.save_as(file)
    return file


def arrive(app: App, files: Sequence[Path], source: tuple[str, str]) -> int:
    """The revision that these files make, closed."""
    for file in files:
        dataset = dcmread(file, stop_before_pixels=True)
        receive(
            app.store, app.database, str(dataset.SOPInstanceUID), file.read_bytes(),
            study_uid=str(dataset.StudyInstanceUID), series_uid=str(dataset.SeriesInstanceUID),
            source_ae=source[0], source_address=source[1], received_at=datetime.now(UTC),
        )  # fmt: skip
    with app.database.transaction() as session:
        number = max(revision.id for revision in session.query(Revision))
        close_revision(session, number, CloseReason.QUIET)
    return number


@pytest.fixture
def verdict(app: App, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], str]:
    """The verdict of the real analyse step on a revision, by a detector that sees nothing."""
    monkeypatch.setattr(analysing, "detectors_for", lambda *_names, **_limits: (KnownCube(),))
    monkeypatch.setattr(analysing, "image_model_for", lambda *_names, **_limits: None)

    def analyse(revision: int) -> str:
        Analyst(app).analyse(revision)
        with app.database.reading() as session:
            return str(analysis_of(session, revision).verdict)

    return analyse


def incidents(app: App) -> list[str]:
    return [json.loads(r.details)["rule"] for r in app.ledger.list(event=AuditEventType.INCIDENT_OBSERVED.value)]


def test_signed_images_of_a_source_that_signs_are_verified(
    app: App, images: list[Path], verdict: Callable[[int], str]
) -> None:
    assert verdict(arrive(app, images, SCANNER)) == "VERIFIED"
    assert incidents(app) == []


def test_attack_source_that_always_signs_sends_without(
    app: App, images: list[Path], verdict: Callable[[int], str]
) -> None:
    """Stripped on the way, or somebody else under its name: one incident in the ledger, and an alert about it."""
    stripped(images[4])
    assert verdict(arrive(app, images, SCANNER)) == "REVIEW"
    assert incidents(app) == ["signature-missing"]
    sent: list[bytes] = []

    class Kept:
        def post(self, body: bytes, headers: dict[str, str]) -> None:
            sent.append(body)

    AlertSender(app.database, Kept(), b"s" * 32, installation="SCANWARDEN")()
    (alert,) = map(json.loads, sent)
    assert (alert["event"], alert["severity"]) == ("incident-observed", "incident")
    assert alert["subject"] == dcmread(images[4]).SOPInstanceUID


def test_the_same_images_without_signatures_from_another_source_are_quiet(
    app: App, images: list[Path], verdict: Callable[[int], str]
) -> None:
    assert verdict(arrive(app, [stripped(file) for file in images], ARCHIVE)) == "CLEAR"
    assert incidents(app) == []


def test_attack_stripped_copies_sent_after_the_signed_ones(
    app: App, images: list[Path], verdict: Callable[[int], str]
) -> None:
    """The first copy stays the one that counts; the second is a duplicate, kept apart."""
    assert verdict(arrive(app, images, SCANNER)) == "VERIFIED"
    assert verdict(arrive(app, [stripped(file) for file in images], ARCHIVE)) == "VERIFIED"
    assert len(app.ledger.list(event=AuditEventType.INSTANCE_DUPLICATE.value)) == len(images)


def test_what_a_trusted_source_sent_first_is_proven_without_signatures(
    app: App, images: list[Path], verdict: Callable[[int], str]
) -> None:
    assert verdict(arrive(app, [stripped(file) for file in images], ("CT2", "10.0.0.8"))) == "VERIFIED"


def test_attack_file_exchanged_in_the_store(app: App, images: list[Path]) -> None:
    """Between arrival and analysis, with every right on the disk: the digest first seen no longer fits."""
    revision = arrive(app, [stripped(file) for file in images], ("CT2", "10.0.0.8"))
    with app.database.reading() as session:
        instances = revision_contents(session, revision).instances
        assert len(trust_in(app.settings, app.store, instances).first_seen) == len(images)
        victim = app.store.locate(instances[0].path)
        victim.chmod(0o600)
        content = bytearray(victim.read_bytes())
        content[-10] ^= 1
        victim.write_bytes(content)
        first_seen = trust_in(app.settings, app.store, instances).first_seen
    assert len(first_seen) == len(images) - 1
    assert instances[0].sop_instance_uid not in first_seen


def test_attack_name_of_a_trusted_source_from_another_address(
    app: App, images: list[Path], verdict: Callable[[int], str]
) -> None:
    """Reception refuses it; even if a row said so, an address that the source does not have proves nothing."""
    assert verdict(arrive(app, [stripped(file) for file in images], ("CT2", "10.9.9.9"))) == "CLEAR"


def test_a_certificate_that_ends_after_the_images_arrived_raises_no_alarm_later(app: App, images: list[Path]) -> None:
    """A late instance opens a revision years on: what was in order when it came is in order still."""
    revision = arrive(app, images, SCANNER)
    with app.database.reading() as session:
        instances = revision_contents(session, revision).instances
        trust = trust_in(app.settings, app.store, instances)
        files = [read_instance(app.store.locate(instance.path)) for instance in instances]
    years_on = replace(trust, at=datetime.now(UTC) + timedelta(days=3000))
    assert prove(files, years_on)[1].is_complete
    assert not prove(files, replace(years_on, received={}))[1].is_complete


def test_incidents_are_written_with_the_verdict_and_once(
    app: App, images: list[Path], verdict: Callable[[int], str], settings_file: Path
) -> None:
    for file in images:
        stripped(file)
    revision = arrive(app, images, SCANNER)
    verdict(revision)
    verdict(revision)
    with closing(open_database(load_settings(settings_file))):
        assert incidents(app) == ["signature-missing"]
