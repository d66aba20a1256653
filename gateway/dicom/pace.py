"""How slow a sender may be: a message that trickles in for hours holds a place that others need (slow-loris)."""

import time
from collections.abc import Callable


class Pace:
    """When the message that is arriving must be whole: after a grace, and later the more of it has come.

    `rate` is in bytes a second, 0: any; `grace` in seconds, None: no limit. A sender that keeps the rate is never cut
    off, however large its data set; one that sends a byte now and then is, soon after the grace.
    """

    def __init__(self, rate: int, grace: float | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._grace = grace
        self._clock = clock
        self._begun: float | None = None
        self._bytes = 0

    def arrived(self, count: int) -> None:
        """Note `count` bytes; the first ones begin a message."""
        if self._begun is None:
            self._begun = self._clock()
        self._bytes += count

    def whole(self) -> None:
        """The message is there; nothing is waited for."""
        self._begun = None
        self._bytes = 0

    @property
    def deadline(self) -> float | None:
        """On the clock; None while no message arrives, or without limits."""
        if self._begun is None or not self._rate or self._grace is None:
            return None
        return self._begun + self._grace + self._bytes / self._rate

    @property
    def too_slow(self) -> bool:
        """Whether the message should have been whole by now."""
        deadline = self.deadline
        return deadline is not None and self._clock() > deadline
