"""What an archive may be asked for: so many instances a second, so many studies an hour. Clocks come from outside."""

import threading
import time
from collections.abc import Callable


class Stopped(Exception):
    """The process is to end; what was fetched so far is given up."""


class Pace:
    """Lets one instance pass every so many seconds. Called before each is acknowledged, it holds up the next."""

    def __init__(
        self,
        per_second: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], bool] | None = None,
        also: Callable[[], None] = lambda: None,
    ) -> None:
        """`wait` sleeps and says whether to stop (as `threading.Event.wait`); `also` is called with each instance."""
        self._interval = 1 / per_second
        self._clock = clock
        self._wait = wait or threading.Event().wait
        self._also = also
        self._next = float("-inf")

    def __call__(self) -> None:
        """Wait for the next place. Raises Stopped."""
        self._also()
        now = self._clock()
        if now < self._next and self._wait(self._next - now):
            raise Stopped
        # From when it was due, not from when we woke: late wake-ups must not add up. A pause is not made up for.
        self._next = max(self._next, now) + self._interval


class Spacing:
    """Keeps studies apart: at most so many an hour, however often it is asked."""

    def __init__(self, per_hour: float) -> None:
        self.seconds = 3600 / per_hour

    def due(self, last_started: float | None, now: float) -> bool:
        """Whether the next study may begin `now`; both in seconds of one clock. A clock set back waits no longer."""
        return last_started is None or not 0 <= now - last_started < self.seconds
