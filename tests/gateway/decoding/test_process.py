"""Decoding in a process of its own: the same pixels, and nothing that it does takes anybody else down."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from time import monotonic, sleep
from typing import Any

import numpy as np
import psutil
import pytest
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.uid import DeflatedExplicitVRLittleEndian

from gateway.decoding import DecodingProcess
from gateway.decoding.process import MOST_DEATHS, DecoderDied
from inference.decoding import decode, refuse_unreadable
from inference.errors import UndecodablePixelData, UnreadableInstance
from inference.instances import Instance, read_instance
from storage.digests import content_digest, pixel_digest
from tests.faults.modality import make_study
from tests.gateway.decoding.breaking import CRASHES, HANGS, LIES, SWELLS

GIB = 1024**3
BREAKING = (sys.executable, "-m", "tests.gateway.decoding.breaking")


@pytest.fixture(scope="module")
def decoding() -> Iterator[DecodingProcess]:
    with DecodingProcess(memory_limit=GIB, timeout=30) as process:
        yield process


@pytest.fixture(scope="module")
def broken() -> Iterator[DecodingProcess]:
    with DecodingProcess(memory_limit=GIB, timeout=4, command=BREAKING) as process:
        yield process


@pytest.fixture
def instance(tmp_path: Path) -> Callable[..., Instance]:
    """An image whose header is changed by `change`."""

    def make(number: int = 1, change: Callable[[Dataset], None] = lambda _: None) -> Instance:
        file = make_study(tmp_path, edited=False, slices=1, seed=number).files[0]
        dataset = dcmread(file)
        dataset.InstanceNumber = number
        change(dataset)
        dcmwrite(file, dataset, enforce_file_format=True)
        return read_instance(file)

    return make


def test_frames_and_digests_are_those_of_decoding_here(
    decoding: DecodingProcess, instance: Callable[..., Instance]
) -> None:
    image = instance()
    (here,), (there,) = decode(image), decoding.frames(image)
    np.testing.assert_array_equal(here, there)
    assert decoding.digests(image.file)[1] == pixel_digest(dcmread(image.file))
    assert decoding.content_digest(image.file) == content_digest(dcmread(image.file))


def test_many_frames_come_one_after_the_other(decoding: DecodingProcess, instance: Callable[..., Instance]) -> None:
    def threefold(dataset: Dataset) -> None:
        dataset.NumberOfFrames = 3
        dataset.PixelData = b"".join(bytes([value]) * 64 * 64 * 2 for value in (1, 2, 3))

    image = instance(change=threefold)
    assert [float(frame[0, 0]) for frame in decoding.frames(image)] == [257, 514, 771]
    frames = decoding.frames(image)
    next(frames)
    del frames  # who asks may go away in between
    assert len(list(decoding.frames(image))) == 3


def test_what_cannot_be_decoded_is_the_same_error_and_the_process_goes_on(
    decoding: DecodingProcess, instance: Callable[..., Instance]
) -> None:
    def cut(dataset: Dataset) -> None:
        dataset.PixelData = dataset.PixelData[:100]

    assert len(list(decoding.frames(instance(1)))) == 1
    before, image = decoding.pid, instance(2, cut)
    faults = []
    for way in (decode, decoding.frames):
        with pytest.raises(UnreadableInstance) as caught:
            list(way(image))
        faults.append((type(caught.value), str(caught.value)))
    assert faults[0] == faults[1]
    assert decoding.pid == before


@pytest.mark.parametrize(
    ("number", "says"),
    [(CRASHES, "its decoder crashed"), (HANGS, "took longer than 4 s"), (SWELLS, "needs more than"), (LIES, "no such")],
)
def test_attack_a_codec_that_breaks_costs_its_instance_and_no_other(
    broken: DecodingProcess, instance: Callable[..., Instance], number: int, says: str
) -> None:
    with broken.study():
        with pytest.raises(UndecodablePixelData, match=says):
            list(broken.frames(instance(number)))
        assert len(list(broken.frames(instance(1)))) == 1


def test_attack_a_study_of_bad_instances_is_given_up(
    broken: DecodingProcess, instance: Callable[..., Instance]
) -> None:
    bad = instance(CRASHES)
    with broken.study():
        for _ in range(MOST_DEATHS):
            with pytest.raises(UndecodablePixelData, match="crashed"):
                list(broken.frames(bad))
        with pytest.raises(DecoderDied, match="ended the decoder 3 times"):
            broken.digests(bad.file)
    assert len(list(broken.frames(instance(1)))) == 1


def test_attack_a_bomb_ends_at_the_limit(instance: Callable[..., Instance]) -> None:
    """A few kilobytes, honest about a matrix whose pixels do not fit."""

    def bomb(dataset: Dataset) -> None:
        dataset.Rows = dataset.Columns = 6_000
        dataset.PixelData = bytes(2 * 6_000**2)
        dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian

    image = instance(change=bomb)
    assert image.file.stat().st_size < 1024**2
    refuse_unreadable(image, 1 << 27)
    with (
        DecodingProcess(memory_limit=GIB // 2, timeout=30) as decoding,
        pytest.raises(UndecodablePixelData, match=r"needs more than|crashed|Unable to allocate|memory"),
    ):
        list(decoding.frames(image))


def test_the_worker_ends_with_the_one_who_asks(instance: Callable[..., Instance]) -> None:
    decoding = DecodingProcess(memory_limit=GIB, timeout=30)
    list(decoding.frames(instance()))
    assert decoding.pid is not None
    worker = psutil.Process(decoding.pid)
    del decoding
    began = monotonic()
    while worker.is_running() and monotonic() - began < 10:
        pass
    assert not worker.is_running()


def test_the_thread_that_started_the_worker_may_end(instance: Callable[..., Instance]) -> None:
    image = instance()
    with DecodingProcess(memory_limit=GIB, timeout=30) as decoding:
        thread = Thread(target=lambda: list(decoding.frames(image)))
        thread.start()
        thread.join()
        before = decoding.pid
        assert len(list(decoding.frames(image))) == 1
        assert decoding.pid == before


def test_attack_a_codec_that_hangs_does_not_outlive_a_killed_service(
    instance: Callable[..., Instance], tmp_path: Path
) -> None:
    code = f"""
import sys, threading, time
from pathlib import Path
from gateway.decoding import DecodingProcess
from gateway.decoding import process
from inference.instances import read_instance
process.GRACE = 0
decoding = DecodingProcess(memory_limit={GIB}, timeout=3, command={BREAKING!r})
threading.Thread(target=lambda: list(decoding.frames(read_instance(Path({str(instance(HANGS).file)!r}))))).start()
while decoding.pid is None:
    time.sleep(0.01)
print(decoding.pid, flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as service:
        assert service.stdout is not None
        worker = psutil.Process(int(service.stdout.readline()))
        service.kill()
    began = monotonic()
    while worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE and monotonic() - began < 20:
        sleep(0.05)
    assert not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE


def test_nothing_that_comes_back_is_unpickled(monkeypatch: pytest.MonkeyPatch, decoding: DecodingProcess) -> None:
    """A decoder that was broken into speaks for the attacker."""
    from multiprocessing import connection

    def refuse(*_: Any) -> None:
        raise AssertionError("unpickled")

    monkeypatch.setattr(connection.Connection, "recv", refuse)
    monkeypatch.setattr("multiprocessing.connection._ForkingPickler.loads", refuse)
    with pytest.raises(Exception, match=r"No such file|Errno 2"):
        decoding.content_digest(Path("/nowhere"))
