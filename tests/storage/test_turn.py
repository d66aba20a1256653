"""Writers of a SQLite file stand in line."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from storage import turn as turn_module
from storage.turn import Turn

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "database.sqlite"
    path.touch()
    return path


@pytest.fixture
def first(file: Path) -> Iterator[Turn]:
    with closing(Turn(file)) as turn:
        yield turn


@pytest.fixture
def second(file: Path) -> Iterator[Turn]:
    with closing(Turn(file)) as turn:
        yield turn


def test_there_is_one_turn(first: Turn, second: Turn) -> None:
    assert first.take(0)
    assert not second.take(0.05)
    first.give()
    assert second.take(0)


def test_who_has_just_written_comes_after_who_waits(first: Turn, second: Turn) -> None:
    """Without the line the first, which is always ready, would have the turn again and again."""
    order: list[str] = []
    ready, done = threading.Event(), threading.Event()

    def wait() -> None:
        ready.set()
        assert second.take(30)
        order.append("second")
        second.give()
        done.set()

    assert first.take(30)
    waiter = threading.Thread(target=wait)
    waiter.start()
    ready.wait()
    while first._places is not None and first._places[0]._is_free():  # until the second is next
        first._places[0].leave()
    for _ in range(3):
        first.give()
        assert first.take(30)
        order.append("first")
    first.give()
    waiter.join()
    assert order[0] == "second"


def test_who_waits_is_told(first: Turn, second: Turn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turn_module, "_UNTOLD", 3600)
    assert first.take(0)
    told = threading.Thread(target=second.take, args=(3600,), daemon=True)
    told.start()
    while first._places is not None and first._places[0]._is_free():
        first._places[0].leave()
    first.give()
    told.join(timeout=30)
    assert not told.is_alive()


def test_the_turn_of_a_process_that_is_killed_is_free(file: Path, first: Turn) -> None:
    code = (
        "import sys, time; from pathlib import Path; from storage.turn import Turn\n"
        "print(Turn.take(turn := Turn(Path(sys.argv[1])), 10), flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(file)]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        assert not first.take(0)
        process.kill()
    assert first.take(10)


def test_without_its_files_sqlites_own_lock_decides(first: Turn, second: Turn, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        assert first.take(0)
        assert second.take(0)
        first.give()
        second.give()
    assert first.take(0)
    assert not second.take(0)
