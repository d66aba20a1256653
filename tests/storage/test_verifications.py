"""Who is verified next and what is covered, on both databases."""

from datetime import timedelta

import pytest

from storage import AuditEventType, Database, InstanceStore, Ledger, NotFound
from storage.firstseen import record_first_seen
from storage.studies import close_revision, finish_revision, revision_of
from storage.tables import CloseReason, Revision, RevisionState, VerificationState
from storage.verifications import (
    abandoned,
    begin_comparison,
    begin_verification,
    coverage,
    eligible_studies,
    eligible_study,
    fail_verification,
    finish_verification,
    hand_over,
    last_verification,
    oldest_verified,
    studies_to_sweep,
    verification_of,
    waiting,
)
from tests.storage.arrivals import at, receive

DAY = 86400.0
WINDOW = timedelta(days=90)


@pytest.fixture
def studies(database: Database, store: InstanceStore) -> list[str]:
    """Three finished studies and one that is still arriving."""
    uids = ["1.1", "1.2", "1.3"]
    for number, uid in enumerate([*uids, "1.4"]):
        receive(store, database, f"{uid}.9", uid.encode(), study_uid=uid, received_at=at(number))
    with database.transaction() as session:
        for uid in uids:
            revision = session.query(Revision).filter_by(study_uid=uid).one().id
            close_revision(session, revision, CloseReason.QUIET)
            record_first_seen(session, revision, {})
            revision_of(session, revision).state = RevisionState.ENCODED
            finish_revision(session, revision, actor="scanwarden:test")
    return uids


def verified(
    database: Database, study_uid: str, seconds: float, *, differs: bool = False, archive: str = "pacs"
) -> int:
    with database.transaction() as session:
        number = begin_verification(session, study_uid, archive, now=at(seconds)).id
        finish_verification(session, number, differs=differs, counts={"missing": 1}, named={}, now=at(seconds))
    return number


def test_never_verified_comes_first_then_the_longest_ago(database: Database, studies: list[str]) -> None:
    verified(database, "1.1", DAY)
    verified(database, "1.3", 2 * DAY)
    with database.reading() as session:
        found = oldest_verified(session, "pacs", not_tried_since=at(3 * DAY), limit=9)
        assert found == ["1.2", "1.1", "1.3"]
        assert oldest_verified(session, "pacs", not_tried_since=at(1.5 * DAY), limit=9) == ["1.2", "1.1"]
        assert oldest_verified(session, "other", not_tried_since=at(3 * DAY), limit=9) == studies


def test_a_study_that_is_still_arriving_is_not_eligible(database: Database, studies: list[str]) -> None:
    with database.reading() as session:
        assert eligible_studies(session) == 3
        assert [eligible_study(session, offset) for offset in range(4)] == [*studies, None]


def test_coverage_counts_answers_in_the_window_and_the_last_answer_decides(
    database: Database, studies: list[str]
) -> None:
    verified(database, "1.1", 0)
    verified(database, "1.1", DAY, differs=True)
    verified(database, "1.2", DAY, archive="other")
    with database.reading() as session:
        found = coverage(session, "pacs", WINDOW, now=at(2 * DAY))
        assert (found.studies, found.verified, found.differing, found.oldest) == (3, 1, 1, None)
    verified(database, "1.1", 2 * DAY)
    for uid in ("1.2", "1.3"):
        verified(database, uid, 3 * DAY)
    with database.reading() as session:
        found = coverage(session, "pacs", WINDOW, now=at(4 * DAY))
        assert (found.share, found.differing, found.oldest) == (1.0, 0, at(2 * DAY))
        last = last_verification(session, "1.1")
        assert last is not None
        assert last.state is VerificationState.SAME


def test_a_sweep_leaves_out_what_was_answered_since(database: Database, studies: list[str]) -> None:
    verified(database, "1.2", DAY)
    with database.transaction() as session:
        number = begin_verification(session, "1.1", "pacs", now=at(DAY)).id
        fail_verification(session, number, "no connection", now=at(DAY))
    with database.reading() as session:
        assert studies_to_sweep(session, "pacs", at(0)) == ["1.1", "1.3"]
        assert studies_to_sweep(session, "pacs", at(2 * DAY)) == studies


def test_a_result_is_kept_once_and_recorded_once(database: Database, studies: list[str]) -> None:
    number = verified(database, "1.1", 0, differs=True)
    with database.transaction() as session:
        finish_verification(session, number, differs=False, counts={}, named={})
        fail_verification(session, number, "late")
        hand_over(session, number, "drafts/x")
        assert verification_of(session, number).state is VerificationState.DIFFERS
    (alert,) = Ledger(database).list(event=AuditEventType.VERIFICATION_DIFFERS.value)
    assert (alert.study_uid, alert.subject, alert.outcome) == ("1.1", "pacs", 8)
    assert AuditEventType.VERIFICATION_DIFFERS.event_id == "110113"  # PS3.16 CID 400: Security Alert


def test_what_was_handed_over_waits_and_counts_its_attempts(database: Database, studies: list[str]) -> None:
    with database.transaction() as session:
        number = begin_verification(session, "1.1", "pacs", now=at(0)).id
        hand_over(session, number, "drafts/x")
    with database.transaction() as session:
        assert [row.id for row in waiting(session)] == [number]
        assert [begin_comparison(session, number) for _ in range(2)] == [1, 2]
        assert [row.id for row in abandoned(session, at(1))] == [number]
        assert list(abandoned(session, at(-1))) == []
        with pytest.raises(NotFound):
            verification_of(session, 99)
