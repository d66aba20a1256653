"""Finds records by what they say, in sealed files and in the database alike."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, select

from storage.audit.archive import Archive
from storage.audit.ledger import LedgerRecord, timestamp
from storage.tables import LedgerRow
from storage.tables.ledger import event_is

_COLUMNS = [getattr(LedgerRow, name) for name in LedgerRecord.__slots__]
_PAGE = 5000


@dataclass(frozen=True, slots=True)
class Selection:
    """Which records; what is not given asks for nothing. `text` is looked for in actor, subject, study and details."""

    first: int = 1
    last: int | None = None
    since: datetime | None = None
    until: datetime | None = None
    event: str | None = None
    study_uid: str | None = None
    actor: str | None = None
    text: str | None = None
    failures: bool = False

    @property
    def whole(self) -> bool:
        """Whether it leaves nothing out but what is beyond its first and last record."""
        return self == Selection(self.first, self.last)

    def matches(self, record: LedgerRecord) -> bool:
        return (
            record.seq >= self.first
            and (self.last is None or record.seq <= self.last)
            and (self.since is None or record.time >= timestamp(self.since))
            and (self.until is None or record.time < timestamp(self.until))
            and (self.event is None or record.event == self.event)
            and (self.study_uid is None or record.study_uid == self.study_uid)
            and (self.actor is None or record.actor == self.actor)
            and (not self.failures or record.outcome > 0)
            and (self.text is None or any(self.text in part for part in _parts(record)))
        )

    def conditions(self) -> list[ColumnElement[bool]]:
        """The same for the database."""
        found: list[ColumnElement[bool]] = []
        if self.last is not None:
            found.append(LedgerRow.seq <= self.last)
        if self.since is not None:
            found.append(LedgerRow.time >= timestamp(self.since))
        if self.until is not None:
            found.append(LedgerRow.time < timestamp(self.until))
        if self.event is not None:
            found.append(event_is(self.event))
        for column, value in (
            (LedgerRow.study_uid, self.study_uid),
            (LedgerRow.actor, self.actor),
        ):
            if value is not None:
                found.append(column == value)
        if self.failures:
            found.append(LedgerRow.outcome > 0)
        return found


def search(archive: Archive, selection: Selection) -> Iterator[LedgerRecord]:
    """Every record that matches, in order. Raises LedgerBroken when a sealed file cannot be read."""
    after = selection.first - 1
    for segment in archive.segments():
        if segment.shortened and segment.last > after:
            yield from (record for record in archive.sealed(segment) if selection.matches(record))
            after = segment.last
    while True:
        query = select(*_COLUMNS).where(LedgerRow.seq > after, *selection.conditions()).order_by(LedgerRow.seq)
        with archive.database.reading() as session:
            page = session.execute(query.limit(_PAGE)).all()
        if not page:
            return
        # The text is looked for here: databases differ in what LIKE takes for the same letter.
        yield from (record for record in (LedgerRecord(*row) for row in page) if selection.matches(record))
        after = page[-1][0]


def _parts(record: LedgerRecord) -> tuple[str, ...]:
    return record.actor, record.subject or "", record.study_uid or "", record.details, record.event
