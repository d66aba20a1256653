"""A study is never complete: its revisions close for a reason, and late instances open the next."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select

from storage import Database, InstanceKind, InstanceState, InstanceStore, Ledger, NotFound, Priority
from storage.analyses import (
    NewAnalysis,
    NewEvidence,
    analysis_of,
    begin_analysis,
    decide_contested,
    evidence_of,
    predecessor_report,
    record_pixel_digests,
    save_analysis,
    save_evidence,
    stored_copy,
)
from storage.deliveries import consignments, plan_deliveries, record_attempt, record_delivered, record_failure
from storage.overview import overview, recent_studies, study_detail
from storage.studies import (
    close_revision,
    fail_revision,
    failed_revisions,
    finish_revision,
    retry_revision,
    revision_contents,
    revision_of,
    revisions_due,
    revisions_waiting,
    unfinished_revisions,
)
from storage.tables import AnalysisState, CloseReason, DeliveryState, Instance, Revision, RevisionState
from tests.storage.arrivals import MR, SR, at, receive

MODELS = "m" * 64
ACTOR = "scanwarden:test"


def due(database: Database, seconds: float, started: float = -10_000, **other: Any) -> list[tuple[str, str]]:
    periods = {"quiet_period": 60, "hard_limit": 600} | other
    with database.reading() as session:
        found = revisions_due(session, at(seconds), started_at=at(started), **periods)
    return [(each.study_uid, each.reason.value) for each in found]


@pytest.fixture
def closed(store: InstanceStore, database: Database) -> Callable[..., int]:
    """Receives an instance and closes the revision that it is in; gives the revision's number in the database."""

    def make(uid: str = "1.2.3", **other: Any) -> int:
        receive(store, database, uid, **other)
        with database.transaction() as session:
            revision_id = session.scalars(select(Revision.id).where(Revision.state == RevisionState.OPEN)).one()
            close_revision(session, revision_id, CloseReason.QUIET, now=at(60))
        return revision_id

    return make


@pytest.fixture
def encoded(database: Database, closed: Callable[..., int]) -> Callable[..., int]:
    """A closed revision with an analysis, a SEG and an SR."""

    def make(uid: str = "1.2.3", **other: Any) -> int:
        revision_id = closed(uid, **other)
        with database.transaction() as session:
            begin_analysis(session, revision_id, MODELS)
            result = NewAnalysis("SUSPECT", 0.9, ["edited"], 1, f"analyses/{revision_id}-a", 2.5)
            analysis = save_analysis(session, revision_id, MODELS, result)
            save_evidence(session, analysis.id, [evidence(revision_id, kind) for kind in ("SR", "SEG")])
        return revision_id

    return make


def evidence(revision_id: int, kind: str, profile: str = "orthanc") -> NewEvidence:
    uid = f"2.25.{revision_id}.{len(kind)}"
    return NewEvidence(profile, kind, uid, SR, f"{uid}.1", f"evidence/{revision_id}-a/{kind}.dcm", 10, "e" * 64)


# When a revision is due.


def test_a_revision_is_due_after_the_quiet_period(store: InstanceStore, database: Database) -> None:
    receive(store, database, "1.2.3", received_at=at(0))
    receive(store, database, "1.2.4", received_at=at(50))
    assert due(database, 109) == []
    assert due(database, 110) == [("1.9", "quiet")]


def test_a_revision_is_due_as_soon_as_all_expected_instances_are_here(store: InstanceStore, database: Database) -> None:
    receive(store, database, "1.2.3", expected_instances=2)
    assert due(database, 1) == []
    receive(store, database, "1.2.4", expected_instances=2)
    assert due(database, 1) == [("1.9", "expected")]


def test_a_sender_that_never_pauses_meets_the_hard_limit(store: InstanceStore, database: Database) -> None:
    for number in range(13):
        receive(store, database, f"1.2.{number}", received_at=at(50 * number))
    assert due(database, 599) == []
    assert due(database, 601) == [("1.9", "limit")]


def test_a_restart_does_not_close_a_half_sent_study_at_once(store: InstanceStore, database: Database) -> None:
    receive(store, database, "1.2.3")
    assert due(database, 5001, started=5000) == []
    assert due(database, 5059, started=5000) == []
    assert due(database, 5060, started=5000) == [("1.9", "quiet")]


def test_stat_is_closed_first(store: InstanceStore, database: Database) -> None:
    receive(store, database, "1.2.3", study_uid="1.1")
    receive(store, database, "1.2.4", study_uid="1.2", priority=Priority.STAT, received_at=at(10))
    assert [study for study, _ in due(database, 100)] == ["1.2", "1.1"]


# What a revision consists of.


def test_a_closed_revision_has_the_instances_that_arrived_for_it(
    store: InstanceStore, database: Database, closed: Callable[..., int]
) -> None:
    first = closed("1.2.3")
    receive(store, database, "1.2.99", kind=InstanceKind.EVIDENCE)
    receive(store, database, "1.2.3", b"other")
    second = closed("1.2.4")
    receive(store, database, "1.2.5")
    with database.reading() as session:
        one, two = revision_contents(session, first), revision_contents(session, second)
    assert [i.sop_instance_uid for i in one.instances] == ["1.2.3"]
    assert [i.sop_instance_uid for i in two.instances] == ["1.2.3", "1.2.4"]
    assert [i.sop_instance_uid for i in two.new] == ["1.2.4"]
    assert [i.sop_instance_uid for i in two.contested] == ["1.2.3"]
    assert one.contested == []
    assert two.revision.predecessor_id == one.revision.id


def test_closing_twice_closes_once(database: Database, closed: Callable[..., int]) -> None:
    revision_id = closed()
    with database.transaction() as session:
        assert close_revision(session, revision_id, CloseReason.LIMIT) is None
    events = Ledger(database).list(event="revision-closed")
    assert [e.to_json()["details"] for e in events] == [{"reason": "quiet", "revision": 1, "stored": 1}]


def test_a_revision_that_does_not_exist_is_named(database: Database) -> None:
    with database.reading() as session, pytest.raises(NotFound, match="77"):
        revision_of(session, 77)


def test_work_is_listed_stat_first_until_it_is_done(database: Database, closed: Callable[..., int]) -> None:
    routine = closed("1.2.3", study_uid="1.1")
    stat = closed("1.2.4", study_uid="1.2", priority=Priority.STAT)
    with database.reading() as session:
        assert [r.id for r in unfinished_revisions(session)] == [stat, routine]
        assert revisions_waiting(session) == 2
    with database.transaction() as session:
        finish_revision(session, stat, actor=ACTOR)
        fail_revision(session, routine, "no pixels", actor=ACTOR)
    with database.reading() as session:
        assert list(unfinished_revisions(session)) == []
        assert revisions_waiting(session) == 0
        assert [r.failure for r in failed_revisions(session, "1.1")] == ["no pixels"]


# Analyses.


def test_attempts_are_counted_before_the_work(database: Database, closed: Callable[..., int]) -> None:
    revision_id = closed()
    for attempt in (1, 2):
        with database.transaction() as session:
            assert begin_analysis(session, revision_id, MODELS) == attempt
    with database.reading() as session:
        assert revision_of(session, revision_id).attempts == 2


def test_the_first_result_of_an_analysis_stays(database: Database, closed: Callable[..., int]) -> None:
    revision_id = closed()
    paths = []
    for name in ("first", "second"):
        with database.transaction() as session:
            begin_analysis(session, revision_id, MODELS)
            result = NewAnalysis("SUSPECT", 0.9, ["edited"], 2, f"analyses/{name}", 1.0)
            paths.append(save_analysis(session, revision_id, MODELS, result, now=at(70)).path)
    assert paths == ["analyses/first"] * 2
    with database.reading() as session:
        analysis = analysis_of(session, revision_id, MODELS)
        assert revision_of(session, revision_id).state is RevisionState.ANALYSED
    assert (analysis.state, analysis.verdict, analysis.finished_at) == (AnalysisState.DONE, "SUSPECT", at(70))
    assert len(Ledger(database).list(event="analysis-finished")) == 1


def test_an_analysis_that_was_not_begun_cannot_be_saved(database: Database, closed: Callable[..., int]) -> None:
    revision_id = closed()
    with database.transaction() as session, pytest.raises(NotFound):
        save_analysis(session, revision_id, MODELS, NewAnalysis("CLEAR", 0.1, [], 0, None, 1.0))
    with database.reading() as session, pytest.raises(NotFound):
        analysis_of(session, revision_id)


def test_a_pixel_digest_once_taken_stays(database: Database, closed: Callable[..., int]) -> None:
    closed()
    with database.reading() as session:
        (instance,) = session.scalars(select(Instance))
    for digest in ("a" * 64, "b" * 64):
        with database.transaction() as session:
            record_pixel_digests(session, {instance.id: digest})
    with database.transaction() as session:
        record_pixel_digests(session, {})
        assert stored_copy(session, "1.2.3").pixel_sha256 == "a" * 64


@pytest.mark.parametrize(
    ("same", "state", "event", "outcome"),
    [
        (True, InstanceState.DUPLICATE, "instance-duplicate", 0),
        (False, InstanceState.QUARANTINED, "instance-quarantined", 8),
    ],
)
def test_a_contested_copy_is_decided_once_and_both_files_stay(
    store: InstanceStore,
    database: Database,
    closed: Callable[..., int],
    same: bool,
    state: InstanceState,
    event: str,
    outcome: int,
) -> None:
    receive(store, database, "1.2.3")
    revision_id = closed("1.2.3", content=b"other")
    with database.reading() as session:
        (copy,) = revision_contents(session, revision_id).contested
    for decision in (same, not same):
        with database.transaction() as session:
            details = {"region": [0, 0, 5, 5]}
            assert decide_contested(session, copy.id, same=decision, details=details) is state
    with database.reading() as session:
        assert revision_contents(session, revision_id).contested == []
        assert stored_copy(session, "1.2.3").state is InstanceState.STORED
    (record,) = Ledger(database).list(event=event)
    details_found = record.to_json()["details"]
    assert (record.subject, record.outcome, details_found["region"]) == ("1.2.3", outcome, [0, 0, 5, 5])
    assert details_found["file_sha256"] == copy.file_sha256 != details_found["first_file_sha256"]
    assert store.locate(copy.path).read_bytes() == b"other"


def test_evidence_of_a_repeat_is_the_earlier_one(database: Database, closed: Callable[..., int]) -> None:
    revision_id = closed()
    with database.transaction() as session:
        begin_analysis(session, revision_id, MODELS)
        save_analysis(session, revision_id, MODELS, NewAnalysis("CLEAR", 0.1, [], 0, None, 1.0))
    kept = []
    for _ in range(2):
        with database.transaction() as session:
            analysis = analysis_of(session, revision_id)
            kept.append([e.id for e in save_evidence(session, analysis.id, [evidence(revision_id, "SR")])])
    assert kept[0] == kept[1]
    with database.reading() as session:
        assert len(evidence_of(session, revision_id)) == 1
        assert revision_of(session, revision_id).state is RevisionState.ENCODED


def test_a_report_finds_its_predecessor_in_the_same_dialect(database: Database, encoded: Callable[..., int]) -> None:
    first, second = encoded("1.2.3"), encoded("1.2.4")
    with database.reading() as session:
        assert predecessor_report(session, first, "orthanc") is None
        assert predecessor_report(session, second, "other") is None
        found = predecessor_report(session, second, "orthanc")
    assert found is not None
    assert (found[0].kind, found[1].number) == ("SR", 1)


# Deliveries.


def test_deliveries_are_planned_once_for_each_destination_of_that_dialect(
    database: Database, encoded: Callable[..., int]
) -> None:
    revision_id = encoded()
    destinations = {"pacs": "orthanc", "archive": "orthanc", "other": "dcm4chee"}
    for _ in range(2):
        with database.transaction() as session:
            planned = plan_deliveries(session, revision_id, destinations)
    sent = [(each.delivery.destination, each.evidence.kind) for each in planned]
    assert sent == [("archive", "SEG"), ("archive", "SR"), ("pacs", "SEG"), ("pacs", "SR")]
    with database.reading() as session:
        assert len(consignments(session, revision_id, "pacs", waiting=True)) == 2


def test_a_revision_is_done_with_its_last_delivery(database: Database, encoded: Callable[..., int]) -> None:
    revision_id = encoded()
    with database.transaction() as session:
        planned = plan_deliveries(session, revision_id, {"pacs": "orthanc"})
    for each in planned:
        with database.transaction() as session:
            assert revision_of(session, revision_id).state is RevisionState.ENCODED
            assert record_attempt(session, each.delivery.id) == 1
        for _ in range(2):
            with database.transaction() as session:
                record_delivered(session, each.delivery.id, now=at(90))
    with database.reading() as session:
        revision = revision_of(session, revision_id)
    assert (revision.state, revision.finished_at) == (RevisionState.DONE, at(90))
    assert len(Ledger(database).list(event="evidence-delivered")) == 2
    assert len(Ledger(database).list(event="revision-done")) == 1


def test_without_a_destination_a_revision_is_done_when_it_is_encoded(
    database: Database, encoded: Callable[..., int]
) -> None:
    revision_id = encoded()
    with database.transaction() as session:
        assert plan_deliveries(session, revision_id, {}) == []
        assert finish_revision(session, revision_id, actor=ACTOR).state is RevisionState.DONE


def test_a_delivery_that_was_given_up_fails_its_revision_until_it_is_retried(
    database: Database, encoded: Callable[..., int]
) -> None:
    revision_id = encoded()
    with database.transaction() as session:
        segmentation, report = plan_deliveries(session, revision_id, {"pacs": "orthanc"})
        record_attempt(session, segmentation.delivery.id)
        failed = record_failure(session, segmentation.delivery.id, "connection refused")
        assert (failed.state, failed.failure) == (DeliveryState.WAITING, "connection refused")
    with database.transaction() as session:
        record_delivered(session, report.delivery.id)
        record_failure(session, segmentation.delivery.id, "connection refused", dead=True)
        assert revision_of(session, revision_id).state is RevisionState.FAILED
    with database.transaction() as session:
        revision = retry_revision(session, revision_id, actor="user:op")
        assert (revision.state, revision.runs, revision.failure) == (RevisionState.ENCODED, 1, None)
        (waiting,) = consignments(session, revision_id, waiting=True)
        assert (waiting.evidence.kind, waiting.delivery.attempts) == ("SEG", 0)
        record_delivered(session, waiting.delivery.id)
        assert revision_of(session, revision_id).state is RevisionState.DONE
    events = [r.event for r in Ledger(database).list(study_uid="1.9")][-7:]
    assert events == [
        "delivery-failed",
        "evidence-delivered",
        "delivery-dead",
        "revision-failed",
        "revision-retried",
        "evidence-delivered",
        "revision-done",
    ]


def test_a_retry_of_a_failed_analysis_starts_it_anew(database: Database, closed: Callable[..., int]) -> None:
    revision_id = closed()
    with database.transaction() as session:
        begin_analysis(session, revision_id, MODELS)
        fail_revision(session, revision_id, "killed three times", actor=ACTOR)
    with database.transaction() as session:
        revision = retry_revision(session, revision_id, actor="user:op")
        assert (revision.state, revision.attempts, revision.runs) == (RevisionState.CLOSED, 0, 1)
        assert retry_revision(session, revision_id, actor="user:op").runs == 1, "it is not failed any more"


# What an operator sees.


def test_the_overview_counts_everything(
    store: InstanceStore, database: Database, encoded: Callable[..., int], closed: Callable[..., int]
) -> None:
    revision_id = encoded("1.2.3")
    closed("1.2.4", study_uid="1.8")
    receive(store, database, "1.2.5", study_uid="1.7", sop_class_uid=MR)
    with database.transaction() as session:
        plan_deliveries(session, revision_id, {"pacs": "orthanc"})
    with database.reading() as session:
        found = overview(session)
        newest = recent_studies(session)
    assert (found.studies, found.instances, found.bytes) == (3, {InstanceState.STORED: 3}, 18)
    assert found.revisions == {RevisionState.OPEN: 1, RevisionState.CLOSED: 1, RevisionState.ENCODED: 1}
    assert found.oldest_waiting == at(60)
    assert found.deliveries == {DeliveryState.WAITING: 2}
    assert found.verdicts == {"SUSPECT": 1}
    assert found.ledger_records == Ledger(database).head().seq
    verdicts = [(revision.study_uid, analysis and analysis.verdict) for revision, analysis in newest]
    assert verdicts == [("1.7", None), ("1.8", None), ("1.9", "SUSPECT")]


def test_a_studys_detail_has_every_revision_and_what_followed(
    store: InstanceStore, database: Database, encoded: Callable[..., int]
) -> None:
    revision_id = encoded("1.2.3")
    receive(store, database, "1.2.4")
    with database.transaction() as session:
        plan_deliveries(session, revision_id, {"pacs": "orthanc"})
    with database.reading() as session:
        detail = study_detail(session, "1.9")
        with pytest.raises(NotFound, match=r"1\.404"):
            study_detail(session, "1.404")
    first, second = detail.revisions
    assert detail.instances == {InstanceState.STORED: 2}
    assert (first.instances, len(first.analyses), len(first.evidence), len(first.deliveries)) == (1, 1, 2, 2)
    assert (second.instances, second.revision.state) == (1, RevisionState.OPEN)
