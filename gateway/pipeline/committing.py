"""Answering for what we keep: files are read again from the disk, then the peer is told (PS3.4 J, we as SCP).

A peer may delete its copy on our word. So we give it only for bytes that lie on the disk now, with the digest that they
were acknowledged with. Where the index has copies of a UID that contradict each other, or have not been compared yet,
we answer for the peer that the stored copy came from and for nobody else, and not even for that one when it sent
another copy as well: whoever is told "failed" keeps its own, and nothing is lost by that.
"""

import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from pathlib import Path

import structlog
from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation

from config.settings import Destination, Settings
from gateway.app import App
from gateway.dicom.commitment import PUSH_MODEL_INSTANCE, Reason, Status, commitment_context
from gateway.dicom.commitment_scp import report_of
from gateway.dicom.contexts import COMMITMENT
from gateway.dicom.scu import ConnectionBroken, SendError, associated
from storage import AuditEvent, AuditEventType, AuditOutcome, StorageError, role_actor
from storage.audit.ledger import append
from storage.commitment_requests import (
    copies_of,
    forget_requests,
    is_due,
    record_answer,
    record_not_reported,
    record_reported,
    take_due,
    unanswered,
)
from storage.commitments import Reference, forget_commitments
from storage.processes import acquire_lease, release_lease
from storage.tables import CommitmentRequest, Instance, InstanceState

log = structlog.get_logger(__name__)

LEASE = "commitment"
LEASE_SECONDS = 30.0
LOOK_SECONDS = 0.2
TURN = 16  # instances of one request before the next has its turn
CALL_SECONDS = 120.0  # a call back that takes longer is tried by somebody else
FORGET_SECONDS = 3600.0
JITTER = 0.25
_BLOCK = 1024**2
_DISPUTED = (InstanceState.CONTESTED, InstanceState.QUARANTINED)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the index says of one instance: a reason against it, or the copies whose files decide."""

    reason: Reason | None
    copies: tuple[Instance, ...] = ()


def judge(reference: Reference, copies: Sequence[Instance], ae_title: str) -> Judgement:
    """Whether we can answer for an instance to the peer with this AE title, as far as the index tells."""
    stored = next((each for each in copies if each.state is InstanceState.STORED), None)
    if stored is None:  # never seen, deleted for its age, or only in quarantine
        return Judgement(Reason.NO_SUCH_INSTANCE)
    if stored.sop_class_uid != reference.sop_class_uid:
        return Judgement(Reason.CLASS_INSTANCE_CONFLICT)
    disputed = [each for each in copies if each.state in _DISPUTED]
    if disputed and (stored.source_ae != ae_title or any(each.source_ae == ae_title for each in disputed)):
        return Judgement(Reason.PROCESSING_FAILURE)
    own = [each for each in copies if each.state is InstanceState.DUPLICATE and each.source_ae == ae_title]
    return Judgement(None, (stored, *own))


@dataclass
class _Check:
    """A request whose files are being read."""

    request_id: int
    asked_at: datetime
    left: Iterator[None]
    failures: dict[str, int] = field(default_factory=dict)


class Committer:
    """Looks at files and calls peers back, in the deliver role; one in an installation, which a lease names."""

    def __init__(self, app: App, holder: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._app = app
        self._holder = holder
        self._limits = app.settings.commitment
        self._clock = clock
        self._checks: dict[int, _Check] = {}
        self._leased_until = self._forget_at = float("-inf")

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set."""
        teller = threading.Thread(target=self._loop, args=(stop, self.tell), name="commitment-reports", daemon=True)
        teller.start()
        self._loop(stop, lambda: self.check(stop))
        teller.join(timeout=self._limits.timeout)
        try:
            with self._app.database.transaction() as session:
                release_lease(session, LEASE, self._holder)
        except StorageError as fault:
            log.warning("a lease runs out by itself", reason=str(fault))

    def check(self, stop: threading.Event) -> bool:
        """Look at some files of every request that waits, so that a long one does not hold up a short one.

        Whether there is more to do at once.
        """
        with self._app.database.reading() as session:
            new = unanswered(session, list(self._checks))
        if (new or self._checks) and not self._holds():
            self._checks.clear()
            return False
        for row in new:
            self._checks[row.id] = check = _Check(row.id, row.asked_at, iter(()))
            check.left = self._look(row, check, stop)
        for check in list(self._checks.values()):
            for _ in range(TURN):
                if stop.is_set():
                    return False
                if next(check.left, check) is check:
                    del self._checks[check.request_id]
                    with self._app.database.transaction() as session:
                        record_answer(session, check.request_id, check.asked_at, check.failures)
                    break
        self._forget()
        return bool(self._checks)

    def tell(self) -> bool:
        """Call back one peer whose result is due; whether there was one."""
        with self._app.database.reading() as session:
            if not is_due(session):
                return False
        with self._app.database.transaction() as session:
            row = take_due(session, CALL_SECONDS)
        if row is None:
            return False
        failure = self._call(row)
        with self._app.database.transaction() as session:
            if failure is None:
                record_reported(session, row.id, same_association=False)
            else:
                pause = self._pause(row.attempts) if self._where(row) is not None else None
                record_not_reported(session, row.id, failure, pause=pause)
                log.warning("a result of storage commitment is not told", peer=row.ae_title, reason=failure)
        return True

    def _look(self, row: CommitmentRequest, check: _Check, stop: threading.Event) -> Iterator[None]:
        """Judge one instance at each step; reading sleeps as `commitment.bytes_per_second` asks."""
        references = [Reference(sop_class, uid) for sop_class, uid in row.references]
        for start in range(0, len(references), TURN):
            part = references[start : start + TURN]
            with self._app.database.reading() as session:
                copies = copies_of(session, [each.sop_instance_uid for each in part])
            for reference in part:
                found = judge(reference, copies.get(reference.sop_instance_uid, ()), row.ae_title)
                reason = found.reason
                for copy in found.copies:
                    reason = reason or self._damaged(copy)
                    stop.wait(copy.size / self._limits.bytes_per_second)
                if reason is not None:
                    check.failures[reference.sop_instance_uid] = int(reason)
                yield

    def _damaged(self, copy: Instance) -> Reason | None:
        """Why the file of a copy is not what was acknowledged; None when it is."""
        try:
            found = digest_from_disk(self._app.store.locate(copy.path))
            problem = "" if found == copy.file_sha256 else "its digest is another one"
        except FileNotFoundError:
            found, problem = "", "its file is gone"
        except OSError as fault:
            found, problem = "", f"its file cannot be read: {fault.strerror}"
        if not problem:
            return None
        with self._app.database.transaction() as session:
            row = session.get(Instance, copy.id)
            if row is None or row.state is InstanceState.EXPIRED or row.path != copy.path:
                return Reason.NO_SUCH_INSTANCE  # deleted for its age since we looked
            event = AuditEvent(
                AuditEventType.INSTANCE_DAMAGED,
                role_actor("deliver"),
                AuditOutcome.SERIOUS_FAILURE,
                study_uid=copy.study_uid,
                subject=copy.sop_instance_uid,
                details={"reason": problem, "file_sha256": copy.file_sha256, "found_sha256": found},
            )
            append(session, [event])
        log.error("a stored instance is damaged", sop_instance_uid=copy.sop_instance_uid, reason=problem)
        return Reason.PROCESSING_FAILURE

    def _call(self, row: CommitmentRequest) -> str | None:
        """Report on an association of our own; what went wrong, or None."""
        peer = self._where(row)
        if peer is None:
            return "nobody says where it is called back: give host and port in dicom.sources"
        role = SCP_SCU_RoleSelectionNegotiation()
        role.sop_class_uid = COMMITMENT
        role.scu_role, role.scp_role = False, True
        report = report_of(row)
        try:
            with associated(peer, self._app.settings.dicom.ae_title, [commitment_context()], roles=[role]) as calling:
                answer, _ = calling.send_n_event_report(
                    report.data_set(), report.event_type, COMMITMENT, PUSH_MODEL_INSTANCE
                )
                if "Status" not in answer:
                    raise ConnectionBroken(f"{peer.ae_title} does not answer a report about storage commitment")
        except (SendError, RuntimeError, ValueError) as fault:
            return str(fault)
        code = int(answer.Status)
        return None if code == Status.SUCCESS else f"the report is answered with 0x{code:04X}"

    def _where(self, row: CommitmentRequest) -> Destination | None:
        return callback(self._app.settings, row.ae_title, row.address)

    def _pause(self, attempt: int) -> float | None:
        if attempt >= self._limits.attempts:
            return None
        pause = min(self._limits.backoff_limit, self._limits.backoff * 2.0 ** min(attempt - 1, 64))
        return pause * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - no secret

    def _holds(self) -> bool:
        if self._clock() < self._leased_until - LEASE_SECONDS / 2:
            return True
        with self._app.database.transaction() as session:
            holds = acquire_lease(session, LEASE, self._holder, LEASE_SECONDS)
        self._leased_until = self._clock() + LEASE_SECONDS if holds else float("-inf")
        return holds

    def _forget(self) -> None:
        if self._clock() < self._forget_at:
            return
        self._forget_at = self._clock() + FORGET_SECONDS
        with self._app.database.transaction() as session:
            forget_requests(session, self._limits.keep)
            forget_commitments(session, self._limits.keep)

    def _loop(self, stop: threading.Event, work: Callable[[], bool]) -> None:
        while not stop.is_set():
            more = False
            try:
                more = work()
            except StorageError as fault:
                log.warning("storage commitment waits", reason=str(fault))
            except Exception:
                log.exception("storage commitment stumbles and goes on")
                self._checks.clear()
            if not more:
                stop.wait(LOOK_SECONDS)


def callback(settings: Settings, ae_title: str, address: str) -> Destination | None:
    """Where a peer is told a result: as its source says, or where the destination with its AE title is."""
    for source in settings.dicom.sources:
        if source.ae_title == ae_title and source.host is not None and source.port is not None:
            if not source.admits(address):
                continue
            return Destination(
                name="commitment",
                ae_title=ae_title,
                host=source.host,
                port=source.port,
                tls=source.tls,
                timeout=settings.commitment.timeout,
            )
    return next((each for each in settings.destinations if each.ae_title == ae_title), None)


def digest_from_disk(path: Path) -> str:
    """SHA-256 of a file's bytes as the disk has them: what the kernel still holds of it is let go first."""
    digest = sha256()
    with path.open("rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
