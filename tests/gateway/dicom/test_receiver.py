"""The receive role from start to end: a busy port is told, SIGTERM lets open transfers finish, and no event is lost."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from gateway.dicom.receiver import PortUnavailable, Receiver
from gateway.dicom.repeats import Repeats
from gateway.dicom.trail import Trail, printable
from storage import AuditEvent, AuditEventType, DatabaseUnavailable, Ledger
from tests.gateway.dicom.conftest import Gateway, Modality, eventually, mr_image

REPOSITORY = Path(__file__).resolve().parents[3]


def test_a_port_in_use_is_told_with_its_number(gateway: Gateway) -> None:
    second = Receiver(gateway.settings, gateway.database, gateway.store)
    with pytest.raises(PortUnavailable, match=f"127.0.0.1:{gateway.port} .*another port"):
        second.start()


def test_a_drain_lets_an_open_transfer_finish(gateway: Gateway) -> None:
    sender = Modality(gateway)
    image = mr_image()
    parts = sender.parts(image)
    for part in parts[:-1]:
        sender.association.dul.send_pdu(part)
    assert eventually(lambda: len(gateway.files()) == 1)
    drain = threading.Thread(target=gateway.receiver.drain)
    drain.start()
    assert eventually(lambda: not accepts(gateway.settings.dicom.port))
    sender.association.dul.send_pdu(parts[-1])
    drain.join(timeout=30)
    assert [i.sop_instance_uid for i in gateway.instances()] == [image.SOPInstanceUID]


def test_a_drain_does_not_wait_for_an_association_that_only_idles(gateway: Gateway) -> None:
    sender = Modality(gateway)
    began = time.monotonic()
    gateway.receiver.drain(seconds=60)
    assert time.monotonic() - began < 30
    sender.association.join(timeout=10)
    assert sender.association.is_aborted


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def test_sigterm_ends_the_role_in_order(gateway: Gateway, tmp_path: Path) -> None:
    """`start` is what the receive role runs; here in a process of its own, as the supervisor starts it."""
    gateway.receiver.drain()
    port = gateway.settings.dicom.port
    code = (
        "from config import Settings; from storage import open_database, open_store; "
        "from gateway.dicom.receiver import start; "
        f"s = Settings(dicom={{'host': '127.0.0.1', 'port': {port}}}, store={{'root': {str(tmp_path / 'role')!r}}}); "
        "d = open_database(s); d.migrate(); start(s, d, open_store(s))"
    )
    role = subprocess.Popen([sys.executable, "-c", code], cwd=REPOSITORY, stdout=subprocess.DEVNULL)
    try:
        assert eventually(lambda: accepts(port), 60)
        os.kill(role.pid, signal.SIGTERM)
        assert role.wait(timeout=30) == 0
    finally:
        role.kill()
        role.wait()


def test_repeats_are_counted_within_a_window_and_crowds_share_a_key() -> None:
    now = 0.0
    repeats: Repeats[str] = Repeats(lambda _: "crowd", window=60, max_keys=2, clock=lambda: now)
    assert [repeats.first(key) for key in ("a", "a", "b", "c", "d", "a")] == [True, False, True, True, False, False]
    assert repeats.due() == []
    now = 60.0
    assert repeats.due() == [("a", 2), ("crowd", 1)]
    assert repeats.due() == []
    assert repeats.first("a")
    assert repeats.due(all_of_them=True) == []


def test_events_wait_for_the_database_in_their_order(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    trail = Trail(Ledger(gateway.database))
    events = [AuditEvent(AuditEventType.INSTANCE_REFUSED, f"CT{n}@127.0.0.1") for n in range(4)]

    def down(*_: object) -> None:
        raise DatabaseUnavailable("down")

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "record", down)
        trail.write(events[0])
        trail.write_later(events[1])
        trail.tick()
    trail.write(events[2])
    assert gateway.events(AuditEventType.INSTANCE_REFUSED) == []
    trail.tick()
    trail.write(events[3])
    assert [e.actor for e in gateway.events(AuditEventType.INSTANCE_REFUSED)] == [e.actor for e in events]


@pytest.mark.parametrize(
    ("sent", "kept"), [("CT1 ", "CT1"), ("", "?"), ("A\0B\x1b[31m", "A?B?[31m"), ("é" * 40, "?" * 16)]
)
def test_a_strangers_title_is_made_fit_for_a_log(sent: str, kept: str) -> None:
    assert printable(sent) == kept
