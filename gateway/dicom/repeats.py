"""Keeps a flood of equal refusals from filling the ledger: the first is written, the rest become one with a count."""

import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)

WINDOW_SECONDS = 60.0
MAX_KEYS = 64
MAX_OF_GROUP = 8


@dataclass(slots=True)
class _Window:
    opened: float
    repeats: int = 0


class Repeats(Generic[Key]):
    """Counts what happens again within a window after its first time.

    Holds at most `max_keys` keys: who invents a new AE title for every try shares the key that `overflow` makes of it.
    Where `group` is given, no more than `max_of_group` keys have the same group: further ones become their group's.
    """

    def __init__(
        self,
        overflow: Callable[[Key], Key],
        *,
        group: Callable[[Key], Key] | None = None,
        max_of_group: int = MAX_OF_GROUP,
        window: float = WINDOW_SECONDS,
        max_keys: int = MAX_KEYS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._overflow = overflow
        self._group = group
        self._max_of_group = max_of_group
        self._window = window
        self._max_keys = max_keys
        self._clock = clock
        self._lock = threading.Lock()
        self._windows: dict[Key, _Window] = {}

    def first(self, key: Key) -> bool:
        """Whether this is the first in its window and so to be written now; otherwise it is counted."""
        with self._lock:
            if key not in self._windows and self._group is not None:
                group = self._group(key)
                if sum(self._group(other) == group for other in self._windows) >= self._max_of_group:
                    key = group
            if key not in self._windows and len(self._windows) >= self._max_keys:
                key = self._overflow(key)
            window = self._windows.get(key)
            if window is None:
                self._windows[key] = _Window(self._clock())
                return True
            window.repeats += 1
            return False

    def due(self, *, all_of_them: bool = False) -> list[tuple[Key, int]]:
        """Keys whose window is over with the number of repeats in it; those without repeats are forgotten."""
        now = self._clock()
        with self._lock:
            over = [key for key, window in self._windows.items() if all_of_them or now - window.opened >= self._window]
            return [(key, repeats) for key in over if (repeats := self._windows.pop(key).repeats)]
