"""A sender may be slow, and not endlessly so."""

from gateway.dicom.pace import Pace


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_sender_that_keeps_the_rate_is_never_cut_off() -> None:
    clock = Clock()
    pace = Pace(100, 10, clock=clock)
    for _ in range(10_000):
        pace.arrived(100)
        clock.now += 1
    assert not pace.too_slow


def test_attack_a_byte_now_and_then_ends_soon_after_the_grace() -> None:
    clock = Clock()
    pace = Pace(100, 10, clock=clock)
    while not pace.too_slow:
        pace.arrived(1)
        clock.now += 0.5
    assert clock.now < 12


def test_between_two_messages_nothing_is_waited_for() -> None:
    clock = Clock()
    pace = Pace(100, 10, clock=clock)
    pace.arrived(1)
    pace.whole()
    clock.now += 1000
    assert pace.deadline is None
    assert not pace.too_slow
