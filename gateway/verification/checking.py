"""One study of an archive, from the request to the kept result: fetch, compare bytes, decode where that is allowed.

The timetable fetches and compares bytes; what differs it hands over to the analyse role, which decodes. The command
line does both. A lease in the database keeps it to one association with an archive at a time, whoever asks.
"""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from secrets import token_hex

from pydicom.uid import ExplicitVRLittleEndian

from gateway.app import App
from gateway.dicom.scu import SendError
from gateway.verification.archive import Archive, read_list
from gateway.verification.compare import Elsewhere, Known, State, StudyComparison, compare_study, received_digest
from storage import Database, InstanceStore, StorageError
from storage.digests import file_digest
from storage.firstseen import Seen, first_seen
from storage.processes import acquire_lease, release_lease
from storage.tables import Evidence, VerificationState
from storage.verifications import (
    begin_comparison,
    begin_verification,
    evidence_in,
    fail_verification,
    finish_verification,
    hand_over,
    verification_of,
)

LEASE_SECONDS = 120.0
RENEWAL_SECONDS = 20.0
MOST_ATTEMPTS = 3


class ArchiveBusy(Exception):
    """Another process verifies this archive now."""


class NotVerified(Exception):
    """The archive gave no answer that says anything; the message says why."""


class Turn:
    """The right to ask one archive, renewed while instances come in."""

    def __init__(self, database: Database, archive: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._name, self._holder = f"verify:{archive}", token_hex(16)
        self._clock = clock
        self._renewed = clock()

    def renew(self) -> None:
        """Keep it; cheap when it was renewed just now."""
        now = self._clock()
        if now - self._renewed >= RENEWAL_SECONDS:
            self._renewed = now
            self._take()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold it for the block. Raises ArchiveBusy."""
        self._renewed = self._clock()
        self._take()
        try:
            yield
        finally:
            with self._database.transaction() as session:
                release_lease(session, self._name, self._holder)

    def _take(self) -> None:
        with self._database.transaction() as session:
            if not acquire_lease(session, self._name, self._holder, LEASE_SECONDS):
                raise ArchiveBusy("another process verifies this archive now; one association at a time is the rule")


class Checker:
    """Verifies studies of one archive."""

    def __init__(self, app: App, archive: Archive, *, actor: str, pace: Callable[[], None] = lambda: None) -> None:
        """`pace` is called before each instance is acknowledged and may wait."""
        self._app, self._archive, self._actor, self._pace = app, archive, actor, pace
        self._turn = Turn(app.database, archive.name)

    def check(self, study_uid: str, *, decode: bool, now: datetime | None = None) -> StudyComparison | int:
        """Fetch and compare a study, and keep the result.

        Without `decode`, a study with other bytes is handed over: the number of its verification is returned, for
        `compare_fetched`. Raises NotFound, ArchiveBusy, NotVerified, StorageError, and what `pace` raises.
        """
        with self._turn.held():
            known = known_study(self._app, study_uid, self._archive.name)
            with self._app.database.transaction() as session:
                number = begin_verification(session, study_uid, self._archive.name, actor=self._actor, now=now).id
            folder = new_folder(self._app.store)
            try:
                self._fetch(study_uid, folder, known)
            except SendError as fault:
                self._fail(number, str(fault))
                drop_folder(folder)
                raise NotVerified(str(fault)) from fault
            except BaseException:
                self._fail(number, "it was stopped")
                drop_folder(folder)
                raise
        comparison = compare_study(known, read_list(folder), self._app.store, decode=decode)
        if comparison.undecided:
            with self._app.database.transaction() as session:
                hand_over(session, number, str(folder.relative_to(self._app.store.root)))
            return number
        drop_folder(folder)
        return keep_result(self._app, number, comparison, now=now)

    def _fetch(self, study_uid: str, folder: Path, known: Known) -> None:
        def paced() -> None:
            self._turn.renew()
            self._pace()

        seen = [*known.first_seen.instances.values(), *known.evidence.values()]
        expected = dict.fromkeys((each.sop_class_uid, each.transfer_syntax) for each in seen)
        self._archive.fetch(study_uid, folder, expected=expected, pace=paced)

    def _fail(self, number: int, why: str) -> None:
        with self._app.database.transaction() as session:
            fail_verification(session, number, why)


def compare_fetched(app: App, number: int, elsewhere: Elsewhere | None = None) -> StudyComparison | None:
    """Decode and compare what was fetched before, and keep the result; None when there is nothing left to do.

    Repeatable: an input that takes its process down several times ends the verification, as an incident of its own.
    `elsewhere` decodes in place of this process.
    """
    with app.database.transaction() as session:
        row = verification_of(session, number)
        study_uid, archive, path = row.study_uid, row.archive, row.path
        if row.state is not VerificationState.COMPARING or path is None:
            return None
        attempt = begin_comparison(session, number)
    folder = app.store.locate(path)
    if not folder.is_dir():
        with app.database.transaction() as session:
            fail_verification(session, number, "the fetched files are gone")
        return None
    decode = attempt <= MOST_ATTEMPTS
    known, found = known_study(app, study_uid, archive), read_list(folder)
    comparison = compare_study(known, found, app.store, decode=decode, elsewhere=elsewhere)
    if not decode:
        comparison = _given_up(comparison)
    drop_folder(folder)
    return keep_result(app, number, comparison)


def keep_result(app: App, number: int, comparison: StudyComparison, *, now: datetime | None = None) -> StudyComparison:
    """Write the result down. Raises NotVerified when the archive kept something back and the rest is as it was."""
    with app.database.transaction() as session:
        if comparison.incomplete and not comparison.differs:
            kept_back = comparison.counts[State.NOT_SENT.value]
            why = f"the archive lists {kept_back} instances that it does not send"
            fail_verification(session, number, why, now=now)
        else:
            why = ""
            finish_verification(
                session,
                number,
                differs=comparison.differs,
                counts=comparison.counts,
                named=comparison.named,
                notes=comparison.notes,
                now=now,
            )
    if why:
        raise NotVerified(why)
    # The fetched files are gone.
    return replace(comparison, instances=tuple(replace(each, file=None) for each in comparison.instances))


def known_study(app: App, study_uid: str, archive: str | None) -> Known:
    """What there should be of a study: as first seen, and our own evidence objects. Raises NotFound."""
    with app.database.reading() as session:
        seen = first_seen(session, study_uid)
        evidence = evidence_in(session, study_uid, archive)
    made = {uid: _as_made(app.store, row, study_uid) for uid, (row, _) in evidence.items()}
    held = {uid: each for uid, each in made.items() if each is not None}
    delivered = frozenset(uid for uid, (_, there) in evidence.items() if there)
    return Known(seen, held, delivered)


def new_folder(store: InstanceStore) -> Path:
    """A folder for fetched files, beside the store's other drafts; what a crash leaves there is swept after a day."""
    store.check_headroom()
    folder = store.root / "drafts" / f"verification-{token_hex(8)}"
    try:
        folder.mkdir(mode=0o750)
    except OSError as fault:
        raise StorageError(f"{folder}: {fault.strerror}; check the store's folder") from fault
    return folder


def drop_folder(folder: Path) -> None:
    """Remove fetched files."""
    shutil.rmtree(folder, ignore_errors=True)


def _as_made(store: InstanceStore, row: Evidence, study_uid: str) -> Seen | None:
    """An evidence object as something to compare with; None when its file is gone or is not what we made."""
    path = store.locate(row.path)
    if not path.is_file() or file_digest(path) != row.file_sha256:
        return None
    # The header on the file is its writer's; an archive is asked for the data set alone.
    digest = received_digest(path) or row.file_sha256
    uid, sop_class = row.sop_instance_uid, row.sop_class_uid
    return Seen(uid, sop_class, study_uid, row.series_uid, ExplicitVRLittleEndian, digest, None, {}, row.path, {})


def _given_up(comparison: StudyComparison) -> StudyComparison:
    note = f"comparing it took the process down {MOST_ATTEMPTS} times"
    instances = tuple(
        replace(each, state=State.ALTERED, note=note) if each.state is State.UNDECIDED else each
        for each in comparison.instances
    )
    return replace(comparison, instances=instances)
