"""The queue of what is passed on, and the requests for storage commitment, on both databases."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select

from storage import Database, InstanceKind, InstanceStore
from storage.commitment_requests import (
    DUPLICATE_TRANSACTION,
    TooManyRequests,
    copies_of,
    forget_requests,
    hold_requests,
    is_due,
    receive_request,
    record_answer,
    record_not_reported,
    record_reported,
    take_due,
    unanswered,
)
from storage.commitments import NOT_ANSWERED, Reference, ask, commitment, forget_commitments, record_report
from storage.copies import repeated_pixels
from storage.errors import NotFound
from storage.forwarding import (
    Wanted,
    anything_decided,
    counts,
    forget_sent,
    newer,
    next_passages,
    oldest_waiting,
    open_cursors,
    queue_new,
    record_refused,
    record_sent,
    release_held,
    retry_dead,
)
from storage.tables import CommitmentRequest, CommitmentState, ForwardState, Instance, InstanceState, RequestState
from tests.storage.arrivals import MR, receive

PACS = Wanted("pacs", not_from="PACS")
TWO = (Reference(MR, "1.2.1"), Reference(MR, "1.2.2"))


def test_what_comes_in_is_queued_once_for_each_destination_in_the_order_of_arrival(
    store: InstanceStore, database: Database
) -> None:
    receive(store, database, "1.2.0")
    with database.transaction() as session:
        open_cursors(session, ["pacs", "other"])
        open_cursors(session, ["pacs", "other"])
    for uid, more in (
        ("1.2.1", {}),
        ("1.2.2", {"source_ae": "PACS"}),
        ("1.2.3", {"kind": InstanceKind.EVIDENCE}),
        ("1.2.4", {}),
        ("1.2.1", {}),
    ):
        receive(store, database, uid, **more)
    other = Wanted("other", sources=("PACS",))
    with database.transaction() as session:
        assert newer(session, [PACS, other]) == [PACS, other]
        for wanted in (PACS, other, PACS):
            queue_new(session, wanted)
        assert newer(session, [PACS, other]) == []
        batch = next_passages(session, "pacs", 10)
        assert [each.instance.sop_instance_uid for each in batch] == ["1.2.1", "1.2.4"]
        assert set(oldest_waiting(session)) == {"pacs", "other"}
        record_sent(session, "pacs", batch[:1])
        record_refused(session, batch[1], "status 0xC000", pause=3600)
        assert next_passages(session, "pacs", 10) == []
        assert [each.instance.sop_instance_uid for each in next_passages(session, "other", 10)] == ["1.2.2"]
    with database.transaction() as session:
        record_refused(session, batch[1], "status 0xC000", pause=None)
        assert counts(session)["pacs"] == {ForwardState.SENT: 1, ForwardState.DEAD: 1}
        assert retry_dead(session, actor="user:somebody", destination="other") == 0
        assert retry_dead(session, actor="user:somebody", study_uid="1.9") == 1
        forget_sent(session, timedelta(0), now=datetime.now(UTC) + timedelta(seconds=1))
        assert counts(session)["pacs"] == {ForwardState.WAITING: 1}


def test_a_contested_copy_is_held_until_it_is_decided_on(store: InstanceStore, database: Database) -> None:
    with database.transaction() as session:
        open_cursors(session, ["pacs"])
    receive(store, database, "1.2.1")
    for content in (b"other", b"third"):
        receive(store, database, "1.2.1", content)
    with database.transaction() as session:
        queue_new(session, PACS)
        assert counts(session)["pacs"] == {ForwardState.WAITING: 1, ForwardState.HELD: 2}
        assert not anything_decided(session)
        _, second, third = session.scalars(select(Instance).order_by(Instance.id))
        second.state, third.state = InstanceState.DUPLICATE, InstanceState.QUARANTINED
    with database.transaction() as session:
        assert anything_decided(session)
        release_held(session)
        assert counts(session)["pacs"] == {ForwardState.WAITING: 2, ForwardState.DEAD: 1}


def _received(database: Database, uid: str = "1.5", *, most: int = 10, hold: float = 0) -> int:
    with database.transaction() as session:
        return receive_request(session, uid, TWO, ae_title="CT", address="10.0.0.7", hold=hold, most=most)


def test_a_request_is_answered_then_told_or_given_up(database: Database) -> None:
    number = _received(database)
    assert _received(database) == number
    with database.transaction() as session:
        (row,) = unanswered(session)
        assert unanswered(session, [number]) == []
        assert not is_due(session)
        assert not record_answer(session, number, row.asked_at - timedelta(seconds=1), {})
        assert record_answer(session, number, row.asked_at, {"1.2.2": 0x0112})
        hold_requests(session, [number], 60)
        assert not is_due(session)
        hold_requests(session, [number], 0)
    with database.transaction() as session:
        assert is_due(session)
        taken = take_due(session, 60)
        assert taken is not None
        assert (taken.id, taken.attempts, is_due(session)) == (number, 1, False)
        record_not_reported(session, number, "nobody there", pause=0)
    with database.transaction() as session:
        assert take_due(session, 60) is not None
        record_reported(session, number, same_association=False)
        row = session.get_one(CommitmentRequest, number)
        assert (row.state, row.failures, row.failure) == (RequestState.REPORTED, {"1.2.2": 0x0112}, None)
        forget_requests(session, timedelta(0), now=datetime.now(UTC) + timedelta(seconds=100))
        assert session.get(CommitmentRequest, number) is None


def test_a_transaction_that_is_used_for_something_else_fails_at_once_and_no_more_wait_than_may(
    database: Database,
) -> None:
    _received(database)
    with database.transaction() as session:
        misused = receive_request(session, "1.5", TWO[:1], ae_title="CT", address="a", hold=0, most=10)
        row = session.get_one(CommitmentRequest, misused)
        assert (row.state, row.failures) == (RequestState.ANSWERED, {"1.2.1": DUPLICATE_TRANSACTION})
        other = receive_request(session, "1.5", TWO[:1], ae_title="MR", address="a", hold=0, most=10)
        assert session.get_one(CommitmentRequest, other).state is RequestState.RECEIVED
    with pytest.raises(TooManyRequests):
        _received(database, "1.6", most=3)


def test_what_we_asked_for_is_failed_for_whatever_the_report_leaves_out(database: Database) -> None:
    with database.transaction() as session:
        uid = ask(session, "pacs", TWO)
        assert commitment(session, uid).state is CommitmentState.WAITING
    with database.transaction() as session:
        row = record_report(session, uid, ["1.2.1"], {}, reporter="PACS@10.0.0.1")
        assert (row.state, row.failures) == (CommitmentState.FAILED, {"1.2.2": NOT_ANSWERED})
        row = record_report(session, uid, ["1.2.1", "1.2.2"], {}, reporter="PACS@10.0.0.1")
        assert row.state is CommitmentState.COMMITTED
        assert record_report(session, uid, [], {}, reporter="PACS@10.0.0.1").state is CommitmentState.COMMITTED
        with pytest.raises(NotFound):
            record_report(session, "1.2.3", [], {}, reporter="PACS@10.0.0.1")
        forget_commitments(session, timedelta(0), now=datetime.now(UTC) + timedelta(seconds=1))
        with pytest.raises(NotFound):
            commitment(session, uid)


def test_pixels_that_came_before_are_found_under_their_first_uid(store: InstanceStore, database: Database) -> None:
    for uid, study in (("1.2.1", "1.8"), ("1.2.2", "1.9"), ("1.2.3", "1.9"), ("1.2.4", "1.9")):
        receive(store, database, uid, study_uid=study)
    with database.transaction() as session:
        for row in session.scalars(select(Instance)):
            row.pixel_sha256 = ("b" if row.sop_instance_uid == "1.2.4" else "a") * 64
    with database.reading() as session:
        ids = {row.sop_instance_uid: row.id for row in session.scalars(select(Instance))}
        found = repeated_pixels(session, ids.values())
        assert set(copies_of(session, ["1.2.1", "1.2.9"])) == {"1.2.1"}
    assert [(each.sop_instance_uid, each.first_sop_instance_uid, each.elsewhere) for each in found] == [
        ("1.2.2", "1.2.1", True),
        ("1.2.3", "1.2.1", True),
    ]
