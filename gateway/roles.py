"""What each role does in its process, from its start to its drained end.

`python -m gateway.roles ROLE SUPERVISOR_PID` is such a process, with the settings on its standard input. An acceptor,
one of several that receive, is also given its number and the file descriptor of the port.
"""

import ctypes
import fcntl
import gc
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

import structlog

from config import Settings
from config.settings import Role
from gateway.app import App, CannotStart, build, configure_log
from gateway.handover import take_over
from gateway.metrics import write_waited
from gateway.metrics.snapshots import Publisher, folder
from storage import AuditEvent, AuditEventType, AuditOutcome, role_actor

if TYPE_CHECKING:
    from gateway.pipeline.analysing import Analyst

log = structlog.get_logger(__name__)

EXIT_FAULT = 2
LOCK_PATIENCE = 5.0
DRAIN_SECONDS = 25.0  # below the supervisor's patience
PR_SET_PDEATHSIG = 1


def main(arguments: Sequence[str]) -> int:
    """One role's process; its exit code."""
    role = Role(arguments[0])
    die_with(int(arguments[1]))
    settings = take_over(sys.stdin.read())
    configure_log(settings)
    number, port = (int(arguments[2]), int(arguments[3])) if arguments[2:] else (0, None)
    structlog.contextvars.bind_contextvars(role=process_name(role, number))
    return run(role, settings, number, port)


def die_with(supervisor: int) -> None:
    """Have the kernel kill this process when its supervisor ends in any way: no role holds the port for nobody."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != supervisor:
        os._exit(1)  # it ended before we asked


def process_name(role: Role, number: int = 0) -> str:
    """What a process is called: by its role, and its number where several share one."""
    return f"{role.value}-{number}" if number else role.value


def run(role: Role, settings: Settings, number: int = 0, port: int | None = None) -> int:
    """Do a role's work until SIGTERM; the exit code of its process. `number` and `port` as for `main`."""
    name = process_name(role, number)
    try:
        with build(settings) as app, only_one(app, name), _counted(app, name):
            if role is Role.RECEIVE:
                _receive(app, _inherited(port) if port is not None else None)
            else:
                _WORK[role](app)
    except CannotStart as fault:
        log.error("a role cannot start", reason=str(fault))  # noqa: TRY400 - a fault of the place, not of the code
        return EXIT_FAULT
    return 0


@contextmanager
def only_one(app: App, name: str) -> Iterator[None]:
    """Hold a process's name on this machine and store: two with one executor id would take each other's workflows.

    The kernel lets go of the lock however this process ends. Raises CannotStart when another one holds it.
    """
    folder = app.store.root / "run"
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}@{socket.gethostname()}.lock"
    with path.open("a+") as lock:
        end = time.monotonic() + LOCK_PATIENCE
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as fault:
                if time.monotonic() > end:
                    lock.seek(0)
                    raise CannotStart(
                        f"another {name} process (pid {lock.read().strip() or 'unknown'}) works on "
                        f"{app.store.root}; stop it, or give this service a store.root of its own"
                    ) from fault
                time.sleep(0.1)
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


@contextmanager
def _counted(app: App, name: str) -> Iterator[None]:
    """Publish what this process counts, the waits for the database too."""
    app.database.on_wait = write_waited
    with Publisher(folder(app.settings), name).running():
        yield


def _receive(app: App, listening: socket.socket | None) -> None:
    from gateway.dicom import receiver
    from gateway.dicom.tls import TlsFault

    # What is loaded by now stays for good. pynetdicom's port collects garbage every few seconds, all of it under the
    # interpreter's lock: a pause for every sender, and a tenth of the receive path's processor time.
    gc.collect()
    gc.freeze()
    try:
        receiver.start(app.settings, app.database, app.store, listening=listening)
    except (receiver.PortUnavailable, TlsFault) as fault:
        raise CannotStart(str(fault)) from fault


def _inherited(handle: int) -> socket.socket:
    listening = socket.socket(fileno=handle)
    listening.set_inheritable(False)
    return listening


def _analyse(app: App) -> None:
    from gateway.pipeline.limits import limit_memory
    from gateway.pipeline.queues import ANALYSE_QUEUE, Worker, executor_id

    stop = _stopped_by_signal()
    limit_memory(app.settings.analysis.memory_limit)
    from gateway.pipeline.workflow import register_revisions, register_verifications

    analyst = ready_analyst(app)
    worker = Worker(app.settings, executor_id(Role.ANALYSE), [ANALYSE_QUEUE])
    register_revisions(worker, app, analyst)
    register_verifications(worker, app, analyst.decoding)
    worker.start()
    log.info("analysing", models=[each.name for each in analyst.models], model_set=analyst.model_set[:16])
    stop.wait()
    worker.stop(DRAIN_SECONDS)
    analyst.decoding.close()


def ready_analyst(app: App) -> "Analyst":
    """Who analyses, its models loaded and verified.

    Raises CannotStart where they cannot be; weights that are not those of their card are an event of the ledger, too.
    """
    from gateway.pipeline.analysing import Analyst
    from inference.errors import InferenceError
    from models.errors import ModelsError, WeightsMismatch

    try:
        return Analyst(app)
    except WeightsMismatch as fault:
        actor, details = role_actor(Role.ANALYSE.value), {"reason": str(fault)}
        app.ledger.record(
            AuditEvent(AuditEventType.WEIGHTS_REFUSED, actor, AuditOutcome.SERIOUS_FAILURE, details=details)
        )
        raise CannotStart(f"analysis: {fault}") from fault
    except (ModelsError, InferenceError) as fault:
        raise CannotStart(f"analysis: {fault}") from fault


def _deliver(app: App) -> None:
    from gateway.pipeline.committing import Committer
    from gateway.pipeline.forwarding import Forwarder
    from gateway.pipeline.queues import DELIVER_QUEUE, Worker, executor_id
    from gateway.pipeline.workflow import register_deliveries

    stop = _stopped_by_signal()
    worker = Worker(app.settings, executor_id(Role.DELIVER), [DELIVER_QUEUE])
    register_deliveries(worker, app)
    worker.start()
    outgoing = (Committer(app, executor_id(Role.DELIVER)).run, Forwarder(app, executor_id(Role.DELIVER)).run)
    threads = [threading.Thread(target=each, args=(stop,), name="outgoing", daemon=True) for each in outgoing]
    for thread in threads:
        thread.start()
    log.info("delivering", destinations=[each.name for each in app.settings.destinations])
    stop.wait()
    worker.stop(DRAIN_SECONDS)
    for thread in threads:
        thread.join(timeout=2)  # what they hold is durable


def _timetable(app: App) -> None:
    from gateway.pipeline.queues import WorkQueues, executor_id
    from gateway.pipeline.timetable import Timetable

    stop = _stopped_by_signal()
    with WorkQueues(app.settings) as queues:
        Timetable(app, queues, executor_id(Role.TIMETABLE)).run(stop)


def _web(app: App) -> None:
    from gateway.web.server import serve

    serve(app)


_WORK = {
    Role.ANALYSE: _analyse,
    Role.DELIVER: _deliver,
    Role.TIMETABLE: _timetable,
    Role.WEB: _web,
}


def _stopped_by_signal() -> threading.Event:
    stop = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature of a handler
        stop.set()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    return stop


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
