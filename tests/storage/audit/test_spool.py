"""The spool: a cursor into the ledger for each collector, on both databases."""

from datetime import UTC, datetime

from storage import AuditEvent, AuditEventType, Database, Ledger
from storage.audit import spool
from storage.audit.ledger import Head

EVENT = AuditEvent(AuditEventType.APPLICATION_STARTED, "scanwarden:supervisor")


def fill(database: Database, count: int) -> list[Head]:
    found = [Ledger(database).record(EVENT) for _ in range(count)]
    return [Head(record.seq, record.hash) for record in found]


def test_a_new_collector_lacks_the_whole_ledger(database: Database) -> None:
    fill(database, 3)
    with database.reading() as session:
        assert spool.cursor(session, "siem") == Head()
        assert [record.seq for record in spool.waiting(session, 0, 2)] == [1, 2]
        state = spool.states(session, ["siem"])[0]
    assert (state.confirmed, state.waiting, state.confirmed_at) == (0, 3, None)
    assert state.oldest_waiting == next(Ledger(database).records()).time


def test_a_cursor_moves_forward_and_never_back(database: Database) -> None:
    heads = fill(database, 3)
    for head in (heads[1], heads[0]):
        with database.transaction() as session:
            spool.confirm(session, "siem", head)
    with database.reading() as session:
        assert spool.cursor(session, "siem") == heads[1]
        assert spool.cursor(session, "other") == Head()
        state = spool.states(session, ["siem"])[0]
    assert (state.confirmed, state.waiting) == (2, 1)


def test_a_failure_is_told_once_until_something_is_confirmed(database: Database) -> None:
    heads = fill(database, 1)
    now = datetime(2026, 11, 20, tzinfo=UTC)
    with database.transaction() as session:
        assert spool.fail(session, "siem", "first", now=now)
    with database.transaction() as session:
        assert not spool.fail(session, "siem", "second")
    with database.reading() as session:
        state = spool.states(session, ["siem"])[0]
    assert (state.failing_since, state.failure, state.confirmed) == (now, "second", 0)
    with database.transaction() as session:
        assert spool.confirm(session, "siem", heads[0])
    with database.transaction() as session:
        assert not spool.confirm(session, "siem", heads[0])


def test_a_ledger_that_lost_what_was_confirmed_is_noticed(database: Database) -> None:
    heads = fill(database, 2)
    with database.reading() as session:
        assert spool.still_holds(session, Head())
        assert spool.still_holds(session, heads[1])
        assert not spool.still_holds(session, Head(2, "f" * 64))
        assert not spool.still_holds(session, Head(3, "f" * 64))


def test_retention_may_go_up_to_what_the_slowest_collector_confirmed(database: Database) -> None:
    heads = fill(database, 3)
    with database.transaction() as session:
        spool.confirm(session, "siem", heads[2])
        spool.confirm(session, "slow", heads[0])
    with database.reading() as session:
        assert spool.needed_from(session, []) is None
        assert spool.needed_from(session, ["siem"]) == 4
        assert spool.needed_from(session, ["siem", "slow"]) == 2
        assert spool.needed_from(session, ["siem", "new"]) == 1
