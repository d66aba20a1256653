"""Whether this machine can do its work now: what `/readyz` and `scanwarden status` look at. Loads no FastAPI."""

import socket
import time
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotInTime
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Lock

import structlog

from config import Settings
from config.settings import Role
from gateway.metrics.snapshots import Snapshot, folder, read_snapshots
from gateway.port_check import answers
from storage import AuditEvent, AuditEventType, Database, InstanceStore, StorageError, role_actor
from storage.audit.ledger import append
from storage.processes import processes

log = structlog.get_logger(__name__)

SILENT_AFTER = 30.0  # seconds; a role's heart beats every 5
FRESH_SECONDS = 1.0  # one look serves all who ask within it


class NotReady(Exception):
    """A check that failed; the message says what and what to do, without a password or a patient's value."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    ok: bool
    text: str


class Readiness:
    """Looks at everything at once, each check with a time limit; a check that hangs is not begun a second time."""

    def __init__(
        self, settings: Settings, database: Database, store: InstanceStore, *, without: Collection[str] = ()
    ) -> None:
        """`database`: one of its own (`impatient`), so that a hanging one is told in time; `without`: what to leave."""
        self._settings, self._database, self._store = settings, database, store
        self._checks: dict[str, Callable[[], str]] = {
            "database": self._schema,
            "ledger": self._ledger,
            "disk": self._disk,
            "dicom_port": self._dicom_port,
            "analyse_role": self._analyse_role,
        }
        self._checks = {name: check for name, check in self._checks.items() if name not in without}
        self._pool = ThreadPoolExecutor(max_workers=len(self._checks), thread_name_prefix="readiness")
        self._running: dict[str, Future[str]] = {}
        self._lock = Lock()
        self._seen: list[Check] = []
        self._seen_at = float("-inf")

    def look(self) -> list[Check]:
        """Every check, at most a second old."""
        with self._lock:
            if time.monotonic() - self._seen_at > FRESH_SECONDS:
                self._seen = self._look()
                self._seen_at = time.monotonic()
            return self._seen

    def close(self) -> None:
        """Let go of the threads; one that hangs is left to the end of the process."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _look(self) -> list[Check]:
        for name, check in self._checks.items():
            former = self._running.get(name)
            if former is None or former.done():
                self._running[name] = self._pool.submit(check)
        end = time.monotonic() + self._settings.web.check_timeout
        return [self._result(name, self._running[name], end) for name in self._checks]

    def _result(self, name: str, future: "Future[str]", end: float) -> Check:
        try:
            return Check(name, ok=True, text=future.result(timeout=max(0.0, end - time.monotonic())))
        except NotInTime:
            return Check(name, ok=False, text=f"no answer within {self._settings.web.check_timeout:g} s")
        except (NotReady, StorageError) as fault:
            return Check(name, ok=False, text=str(fault))
        except Exception as fault:  # noqa: BLE001 - whatever it is, the others are still to be told
            log.warning("a check of the readiness failed", check=name, error=type(fault).__name__)
            return Check(name, ok=False, text=f"the check itself failed ({type(fault).__name__})")

    def _schema(self) -> str:
        self._database.check()
        return "answers, with the schema that this program needs"

    def _ledger(self) -> str:
        """Write a record as far as that goes without keeping it."""
        event = AuditEvent(AuditEventType.APPLICATION_STARTED, role_actor("web"))
        with suppress(_Undone), self._database.transaction() as session:
            append(session, [event])
            session.flush()
            raise _Undone
        return "takes records"

    def _disk(self) -> str:
        room = self._store.check_headroom()
        return f"{room.used_share:.1%} in use, {room.free / 1024**3:,.1f} GiB free"

    def _dicom_port(self) -> str:
        hosts = self._living(Role.RECEIVE)
        if socket.gethostname() not in hosts:
            if not hosts:
                raise NotReady("no process receives; look at the service's log")
            return "another machine receives"
        dicom = self._settings.dicom
        if not answers(dicom.host, dicom.port, self._settings.web.check_timeout / 2):
            raise NotReady(f"nobody answers at port {dicom.port}; look at the service's log")
        hanging = [each.name for each in read_snapshots(folder(self._settings)) if _hangs(each)]
        if hanging:
            raise NotReady(f"{', '.join(hanging)}: not heard for {SILENT_AFTER:.0f} s")
        return f"port {dicom.port} answers"

    def _analyse_role(self) -> str:
        hosts = self._living(Role.ANALYSE)
        if not hosts:
            raise NotReady(f"no analysing process was heard for {SILENT_AFTER:.0f} s; studies are kept, and wait")
        return f"{len(hosts)} alive"

    def _living(self, role: Role) -> list[str]:
        """The hosts of the processes of a role that were heard."""
        with self._database.reading() as session:
            found = [each for each in processes(session) if each.role == role.value]
        now = datetime.now(UTC)
        return [each.host for each in found if (now - each.beat_at).total_seconds() < SILENT_AFTER]


def _hangs(snapshot: Snapshot) -> bool:
    """Whether a process that receives lives, and does not get as far as saying so."""
    return snapshot.name.startswith(Role.RECEIVE) and snapshot.lives and snapshot.age > SILENT_AFTER


class _Undone(Exception):
    """Takes a transaction back."""


def impatient(settings: Settings) -> Settings:
    """Settings for the database of a check: it waits for no writer longer than a check may take."""
    patience = min(settings.database.busy_timeout, settings.web.check_timeout)
    return settings.model_copy(update={"database": settings.database.model_copy(update={"busy_timeout": patience})})
