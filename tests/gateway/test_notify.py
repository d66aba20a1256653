"""systemd's notification protocol (sd_notify(3)), received on a real datagram socket."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.notify import InitSystem


@pytest.fixture
def line(tmp_path: Path) -> Iterator[socket.socket]:
    """What systemd holds of the line."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiving:
        receiving.bind(str(tmp_path / "notify"))
        receiving.setblocking(False)
        yield receiving


def heard(line: socket.socket) -> list[str]:
    messages = []
    while True:
        try:
            messages.append(line.recv(4096).decode())
        except BlockingIOError:
            return messages


def test_readiness_and_the_stop_are_told(line: socket.socket) -> None:
    init = InitSystem({"NOTIFY_SOCKET": str(line.getsockname())})
    init.ready("running: receive")
    init.alive()  # nobody asked for a watchdog
    init.stopping(40)
    assert heard(line) == [
        "READY=1\nSTATUS=running: receive",
        "STOPPING=1\nSTATUS=finishing what is open\nEXTEND_TIMEOUT_USEC=40000000",
    ]


def test_the_watchdog_is_fed_as_often_as_it_wants(line: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("gateway.notify.time.monotonic", lambda: now)
    init = InitSystem({"NOTIFY_SOCKET": str(line.getsockname()), "WATCHDOG_USEC": "30000000"})
    for now in (100.0, 101.0, 109.9, 110.0, 119.9, 120.0):  # noqa: B007 - the clock reads it
        init.alive()
    assert heard(line) == ["WATCHDOG=1"] * 3


@pytest.mark.parametrize(
    "environment",
    [{"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid() + 1)}, {"WATCHDOG_USEC": "often"}, {}],
)
def test_a_watchdog_that_means_another_process_is_not_fed(line: socket.socket, environment: dict[str, str]) -> None:
    InitSystem({"NOTIFY_SOCKET": str(line.getsockname()), **environment}).alive()
    assert heard(line) == []


def test_a_name_in_the_abstract_namespace_is_one(tmp_path: Path) -> None:
    name = f"scanwarden-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiving:
        receiving.bind(f"\0{name}")
        receiving.settimeout(5)
        InitSystem({"NOTIFY_SOCKET": f"@{name}"}).ready("x")
        assert receiving.recv(100) == b"READY=1\nSTATUS=x"


def test_without_an_init_system_nothing_is_sent_and_nothing_fails(tmp_path: Path) -> None:
    InitSystem({}).ready("x")
    InitSystem({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready("x")
