"""The supervisor: one process for each role, started again when it dies, which a crash of another does not touch.

It prepares the databases, says that the living live, and passes a stop on. It holds no study and no connection to a
peer.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import IntEnum
from pathlib import Path
from types import FrameType

import structlog

from config import Settings
from config.settings import Role
from gateway.app import App, CannotStart, build, configure_log, prepare
from gateway.dicom.port import open_port
from gateway.handover import hand_down
from gateway.metrics import role_died
from gateway.metrics.snapshots import Publisher, folder, forget_the_dead
from gateway.notify import InitSystem
from gateway.pipeline.queues import executor_id
from gateway.port_check import answers
from gateway.roles import process_name
from storage import AuditEvent, AuditEventType, AuditOutcome, StorageError, role_actor
from storage.audit.events import Detail
from storage.processes import beat, forget

log = structlog.get_logger(__name__)

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
STEADY_AFTER = 60.0
DRAIN_SECONDS = 30.0
WEB_DRAIN_SECONDS = 5.0  # of them, when the others need them all
HEARTBEAT_SECONDS = 5.0
PORT_PATIENCE = 3.0
TICK = 0.1
ROLE_COMMAND = (sys.executable, "-m", "gateway.roles")
_ACTOR = role_actor("supervisor")


class Exit(IntEnum):
    """How the service ends, for the init system."""

    DRAINED = 0
    KILLED = 1
    FAULT = 2


@dataclass
class Child:
    """One process and the story of its starts."""

    role: Role
    number: int = 0  # of an acceptor, from 1 on
    process: "subprocess.Popen[bytes] | None" = None
    started_at: float = 0.0
    born_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    pause: float = FIRST_PAUSE
    start_after: float = 0.0
    deaths: int = 0

    @property
    def name(self) -> str:
        return process_name(self.role, self.number)

    @property
    def executor(self) -> str:
        return executor_id(self.role, self.number)

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None


class Supervisor:
    """Keeps the processes of `roles` alive until it is told to stop."""

    def __init__(
        self,
        app: App,
        roles: Sequence[Role],
        command: Sequence[str] = ROLE_COMMAND,
        port: socket.socket | None = None,
    ) -> None:
        """`command` starts a role, given the role's name and our process id, with the settings on its input.

        `port` is the DICOM port; each acceptor is also given its number and the port's file descriptor.
        """
        self._app = app
        self._command = command
        self._settings = hand_down(app.settings).encode()
        self._port = port
        acceptors = range(1, app.settings.dicom.acceptors + 1)
        self.children = [
            Child(role, number) for role in roles for number in (acceptors if role is Role.RECEIVE else (0,))
        ]
        self._init = InitSystem()
        self._ready = False
        self._stops = 0
        self._faulty = False

    def run(self) -> Exit:
        """Block until every role has ended."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._stop)
        self._note(AuditEventType.APPLICATION_STARTED, {"roles": [child.name for child in self.children]})
        ended = threading.Event()
        threading.Thread(target=self._beat, args=(ended,), daemon=True, name="heartbeat").start()
        while not self._stops and not self._faulty:
            self._tend()
            self._report()
            time.sleep(TICK)
        how = self._drain()
        ended.set()
        self._say_goodbye()
        return Exit.FAULT if self._faulty else how

    def _stop(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the signature of a handler
        self._stops += 1

    def _report(self) -> None:
        """Tell the init system that we live and, once the ports are open, that the service does its work."""
        self._init.alive()
        if not self._ready and all(child.alive for child in self.children) and self._ports_answer():
            self._ready = True
            self._init.ready(f"running: {', '.join(child.name for child in self.children)}")

    def _ports_answer(self) -> bool:
        roles = {child.role for child in self.children}
        dicom, web = self._app.settings.dicom, self._app.settings.web
        ports = [(dicom.host, dicom.port)] if Role.RECEIVE in roles else []
        ports += [(web.host, web.port)] if Role.WEB in roles else []
        return all(answers(host, port, timeout=1) for host, port in ports)

    def _tend(self) -> None:
        now = time.monotonic()
        for child in self.children:
            if child.alive:
                if now - child.started_at > STEADY_AFTER:
                    child.pause = FIRST_PAUSE
                continue
            if child.process is not None:
                self._bury(child, now)
            if now >= child.start_after and not self._faulty:
                self._start(child, now)

    def _start(self, child: Child, now: float) -> None:
        # A session of its own: Ctrl-C in a terminal reaches the supervisor alone, which then drains in order.
        command, handles = [*self._command, child.role.value, str(os.getpid())], []
        if child.role is Role.RECEIVE and self._port is not None:
            handles = [self._port.fileno()]
            command += [str(child.number), str(handles[0])]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True, pass_fds=handles)
        try:
            assert process.stdin is not None  # noqa: S101 - asked for above
            process.stdin.write(self._settings)
            process.stdin.close()
        except BrokenPipeError:
            pass  # it died already; the next round says so
        child.process, child.started_at, child.born_at = process, now, datetime.now(UTC)
        log.info("a role's process started", of=child.name, pid=process.pid)

    def _bury(self, child: Child, now: float) -> None:
        assert child.process is not None  # noqa: S101 - `_tend` asked
        how = describe_exit(child.process.returncode)
        if child.process.returncode == Exit.FAULT and child.deaths == 0:
            # It has said what is wrong; starting it again would not mend a configuration.
            self._faulty = True
            return
        child.deaths += 1
        role_died(child.role.value)
        child.start_after = now + child.pause
        log.error(
            "a role's process died and is started again",
            of=child.name,
            exit=how,
            deaths=child.deaths,
            pause_seconds=child.pause,
        )
        child.process = None
        child.pause = min(LONGEST_PAUSE, child.pause * 2)
        self._note(
            AuditEventType.PROCESS_DIED,
            {"exit": how, "deaths": child.deaths},
            subject=child.name,
            outcome=AuditOutcome.SERIOUS_FAILURE,
        )

    def _drain(self) -> Exit:
        """Let every role finish what it holds; a second signal or the end of patience ends it."""
        log.info("stopping; each role finishes what it holds", patience_seconds=DRAIN_SECONDS)
        self._init.stopping(DRAIN_SECONDS + 10)
        if self._port is not None:
            self._port.close()  # it is free as soon as the last acceptor has closed it, too
        for child in self.children:
            if child.alive and child.process is not None:
                # The web role says that we drain until the others are done, and is stopped then.
                child.process.send_signal(signal.SIGUSR1 if child.role is Role.WEB else signal.SIGTERM)
        end = time.monotonic() + DRAIN_SECONDS + 5
        web_told = False
        while any(child.alive for child in self.children) and self._stops < 2 and time.monotonic() < end:
            others_done = not any(child.alive for child in self.children if child.role is not Role.WEB)
            if not web_told and (others_done or time.monotonic() > end - WEB_DRAIN_SECONDS):
                web_told = True
                self._terminate_web()
            self._init.alive()
            time.sleep(TICK)
        late = [child for child in self.children if child.alive]
        for child in late:
            log.warning("a role is killed after the drain; its work resumes at the next start", of=child.name)
            if child.process is not None:
                child.process.kill()
                child.process.wait()
        log.info("stopped")
        return Exit.KILLED if late else Exit.DRAINED

    def _terminate_web(self) -> None:
        for child in self.children:
            if child.role is Role.WEB and child.alive and child.process is not None:
                child.process.terminate()

    def _beat(self, ended: threading.Event) -> None:
        """Write down which executors live, so that a peer can take up the work of one that does not.

        Here and not in the roles: native code that holds a role's interpreter for minutes must not make it look dead.
        """
        host = socket.gethostname()
        while True:
            living = [(child, child.process) for child in self.children if child.alive]
            try:
                with self._app.database.transaction() as session:
                    for child, process in living:
                        if process is not None:
                            beat(
                                session,
                                child.executor,
                                role=child.role.value,
                                host=host,
                                pid=process.pid,
                                started_at=child.born_at,
                            )
            except StorageError as fault:
                log.warning("the heartbeats are not written", reason=str(fault))
            if ended.wait(HEARTBEAT_SECONDS if living else TICK):
                return

    def _say_goodbye(self) -> None:
        try:
            with self._app.database.transaction() as session:
                for child in self.children:
                    forget(session, child.executor)
        except StorageError as fault:
            log.warning("the end is not written down", reason=str(fault))
        self._note(AuditEventType.APPLICATION_STOPPED, {})

    def _note(
        self,
        event: AuditEventType,
        details: dict[str, Detail],
        subject: str | None = None,
        outcome: AuditOutcome = AuditOutcome.SUCCESS,
    ) -> None:
        try:
            self._app.ledger.record(AuditEvent(event, _ACTOR, outcome, subject=subject, details=details))
        except StorageError as fault:
            log.warning("an audit event is lost", audit_event=event.value, reason=str(fault))


def supervise(
    settings: Settings,
    config: Path | None,  # noqa: ARG001 - where the settings came from; the roles get them as they are
    roles: Sequence[Role],
    command: Sequence[str] = ROLE_COMMAND,
) -> int:
    """Run the service until it is told to stop; the exit code of `scanwarden serve`."""
    configure_log(settings)
    try:
        if Role.RECEIVE in roles:
            require_free_port("dicom.port", settings.dicom.host, settings.dicom.port)
        if Role.WEB in roles:
            require_free_port("web.port", settings.web.host, settings.web.port)
        prepare(settings)
        forget_the_dead(folder(settings))
        port = open_port(settings.dicom.host, settings.dicom.port) if Role.RECEIVE in roles else None
    except CannotStart as fault:
        log.error("the service cannot start", reason=str(fault))  # noqa: TRY400 - a fault of the place, not of the code
        return Exit.FAULT
    except OSError as fault:
        log.error("the service cannot start", reason=f"dicom.port: {fault.strerror}")  # noqa: TRY400 - as above
        return Exit.FAULT
    with (
        port or nullcontext(),
        build(settings) as app,
        Publisher(folder(settings), f"supervisor-{roles[0]}").running(),
    ):
        return Supervisor(app, roles, command, port).run()


def require_free_port(key: str, host: str, port: int) -> None:
    """Raise CannotStart when the port that `key` sets is in use, unless its holder is just about to end."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    end = time.monotonic() + PORT_PATIENCE
    while True:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as fault:
                if time.monotonic() > end:
                    raise CannotStart(
                        f"{key}: cannot listen on {host}:{port} ({fault.strerror}); "
                        "stop what uses it or choose another port"
                    ) from fault
                time.sleep(TICK)
            else:
                return


def describe_exit(returncode: int) -> str:
    """How a process ended, in words."""
    return f"signal {signal.Signals(-returncode).name}" if returncode < 0 else f"code {returncode}"
