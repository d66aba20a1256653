"""A revision's way through analysis, evidence and delivery, in this process: once, also when steps are repeated."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from sqlalchemy import select

from config import Settings
from gateway.app import App
from gateway.pipeline.analysing import Analyst
from gateway.pipeline.queues import Waiting, WorkQueues
from gateway.pipeline.retry import retry_failed
from gateway.pipeline.revisions import RevisionSweep
from storage import InstanceKind
from storage.tables import Delivery, DeliveryState, Evidence, Instance, LedgerRow, Revision, RevisionState
from tests.faults.harness import Archive, wait_for
from tests.faults.modality import add_slices, make_study
from tests.gateway.pipeline.conftest import arrive, working


@pytest.fixture
def archive() -> Archive:
    return Archive()


@pytest.fixture
def settings(configure: Callable[..., Settings], archive: Archive) -> Settings:
    destination: dict[str, Any] = {"name": "archive", "ae_title": "ARCHIVE", "host": "127.0.0.1", "port": archive.port}
    quick = {"backoff": 0.05, "backoff_limit": 0.1, "attempts": 3, "timeout": 5}
    return configure(revisions={"quiet_period": 0, "hard_limit": 60}, destinations=[{**destination, **quick}])


def sweep(app: App, work: WorkQueues) -> None:
    """Close and ask for what is due."""
    RevisionSweep(app.database, work, app.settings.revisions, started_at=datetime.now(UTC) - timedelta(days=1))()


def states(app: App) -> list[RevisionState]:
    with app.database.reading() as session:
        return [each.state for each in session.scalars(select(Revision).order_by(Revision.id))]


def events(app: App) -> list[str]:
    with app.database.reading() as session:
        return list(session.scalars(select(LedgerRow.event).order_by(LedgerRow.seq)))


def waiting(app: App) -> int:
    """Deliveries that wait for their time."""
    with app.database.reading() as session:
        return len(session.scalars(select(Delivery).where(Delivery.next_at.is_not(None))).all())


def carry(app: App, analyst: Analyst, *, until: list[RevisionState]) -> None:
    with working(app, analyst) as work:
        sweep(app, work)
        wait_for(lambda: states(app) == until, 60, f"revisions become {until}")


def test_a_study_ends_as_regions_and_a_report_in_the_archive(
    app: App, analyst: Analyst, archive: Archive, tmp_path: Path
) -> None:
    edited, plain = make_study(tmp_path, edited=True), make_study(tmp_path, edited=False, seed=1)
    arrive(app, [*edited.files, *plain.files])
    with archive.running():
        carry(app, analyst, until=[RevisionState.DONE, RevisionState.DONE])
    found = {
        study: (len(archive.of(study, "SEG")), len(archive.of(study, "SR")))
        for study in (edited.study_uid, plain.study_uid)
    }
    assert found == {edited.study_uid: (1, 1), plain.study_uid: (0, 1)}
    of_edited = [archive.modalities[uid] for uid in archive.order if archive.studies[uid] == edited.study_uid]
    assert of_edited == ["SEG", "SR"]  # what a report refers to is there before the report
    assert app.ledger.verify().intact
    trail = events(app)
    for event, count in {
        "revision-closed": 2,
        "analysis-finished": 2,
        "evidence-created": 3,
        "evidence-delivered": 3,
        "revision-done": 2,
    }.items():
        assert trail.count(event) == count
    with app.database.reading() as session:
        assert all(each.pixel_sha256 for each in session.scalars(select(Instance)))


def test_the_next_revision_names_the_report_before_it(
    app: App, analyst: Analyst, archive: Archive, tmp_path: Path
) -> None:
    study = make_study(tmp_path, edited=False)
    arrive(app, study.files)
    with archive.running():
        carry(app, analyst, until=[RevisionState.DONE])
        arrive(app, add_slices(study, 2).files)
        carry(app, analyst, until=[RevisionState.DONE, RevisionState.DONE])
    with app.database.reading() as session:
        first, second = session.scalars(select(Evidence).order_by(Evidence.id))
    report = dcmread(app.store.locate(second.path))
    predecessors = report.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert predecessors[0].ReferencedSOPInstanceUID == first.sop_instance_uid
    assert len(archive.of(study.study_uid, "SR")) == 2


def test_our_own_evidence_that_comes_back_is_kept_and_never_analysed(
    app: App, analyst: Analyst, archive: Archive, tmp_path: Path
) -> None:
    arrive(app, make_study(tmp_path, edited=True).files)
    with archive.running():
        carry(app, analyst, until=[RevisionState.DONE])
        with app.database.reading() as session:
            made = [app.store.locate(each.path) for each in session.scalars(select(Evidence))]
        arrive(app, made)
        carry(app, analyst, until=[RevisionState.DONE])
    with app.database.reading() as session:
        kinds = session.scalars(select(Instance.kind).where(Instance.revision_id.is_(None))).all()
    assert kinds == [InstanceKind.EVIDENCE] * 2


def test_a_step_that_is_repeated_changes_nothing(app: App, analyst: Analyst, archive: Archive, tmp_path: Path) -> None:
    from gateway.pipeline.delivery import Courier
    from gateway.pipeline.encoding import Encoder

    arrive(app, make_study(tmp_path, edited=True).files)
    with WorkQueues(app.settings) as work:
        sweep(app, work)
    with app.database.reading() as session:
        revision = session.scalars(select(Revision.id)).one()
    steps: list[Callable[[], object]] = [
        lambda: analyst.analyse(revision),
        lambda: Encoder(app, analyst.decoding).encode(revision),
        lambda: Courier(app).plan(revision),
        lambda: Courier(app).attempt(revision, "archive"),
    ]
    with archive.running():
        for step in steps:
            step()
            before = events(app), sorted(app.store.root.rglob("*"))
            step()
            assert (events(app), sorted(app.store.root.rglob("*"))) == before
    assert sorted(archive.modalities.values()) == ["SEG", "SR"]


def test_an_archive_that_refuses_becomes_a_dead_letter_and_a_retry_delivers(
    app: App, analyst: Analyst, archive: Archive, tmp_path: Path
) -> None:
    archive.answer = lambda _uid: 0x0110
    arrive(app, make_study(tmp_path, edited=True).files)
    with archive.running():
        carry(app, analyst, until=[RevisionState.FAILED])
        with app.database.reading() as session:
            deliveries = session.scalars(select(Delivery)).all()
        assert {(each.state, each.refusals, each.failure) for each in deliveries} == {
            (DeliveryState.DEAD, 3, "status 0x0110")
        }
        assert events(app).count("delivery-dead") == 2
        archive.answer = lambda _uid: 0x0000
        assert retry_failed(app.settings, actor="user:test") == (0, 1)
        carry(app, analyst, until=[RevisionState.DONE])
    assert sorted(archive.modalities.values()) == ["SEG", "SR"]


def test_an_archive_that_comes_back_gets_only_what_it_misses(
    app: App, analyst: Analyst, archive: Archive, tmp_path: Path
) -> None:
    refused = iter([0x0000, 0xA700])  # the regions arrive, the report does not
    archive.answer = lambda _uid: next(refused, 0x0000)
    arrive(app, make_study(tmp_path, edited=True).files)
    with archive.running():
        carry(app, analyst, until=[RevisionState.DONE])
    assert [archive.modalities[uid] for uid in archive.order] == ["SEG", "SR"]
    with app.database.reading() as session:
        assert sorted(session.scalars(select(Delivery.attempts))) == [1, 2]


def test_a_dead_archive_holds_no_place_that_another_needs(
    configure: Callable[..., Settings],
    monkeypatch: pytest.MonkeyPatch,
    archive: Archive,
    tmp_path: Path,
    url: str | None,
) -> None:
    if url is not None:
        pytest.skip("the queue's own behaviour, tried on SQLite")
    dead: list[dict[str, Any]] = [
        {"name": f"dead-{n}", "ae_title": "DEAD", "host": "127.0.0.1", "port": 1, "backoff": 3600, "timeout": 2}
        for n in range(3)
    ]
    living = {"name": "living", "ae_title": "ARCHIVE", "host": "127.0.0.1", "port": archive.port}
    settings = configure(
        revisions={"quiet_period": 0, "hard_limit": 60},
        queues={"deliveries": 1},
        destinations=[*dead, living],
    )
    from gateway.app import build, prepare
    from gateway.pipeline import analysing
    from tests.faults.service import bright_pixels

    monkeypatch.setattr(analysing, "detectors_for", lambda *_, **__: (bright_pixels(),))
    monkeypatch.setattr(analysing, "image_model_for", lambda *_, **__: None)
    prepare(settings)
    with build(settings) as app, archive.running(), working(app, Analyst(app)) as work:
        arrive(app, make_study(tmp_path, edited=False).files)
        sweep(app, work)
        wait_for(lambda: list(archive.modalities.values()) == ["SR"], 60, "the living archive gets its report")
        wait_for(lambda: waiting(app) == 3, 60, "the dead ones wait outside the queue")
        wait_for(lambda: work.count("deliveries") == Waiting(0, 0, 0), 60, "no workflow waits for them")


def test_without_a_destination_the_evidence_is_made_and_kept(
    configure: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from gateway.app import build, prepare
    from gateway.pipeline import analysing
    from tests.faults.service import bright_pixels

    monkeypatch.setattr(analysing, "detectors_for", lambda *_, **__: (bright_pixels(),))
    monkeypatch.setattr(analysing, "image_model_for", lambda *_, **__: None)
    settings = configure(revisions={"quiet_period": 0, "hard_limit": 60})
    prepare(settings)
    with build(settings) as app:
        arrive(app, make_study(tmp_path, edited=True).files)
        carry(app, Analyst(app), until=[RevisionState.DONE])
        with app.database.reading() as session:
            made = session.scalars(select(Evidence)).all()
    assert sorted(each.kind for each in made) == ["SEG", "SR"]
    assert all(app.store.locate(each.path).is_file() for each in made)
