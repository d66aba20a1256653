"""Group commit: instances that become durable at the same time in one process are indexed in one transaction.

Whoever comes first leads: it takes the writers' turn, indexes all that wait by then, commits once, and tells each of
them. Meanwhile others make their files durable and gather for the next transaction, which the first of them leads.
Nothing waits for company.
"""

import threading
from collections import deque
from collections.abc import Sequence

from storage.database import Database
from storage.errors import DatabaseUnavailable
from storage.instances import InstanceStore, StoredFile
from storage.points import Point, reached
from storage.reception import InstanceFacts, Outcome, record_instances

LARGEST = 64  # instances in one transaction: others want their turn, too


class _Arrival:
    """One instance that waits; its lock is released when it has an answer, or when it is to lead."""

    __slots__ = ("facts", "fault", "leads", "may_be_named", "outcome", "stored", "wakened")

    def __init__(self, stored: StoredFile, facts: InstanceFacts) -> None:
        self.stored, self.facts = stored, facts
        self.outcome: Outcome | None = None
        self.fault: BaseException | None = None
        self.may_be_named = False
        self.leads = False
        self.wakened = threading.Lock()
        self.wakened.acquire()


class Index:
    """Where a receiver's threads index what they keep."""

    def __init__(self, database: Database, store: InstanceStore, *, patience: float) -> None:
        """`patience`: seconds that an instance waits for those before it."""
        self._database = database
        self._store = store
        self._patience = patience
        self._lock = threading.Lock()
        self._waiting: deque[_Arrival] = deque()
        self._led = False

    def record(self, stored: StoredFile, facts: InstanceFacts) -> Outcome:
        """Index a durable file; when this returns, its row and its event are durable, too.

        Raises what `reception.record_instances` and `Database.direct` raise, for this instance alone. Its file is then
        removed, unless a commit that ended in an error may have named it.
        """
        arrival = _Arrival(stored, facts)
        with self._lock:
            self._waiting.append(arrival)
            arrival.leads = not self._led
            self._led = True
        if not arrival.leads:
            self._wait(arrival)
        if arrival.leads:
            self._lead()
        if arrival.fault is not None:
            if not arrival.may_be_named:
                self._store.remove(stored.relative)
            raise arrival.fault
        if arrival.outcome is None:
            raise _untold(None)
        return arrival.outcome

    def _wait(self, arrival: _Arrival) -> None:
        """Until there is an answer, or this arrival is the first of those that have none."""
        if arrival.wakened.acquire(timeout=self._patience):
            return
        with self._lock:
            if arrival in self._waiting and not arrival.leads:
                self._waiting.remove(arrival)
                arrival.fault = DatabaseUnavailable("the index is busy with what came before; send again later")
                return
        arrival.wakened.acquire()  # it is being written: its end is the database's to say

    def _lead(self) -> None:
        with self._lock:
            group = [self._waiting.popleft() for _ in range(min(len(self._waiting), LARGEST))]
        try:
            self._index(group)
        finally:
            with self._lock:
                following = self._waiting[0] if self._waiting else None
                self._led = following is not None
                if following is not None:
                    following.leads = True
            if following is not None:
                following.wakened.release()
            for arrival in group:
                arrival.wakened.release()

    def _index(self, group: Sequence[_Arrival]) -> None:
        committing = False
        try:
            with self._database.direct() as session:
                reached(Point.TRANSACTION_BEGUN)
                outcomes = record_instances(session, [(arrival.stored, arrival.facts) for arrival in group])
                reached(Point.INDEXED)
                committing = True
            reached(Point.COMMITTED)
        except BaseException as fault:
            if len(group) > 1 and not committing and not isinstance(fault, DatabaseUnavailable):
                for arrival in group:  # one of them is at fault, and only that one may fail
                    self._index([arrival])
                return
            for arrival in group:
                # A fault of its own for each thread: raising adds a traceback to it.
                arrival.fault = fault if len(group) == 1 else _untold(fault)
                arrival.may_be_named = committing
            if not isinstance(fault, Exception):
                raise
        else:
            for arrival, outcome in zip(group, outcomes, strict=True):
                arrival.outcome = outcome


def _untold(fault: BaseException | None) -> DatabaseUnavailable:
    unavailable = DatabaseUnavailable(str(fault) if fault is not None else "the process is ending; send again later")
    unavailable.__cause__ = fault
    return unavailable
