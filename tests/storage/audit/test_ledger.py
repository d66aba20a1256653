"""The chain: whatever is done to a record is found, and many writers keep one chain."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError

from storage import AuditEvent, AuditEventType, AuditOutcome, Database, Ledger, LedgerRecord
from storage.audit.ledger import GENESIS, BreakKind, Head, append, canonical, chained, verify_chain
from storage.tables import LedgerRow
from storage.tables.ledger import event_is
from tests.storage.arrivals import NOON, at

REPOSITORY = Path(__file__).resolve().parents[3]


def event(number: int = 0, study_uid: str | None = None) -> AuditEvent:
    details = {"number": number}
    return AuditEvent(AuditEventType.INSTANCE_STORED, "SCANNER@1", study_uid=study_uid, details=details, time=NOON)


@pytest.fixture
def ledger(database: Database) -> Ledger:
    ledger = Ledger(database)
    with database.transaction() as session:
        append(session, [event(number, study_uid=f"1.{number % 3}") for number in range(1, 11)])
    return ledger


def test_an_empty_ledger_is_intact(database: Database) -> None:
    found = Ledger(database).verify()
    assert (found.intact, found.records, found.head) == (True, 0, Head(0, GENESIS))


def test_records_have_numbers_without_a_gap_and_verify(ledger: Ledger) -> None:
    assert [record.seq for record in ledger.records()] == list(range(1, 11))
    found = ledger.verify()
    assert found.intact
    assert found.head == ledger.head()


def test_a_record_can_be_checked_with_nothing_of_ours(ledger: Ledger) -> None:
    """The documented form, written down here a second time."""
    previous = "0" * 64
    for record in ledger.records():
        fields = {
            "actor": record.actor,
            "details": json.loads(record.details),
            "event": record.event,
            "outcome": record.outcome,
            "seq": record.seq,
            "study_uid": record.study_uid,
            "subject": record.subject,
            "time": record.time,
        }
        plain = json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()
        assert canonical(record) == plain
        previous = sha256(bytes.fromhex(previous) + plain).hexdigest()
        assert record.hash == previous


def test_an_event_exists_only_if_its_transaction_commits(database: Database, ledger: Ledger) -> None:
    def fail() -> None:
        with database.transaction() as session:
            ledger.append(session, event())
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert ledger.head().seq == 10
    ledger.record(event())
    assert ledger.verify().head.seq == 11


def test_a_savepoint_that_is_rolled_back_leaves_no_gap(database: Database, ledger: Ledger) -> None:
    with database.transaction() as session:
        ledger.append(session, event(11))
        nested = session.begin_nested()
        ledger.append(session, event(12))
        nested.rollback()
        ledger.append(session, event(13))
        with session.begin_nested():
            ledger.append(session, event(14))
        ledger.append(session, event(15))
    assert [json.loads(r.details)["number"] for r in ledger.records(after=10)] == [11, 13, 14, 15]
    assert ledger.verify().intact


def test_what_a_database_cannot_hold_does_not_keep_an_event_out(ledger: Ledger) -> None:
    ledger.record(
        AuditEvent(
            AuditEventType.INSTANCE_REFUSED,
            actor="EVIL\x00\ud800@10.0.0.9" + "x" * 500,
            outcome=AuditOutcome.MINOR_FAILURE,
            study_uid="../" * 100,
            subject="\x00",
            details={"reason": "\x00\ud800 «»"},
        )
    )
    assert ledger.verify().intact
    assert ledger.list(limit=1)[0].to_json()["details"] == {"reason": "\x00\ud800 «»"}


def test_only_uncommon_events_are_looked_up_by_the_index_over_events(database: Database) -> None:
    """The planner has to see the index's own condition in the query; what comes with every instance is not in it."""

    def plan(event: str) -> str:
        query = select(LedgerRow.seq).where(event_is(event))
        words = str(query.compile(database.engine, compile_kwargs={"literal_binds": True}))
        explain = "EXPLAIN QUERY PLAN " if database.is_sqlite else "EXPLAIN "
        with database.reading() as session:
            if not database.is_sqlite:
                session.execute(text("SET LOCAL enable_seqscan = off"))
            return "\n".join(str(row) for row in session.execute(text(explain + words)))

    assert "ix_ledger_event" in plan("analysis-finished")
    assert "ix_ledger_event" not in plan("instance-stored")


def test_the_list_is_filtered_and_ends_with_the_newest(ledger: Ledger) -> None:
    ledger.record(AuditEvent(AuditEventType.REVISION_CLOSED, "scanwarden:timetable", study_uid="1.1", time=at(60)))
    assert [r.seq for r in ledger.list(limit=3)] == [9, 10, 11]
    assert [r.seq for r in ledger.list(study_uid="1.1")] == [1, 4, 7, 10, 11]
    assert [r.seq for r in ledger.list(event=AuditEventType.REVISION_CLOSED)] == [11]
    assert [r.seq for r in ledger.list(since=at(30))] == [11]
    assert len(ledger.list(limit=None)) == 11


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE ledger SET actor = 'nobody' WHERE seq = 5",
        "DELETE FROM ledger WHERE seq = 5",
        "DELETE FROM ledger",
        "INSERT INTO ledger SELECT seq + 5, time, event, outcome, actor, study_uid, subject, details, hash, 'x'"
        " FROM ledger WHERE seq = 10",
        "INSERT INTO ledger SELECT 11, time, event, outcome, actor, study_uid, subject, details, 'forged', 'x'"
        " FROM ledger WHERE seq = 10",
    ],
)
def test_the_database_itself_refuses_to_change_the_ledger(database: Database, ledger: Ledger, statement: str) -> None:
    with pytest.raises(IntegrityError, match="append-only"), database.transaction() as session:
        session.execute(text(statement))
    assert ledger.verify().records == 10


def test_the_database_refuses_its_own_ways_around(database: Database, ledger: Ledger) -> None:
    around = "INSERT OR REPLACE INTO ledger SELECT * FROM ledger WHERE seq = 5"
    statement = around if database.is_sqlite else "TRUNCATE ledger"
    with pytest.raises(IntegrityError, match="append-only"), database.transaction() as session:
        session.execute(text(statement))
    assert ledger.verify().records == 10


@pytest.fixture
def attack(database: Database, ledger: Ledger) -> Callable[[str], None]:
    """Runs SQL with all rights: the triggers are gone."""

    def run(statement: str) -> None:
        with database.transaction() as session:
            for name in ("ledger_refuses_update", "ledger_refuses_delete", "ledger_grows_at_its_head"):
                session.execute(text(f"DROP TRIGGER {name}" + ("" if database.is_sqlite else " ON ledger")))
            session.execute(text(statement))

    return run


@pytest.mark.parametrize(
    ("statement", "seq", "kind"),
    [
        ("UPDATE ledger SET actor = 'nobody' WHERE seq = 5", 5, BreakKind.CONTENT),
        ("UPDATE ledger SET outcome = 12 WHERE seq = 5", 5, BreakKind.CONTENT),
        ("UPDATE ledger SET study_uid = NULL WHERE seq = 5", 5, BreakKind.CONTENT),
        ("UPDATE ledger SET details = '{\"number\": 5}' WHERE seq = 5", 5, BreakKind.CONTENT),  # a space
        ("UPDATE ledger SET previous_hash = 'no hash' WHERE seq = 5", 5, BreakKind.LINK),
        ("DELETE FROM ledger WHERE seq = 5", 5, BreakKind.GAP),
        ("DELETE FROM ledger WHERE seq = 1", 1, BreakKind.GAP),
        ("UPDATE ledger SET seq = 100 WHERE seq = 5", 5, BreakKind.GAP),
    ],
)
def test_a_change_made_with_all_rights_is_found_where_it_was_made(
    ledger: Ledger, attack: Callable[[str], None], statement: str, seq: int, kind: BreakKind
) -> None:
    attack(statement)
    found = ledger.verify()
    assert not found.intact
    assert found.broken is not None
    assert (found.broken.seq, found.broken.kind) == (seq, kind)
    assert str(seq) in found.broken.text


def test_a_tail_that_was_cut_off_shows_against_a_head_that_is_known(
    ledger: Ledger, attack: Callable[[str], None]
) -> None:
    known = ledger.head()
    assert ledger.verify(expected=known).intact
    attack("DELETE FROM ledger WHERE seq > 7")
    assert ledger.verify().intact, "the chain alone cannot show it"
    found = ledger.verify(expected=known)
    assert found.broken is not None
    assert (found.broken.kind, found.broken.seq) == (BreakKind.TRUNCATED, 8)


def test_a_verification_can_begin_after_a_trusted_head(ledger: Ledger) -> None:
    fourth = list(ledger.records())[3]
    found = ledger.verify(start=Head(4, fourth.hash))
    assert (found.intact, found.records) == (True, 6)
    assert ledger.verify(start=Head(4, "f" * 64)).broken is not None


def test_progress_is_reported_to_the_end(ledger: Ledger) -> None:
    seen: list[int] = []
    ledger.verify(progress=seen.append)
    assert seen == [10]


def test_appends_from_many_processes_make_one_chain(url: str, database: Database) -> None:
    code = (
        "import sys; from storage import *; d = Database(sys.argv[1]); l = Ledger(d)\n"
        "for n in range(25): l.record(AuditEvent(AuditEventType.INSTANCE_STORED, sys.argv[2], details={'n': n}))"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, url, f"writer-{n}"], cwd=REPOSITORY) for n in range(3)]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0, 0]
    found = Ledger(database).verify()
    assert (found.intact, found.records) == (True, 75)
    for n in range(3):
        own = [json.loads(r.details)["n"] for r in Ledger(database).records() if r.actor == f"writer-{n}"]
        assert own == list(range(25))


# The chain itself, without a database.

texts = st.text(max_size=20)
EARLIEST, LATEST = datetime.fromisoformat("1900-01-01"), datetime.fromisoformat("2200-01-01")
details = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts
events = st.builds(
    AuditEvent,
    event=st.sampled_from(AuditEventType),
    actor=texts,
    outcome=st.sampled_from(AuditOutcome),
    study_uid=st.none() | texts,
    subject=st.none() | texts,
    details=st.dictionaries(
        texts,
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
        max_size=4,
    ),
    time=st.datetimes(min_value=EARLIEST, max_value=LATEST, timezones=st.timezones()),
)


def chain(of: list[AuditEvent]) -> list[LedgerRecord]:
    head, made = Head(), []
    for each in of:
        made.append(chained(each, head))
        head = Head(made[-1].seq, made[-1].hash)
    return made


def replaced(record: LedgerRecord, field: str, value: object) -> LedgerRecord:
    fields: dict[str, Any] = {field: value}
    return replace(record, **fields)


def broken(records: list[LedgerRecord], expected: Head) -> bool:
    return not verify_chain(iter(records), expected=expected).intact


@given(st.lists(events, max_size=8))
def test_every_chain_that_was_appended_verifies(of: list[AuditEvent]) -> None:
    made = chain(of)
    found = verify_chain(iter(made))
    assert found.intact
    assert found.records == len(of)


@given(st.lists(events, min_size=1, max_size=8), st.data())
def test_any_edit_of_any_field_is_found(of: list[AuditEvent], data: st.DataObject) -> None:
    made = chain(of)
    place = data.draw(st.integers(0, len(made) - 1))
    field = data.draw(st.sampled_from(sorted(LedgerRecord.__slots__)))
    before = getattr(made[place], field)
    other = st.integers() if field in ("seq", "outcome") else texts | st.none()
    after = data.draw(other.filter(lambda value: value != before))
    if after is None and field not in ("study_uid", "subject"):
        after = "null"
    known = Head(made[-1].seq, made[-1].hash)
    changed = [*made[:place], replaced(made[place], field, after), *made[place + 1 :]]
    assert broken(changed, known)


@given(st.lists(events, min_size=2, max_size=8), st.data())
def test_any_deletion_reordering_insertion_or_swap_is_found(of: list[AuditEvent], data: st.DataObject) -> None:
    made = chain(of)
    known = Head(made[-1].seq, made[-1].hash)
    place = data.draw(st.integers(0, len(made) - 1))
    other = data.draw(st.integers(0, len(made) - 1).filter(lambda n: n != place))
    without = [record for record in made if record is not made[place]]
    assert broken(without, known)
    moved = list(without)
    moved.insert(other, made[place])
    assert broken(moved, known) == (moved != made)
    assert broken([*made[:place], made[other], *made[place:]], known)
    # Also with numbers and links put right, as far as that goes without rewriting what follows.
    head = Head(made[place].seq - 1, made[place].previous_hash)
    inserted = chained(data.draw(events), head)
    shifted = [replace(record, seq=record.seq + 1) for record in made[place:]]
    assert broken([*made[:place], inserted, *shifted], known)


@given(st.lists(events, min_size=1, max_size=6), events)
def test_a_chain_that_was_rewritten_from_a_record_on_is_found_against_a_known_head(
    of: list[AuditEvent], forged: AuditEvent
) -> None:
    made = chain(of)
    rewritten = chain([forged, *of[1:]])
    known = Head(made[-1].seq, made[-1].hash)
    same = rewritten[0].hash == made[0].hash
    assert broken(rewritten, known) == (not same)


def empty() -> Iterator[LedgerRecord]:
    return iter(())


def test_an_emptied_ledger_is_found_against_a_known_head() -> None:
    assert not verify_chain(empty(), expected=Head(3, "a" * 64)).intact
