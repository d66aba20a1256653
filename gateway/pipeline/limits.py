"""Bounds of the analysing process: memory by the kernel, time by an alarm that no decoder can hold up.

A process that passes a bound dies and its supervisor starts it anew; the attempt that it committed before it began
tells which study keeps doing this (`analysing`).
"""

import os
import resource
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

EXIT_OUT_OF_TIME = 75
EXIT_OUT_OF_MEMORY = 76
# The alarm comes after the orderly way out, for the case that native code holds the interpreter.
ALARM_AFTER = 5.0


def limit_memory(limit: int) -> None:
    """Let allocations above `limit` bytes of private writable memory fail in this process (setrlimit(2), RLIMIT_DATA).

    Not RLIMIT_AS: CUDA and thread stacks reserve address space that they never touch.
    """
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    resource.setrlimit(resource.RLIMIT_DATA, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


@contextmanager
def deadline(seconds: float, expired: Callable[[], None]) -> Iterator[None]:
    """End this process when the block takes longer than `seconds`; `expired` may write down why.

    A thread calls `expired` and leaves with EXIT_OUT_OF_TIME. Native code that holds the interpreter's lock stops that
    thread too, so SIGALRM with its default action follows ALARM_AFTER seconds later.
    """

    def leave() -> None:
        try:
            expired()
        finally:
            os._exit(EXIT_OUT_OF_TIME)

    timer = threading.Timer(seconds, leave)
    timer.daemon = True
    signal.setitimer(signal.ITIMER_REAL, seconds + ALARM_AFTER)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        signal.setitimer(signal.ITIMER_REAL, 0)
