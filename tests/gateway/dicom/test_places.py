"""Limits that several acceptor processes of a machine share, and what a killed one leaves to the others."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.dicom.places import Full, Kind, Places

ANOTHER = """
import sys, time
from pathlib import Path
from gateway.dicom.places import Kind, Places
places = Places(Path(sys.argv[1]), most=8)
held = [places.take(Kind.ASSOCIATION, "10.0.0.1", total=8, per_address=8) for _ in range(int(sys.argv[2]))]
places.memory(1000)
print("holds", flush=True)
time.sleep(600)
"""


@pytest.fixture
def places(tmp_path: Path) -> Iterator[Places]:
    made = Places(tmp_path, most=8)
    yield made
    made.close()


@pytest.fixture
def another(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """A further acceptor process that holds three places."""
    command = [sys.executable, "-c", ANOTHER, str(tmp_path), "3"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "holds\n"
        yield process
        process.kill()


def take(places: Places, address: str = "10.0.0.1", *, total: int = 8, per_address: int = 4) -> None:
    places.take(Kind.ASSOCIATION, address, total=total, per_address=per_address)


def test_what_one_process_holds_counts_for_another(places: Places, another: "subprocess.Popen[str]") -> None:
    assert places.count(Kind.ASSOCIATION) == 3
    take(places)
    with pytest.raises(Full) as full:
        take(places)
    assert (full.value.limit, full.value.of_address) == (4, True)
    take(places, "10.0.0.2")
    with pytest.raises(Full) as full:
        take(places, "10.0.0.3", total=5)
    assert (full.value.limit, full.value.of_address) == (5, False)
    assert places.memory(500) == 1500


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_a_process_that_is_killed_leaves_its_places(
    places: Places, another: "subprocess.Popen[str]", end: signal.Signals
) -> None:
    another.send_signal(end)
    another.wait(10)
    for _ in range(4):
        take(places)
    assert places.count(Kind.ASSOCIATION) == 4
    assert places.memory(500) == 500


def test_a_place_that_is_closed_twice_is_given_back_once(places: Places) -> None:
    first = places.take(Kind.CONNECTION, "::1", total=1, per_address=1)
    first.close()
    second = places.take(Kind.CONNECTION, "::1", total=1, per_address=1)
    first.close()
    assert places.count(Kind.CONNECTION) == 1
    second.close()
    assert places.count(Kind.CONNECTION) == 0


def test_both_kinds_have_limits_of_their_own(places: Places) -> None:
    places.take(Kind.CONNECTION, "10.0.0.1", total=1, per_address=1)
    places.take(Kind.ASSOCIATION, "10.0.0.1", total=1, per_address=1)
    assert (places.count(Kind.CONNECTION), places.count(Kind.ASSOCIATION)) == (1, 1)


def test_an_address_is_one_however_it_is_written(places: Places) -> None:
    places.take(Kind.ASSOCIATION, "10.0.0.1", total=8, per_address=1)
    with pytest.raises(Full):
        places.take(Kind.ASSOCIATION, "::ffff:10.0.0.1", total=8, per_address=1)


def test_a_folder_that_cannot_be_written_leaves_limits_for_each_process(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("no folder")
    places = Places(tmp_path / "run", most=1)
    take(places, total=1)
    with pytest.raises(Full):
        take(places, total=1)
    places.close()


def test_a_process_that_stands_still_within_a_change_holds_others_up_only_briefly(tmp_path: Path) -> None:
    one, other = Places(tmp_path, most=8), Places(tmp_path, most=8)
    with one._table.exclusively():
        take(other)
    assert one.count(Kind.ASSOCIATION) == 1
    one.close()
    other.close()
