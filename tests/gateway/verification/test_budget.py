"""An archive is never asked for more than the settings allow, however eager the caller: on a clock of our own."""

import pytest

from gateway.verification.budget import Pace, Spacing, Stopped


class Clock:
    """Time that passes when somebody waits."""

    def __init__(self) -> None:
        self.now = 0.0
        self.stop = False

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> bool:
        self.now += seconds
        return self.stop


@pytest.mark.parametrize("per_second", [1, 20, 500])
def test_never_more_instances_a_second_than_allowed(per_second: int) -> None:
    clock = Clock()
    pace = Pace(per_second, clock=clock, wait=clock.wait)
    times = []
    for _ in range(5 * per_second):
        pace()
        times.append(clock.now)
    for index in range(len(times) - per_second):
        assert times[index + per_second] - times[index] >= 1 - 1e-9


def test_a_pause_of_the_archive_is_not_made_up_for_by_a_burst() -> None:
    clock = Clock()
    pace = Pace(10, clock=clock, wait=clock.wait)
    pace()
    clock.now = 100
    for _ in range(11):
        pace()
    assert clock.now >= 101 - 1e-9


def test_the_end_of_the_process_ends_the_wait() -> None:
    clock = Clock()
    pace = Pace(1, clock=clock, wait=clock.wait)
    pace()
    clock.stop = True
    with pytest.raises(Stopped):
        pace()


def test_studies_keep_their_distance_and_a_clock_set_back_stops_nothing() -> None:
    spacing = Spacing(12)
    assert spacing.due(None, 0)
    assert not spacing.due(1000, 1299)
    assert spacing.due(1000, 1300)
    assert spacing.due(1000, 500)
