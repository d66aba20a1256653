"""A full disk, a failing disk, a database that is away: the sender is told to come again, and then it works."""

import json
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from errno import EIO, ENOSPC
from pathlib import Path

import pytest

from gateway.dicom.congestion import Congestion, MemoryWatermark
from gateway.dicom.places import Places
from storage import AuditEvent, AuditEventType, InstanceStore, Ledger, StoreFull, Upload
from storage.tables import RevisionState
from tests.gateway.dicom.conftest import Gateway, Modality, Start, eventually, mr_image


def test_a_disk_that_fills_up_within_a_data_set(
    gateway: Gateway, modality: Modality, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int, data: bytes) -> int:
        raise OSError(ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("storage.instances.os.write", full)
        status, comment = modality.store(mr_image())
    assert (status, comment) == (0xA700, "no space to store this; send again later")
    assert gateway.files() == []
    (event,) = gateway.events(AuditEventType.INSTANCE_REFUSED)
    assert json.loads(event.details)["reason"] == "store_unavailable"
    assert modality.store(mr_image())[0] == 0, "it works again without a restart"


def test_a_disk_that_does_not_make_durable_is_not_acknowledged(
    gateway: Gateway, modality: Modality, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(handle: int) -> None:
        raise OSError(EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr("storage.instances.os.fsync", failing)
        status, _ = modality.store(mr_image())
    assert status == 0x0110
    assert gateway.instances() == []
    assert gateway.files() == []
    assert modality.store(mr_image())[0] == 0


def test_a_locked_database_delays_nothing_but_its_own_answers(gateway: Gateway, modality: Modality) -> None:
    image = mr_image()
    other = sqlite3.connect(gateway.store.root / "scanwarden.sqlite")
    other.execute("BEGIN IMMEDIATE")
    status, comment = modality.store(image)
    assert (status, comment) == (0xA700, "the index does not answer; send again later")
    other.rollback()
    other.close()
    assert gateway.files() == []
    assert modality.store(image) == (0, "")
    gateway.receiver.drain()
    (event,) = gateway.events(AuditEventType.INSTANCE_REFUSED)
    assert event.subject == image.SOPInstanceUID, "the event that waited for the database is not lost"
    assert Ledger(gateway.database).verify().intact


def test_a_fault_of_ours_is_a_status_and_the_association_goes_on(
    gateway: Gateway, modality: Modality, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("Secret^Patient")

    with monkeypatch.context() as patch:
        patch.setattr("storage.indexing.record_instances", broken)
        status, comment = modality.store(mr_image())
    assert status == 0x0110
    assert "Secret" not in comment
    assert gateway.files() == []
    assert modality.store(mr_image())[0] == 0


@pytest.mark.peers
def test_above_the_disks_watermark_new_associations_are_refused_for_now(
    start: Start, program: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = start()

    def full(store: InstanceStore) -> None:
        raise StoreFull("92 % of the disk is in use")

    command = [program("/usr/bin/echoscu"), "-v", "-aec", "SCANWARDEN", "127.0.0.1", str(gateway.port)]
    with monkeypatch.context() as patch:
        patch.setattr(InstanceStore, "check_headroom", full)
        heard = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert "Local Limit Exceeded" in heard.stdout + heard.stderr
    assert gateway.refused_associations()[0]["reason"] == "watermark"
    subprocess.run(command, timeout=30, check=True, capture_output=True)


def test_a_crowded_queue_refuses_new_associations_until_it_has_emptied(start: Start) -> None:
    gateway = start()
    sender = Modality(gateway)
    for _ in range(4):
        assert sender.store(mr_image())[0] == 0
    sender.close()
    now = 0.0
    queues = gateway.settings.queues.model_copy(update={"high_watermark": 3, "low_watermark": 2})
    congestion = Congestion(gateway.store, gateway.database, queues, clock=lambda: now)

    def waiting(count: int) -> str | None:
        nonlocal now
        now += 10
        with gateway.database.transaction() as session:
            for number, revision in enumerate(gateway.revisions()):
                revision = session.merge(revision)
                revision.state = RevisionState.CLOSED if number < count else RevisionState.DONE
        return congestion()

    assert [waiting(n) is None for n in (0, 2, 3, 2, 1, 2, 4)] == [True, True, False, False, True, True, False]


def test_memory_above_its_watermark_refuses_until_there_is_room_again(tmp_path: Path) -> None:
    now, taken = 0.0, 0
    with closing(Places(tmp_path, most=8)) as places:
        memory = MemoryWatermark(1000, places, measure=lambda: taken, clock=lambda: now)

        def short(size: int) -> bool:
            nonlocal now, taken
            now, taken = now + 10, size
            return memory()

        assert [short(size) for size in (500, 999, 1000, 950, 901, 899, 950, 1001)] == [
            False, False, True, True, True, False, False, True,
        ]  # fmt: skip


def test_without_memory_associations_and_instances_are_refused_for_now(
    gateway: Gateway, modality: Modality, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(gateway.receiver._memory, "_measure", lambda: 1 << 40)
        assert eventually(lambda: gateway.receiver._memory())
        for _ in range(5):
            assert modality.store(mr_image()) == (0xA701, "no memory to receive this; send again later")
        with pytest.raises(AssertionError):
            Modality(gateway)
        assert gateway.refused_associations()[0]["reason"] == "watermark"
    assert eventually(lambda: not gateway.receiver._memory())
    assert modality.store(mr_image())[0] == 0
    Modality(gateway).close()
    assert len(gateway.events(AuditEventType.INSTANCE_REFUSED)) == 1  # and a count, a minute later


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 12 MiB where the first gateway's store lies."""
    root = tmp_path / "var0"
    root.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(root)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    yield root
    subprocess.run(["umount", "--lazy", str(root)], check=True)


def test_on_a_full_disk_the_ledger_is_still_written_and_room_is_used_without_a_restart(
    start: Start, small_disk: Path
) -> None:
    """A real file system that fills up: the reserve is the ledger's, whatever keeps sending."""
    gateway = start(store_settings={"reserve_bytes": 4 * 1024**2})
    sender = Modality(gateway)
    large = {"Rows": 512, "Columns": 512, "PixelData": bytes(512 * 1024)}
    answers = [sender.store(mr_image(**large))[0] for _ in range(60)]
    stored = answers.index(0xA700)
    assert stored >= 5
    assert set(answers[stored:]) == {0xA700}
    assert len(gateway.events(AuditEventType.INSTANCE_STORED)) == stored
    assert len(gateway.events(AuditEventType.INSTANCE_REFUSED)) == 1
    ledger = Ledger(gateway.database)
    for number in range(200):  # the reserve is real
        ledger.record(AuditEvent(AuditEventType.APPLICATION_STARTED, "test", details={"number": number}))
    assert ledger.verify().intact
    with pytest.raises(AssertionError):
        Modality(gateway)
    for path in gateway.files():
        path.unlink()
    assert sender.store(mr_image(**large))[0] == 0
    Modality(gateway).close()
    sender.close()


def test_memory_does_not_hold_what_arrives(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """A data set is written while it arrives, never gathered."""
    largest = 0
    write = Upload.write

    def watched(upload: Upload, data: bytes) -> None:
        nonlocal largest
        largest = max(largest, len(data))
        write(upload, data)

    monkeypatch.setattr(Upload, "write", watched)
    sender = Modality(gateway)
    assert sender.store(mr_image(Rows=2000, Columns=2000, PixelData=bytes(8_000_000)))[0] == 0
    sender.close()
    assert largest <= gateway.settings.dicom.max_pdu


def test_a_store_that_vanishes_is_an_answer(gateway: Gateway, modality: Modality, tmp_path: Path) -> None:
    incoming = gateway.store.root / "incoming"
    incoming.rename(tmp_path / "away")
    status, _ = modality.store(mr_image())
    assert status == 0x0110
    (tmp_path / "away").rename(incoming)
    assert modality.store(mr_image())[0] == 0
