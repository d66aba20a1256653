"""Who fails again and again is refused for a while, and cannot fill the ledger."""

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.dicom.failures import MOST_ADDRESSES, Failures
from gateway.dicom.repeats import Repeats
from tests.gateway.dicom.conftest import Gateway, Modality, Start, eventually, mr_image


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make(tmp_path: Path, clock: Clock) -> Iterator[Callable[..., Failures]]:
    made: list[Failures] = []

    def open_table(limit: int = 3, exempt: tuple[str, ...] = ()) -> Failures:
        made.append(Failures(tmp_path, limit=limit, window=60, pause=30, exempt=exempt, clock=clock))
        return made[-1]

    yield open_table
    for each in made:
        each.close()


@pytest.fixture
def failures(make: Callable[..., Failures]) -> Failures:
    return make()


def test_the_failure_that_is_too_many_refuses_an_address_for_a_while(failures: Failures, clock: Clock) -> None:
    assert [failures.failed("10.0.0.1") for _ in range(3)] == [None, None, 3]
    assert failures.refuses("10.0.0.1")
    assert not failures.refuses("10.0.0.2")
    clock.now += 30
    assert not failures.refuses("10.0.0.1")
    assert failures.failed("10.0.0.1") is None  # it begins anew


def test_failures_that_lie_far_apart_refuse_nobody(failures: Failures, clock: Clock) -> None:
    for _ in range(10):
        assert failures.failed("10.0.0.1") is None
        assert failures.failed("10.0.0.1") is None
        clock.now += 61


def test_a_success_clears_an_address(failures: Failures) -> None:
    for _ in range(10):
        assert failures.failed("10.0.0.1") is None
        assert failures.failed("10.0.0.1") is None
        failures.succeeded("10.0.0.1")


def test_all_acceptors_count_together(make: Callable[..., Failures]) -> None:
    one, other = make(), make()
    assert [one.failed("10.0.0.1"), other.failed("10.0.0.1"), one.failed("10.0.0.1")] == [None, None, 3]
    assert other.refuses("10.0.0.1")
    assert not one.over()
    assert [(pause.address, pause.refused) for pause in one.over(all_of_them=True)] == [("10.0.0.1", 1)]
    assert not other.over(all_of_them=True)


def test_a_whole_network_of_ipv6_is_one_address(failures: Failures) -> None:
    for host in range(1, 4):
        failures.failed(f"2001:db8::{host}")
    assert failures.refuses("2001:db8::77")
    assert not failures.refuses("2001:db8:0:1::1")


def test_attack_many_addresses_do_not_drive_a_refused_one_out(failures: Failures, clock: Clock) -> None:
    for _ in range(3):
        failures.failed("10.0.0.1")
    for number in range(2 * MOST_ADDRESSES):
        clock.now += 0.01
        failures.failed(f"10.1.{number // 250}.{number % 250}")
    assert failures.refuses("10.0.0.1")


def test_exempt_addresses_and_a_limit_of_0_refuse_nobody(make: Callable[..., Failures]) -> None:
    exempt = make(exempt=("10.0.0.0/8", "127.0.0.0/8"))
    off = make(limit=0)
    for _ in range(10):
        assert exempt.failed("::ffff:10.0.0.1") is None
        assert off.failed("10.9.9.9") is None
    assert not exempt.refuses("10.0.0.1")


def test_attack_a_stranger_gets_a_few_keys_and_then_shares_one() -> None:
    repeats: Repeats[tuple[str, str]] = Repeats(
        lambda _: ("*", "*"), group=lambda key: ("*", key[1]), max_of_group=4, max_keys=8
    )
    assert sum(repeats.first((f"TITLE{number}", "10.0.0.1")) for number in range(100)) == 5
    assert repeats.first(("MODALITY", "10.0.0.2"))
    assert sum(repeats.first((f"TITLE{number}", f"10.0.1.{number}")) for number in range(100)) <= 4


def knocks(gateway: Gateway) -> bytes:
    """What garbage hears; empty when the connection was closed unread."""
    try:
        with socket.create_connection(("127.0.0.1", gateway.port), 10) as stranger:
            stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
            return stranger.recv(100)
    except ConnectionError:
        return b""


def test_attack_a_burst_of_failures_is_one_event_with_its_count_and_ends_unread(start: Start) -> None:
    gateway = start(failure_limit=5, failure_pause=3, failure_exempt=[])
    for _ in range(5):
        assert knocks(gateway)
    assert eventually(lambda: not knocks(gateway))
    for _ in range(20):
        assert not knocks(gateway)
    with pytest.raises(AssertionError):
        Modality(gateway)
    events = gateway.refused_associations(2)
    assert {event["reason"] for event in events} == {"not_dicom", "failure_limit"}
    assert next(event["failures"] for event in events if event["reason"] == "failure_limit") == 5

    def is_served() -> bool:
        try:
            sender = Modality(gateway)
        except AssertionError:
            return False
        status, _ = sender.store(mr_image())
        sender.close()
        return status == 0

    assert eventually(is_served)  # without a restart
    told = [event for event in gateway.refused_associations(3) if event["reason"] == "failure_limit_over"]
    assert told[0]["connections_refused"] >= 21


def test_this_machine_itself_is_never_refused_by_default(gateway: Gateway) -> None:
    for _ in range(gateway.settings.dicom.failure_limit + 5):
        assert knocks(gateway)
