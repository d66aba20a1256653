"""How many connections and associations are open, by address and in total, over all acceptor processes of a machine."""

import struct
import threading
from enum import IntEnum
from pathlib import Path
from types import TracebackType
from typing import Self

from gateway.dicom.shared import SharedTable, packed

_MEMBER = struct.Struct("<IxxxxQ")  # a process, and the bytes of memory that it said it takes
_SLOT = struct.Struct("<16sII")  # address, kind, process (0: the slot is free)
_MOST_MEMBERS = 64
_SLOTS_FROM = _MOST_MEMBERS * _MEMBER.size


class Kind(IntEnum):
    """What a place is for."""

    CONNECTION = 1  # that has no association yet
    ASSOCIATION = 2


class Full(Exception):
    """There is no place; `limit` is the number that are open, `of_address` whether all of them are one address's."""

    def __init__(self, limit: int, *, of_address: bool) -> None:
        super().__init__(f"{limit} are open")
        self.limit = limit
        self.of_address = of_address


class Place:
    """One that is counted until it is closed."""

    def __init__(self, places: "Places", slot: int) -> None:
        self._places: Places | None = places
        self._slot = slot

    def close(self) -> None:
        """Give it to the next; a second time does nothing."""
        places, self._places = self._places, None
        if places is not None:
            places._leave(self._slot)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Places:
    """The table of them. A process that dies leaves its places to the others."""

    def __init__(self, folder: Path | None, *, most: int) -> None:
        """`folder`: where the machine's acceptors meet, None: in this process alone; `most`: of both kinds together."""
        self._most = most
        self._table = SharedTable(folder, "places", _SLOTS_FROM + most * _SLOT.size)
        self._closing = threading.Lock()
        self._closed = False
        self._row: int | None = None

    def take(self, kind: Kind, address: str, *, total: int, per_address: int) -> Place:
        """A place for `address`. Raises Full when `total` are taken, or `per_address` by it."""
        wanted = packed(address)
        with self._table.exclusively():
            free: int | None = None
            taken = by_address = 0
            for slot, (holder, its_kind, process) in enumerate(self._slots()):
                if not process:
                    free = slot if free is None else free
                elif its_kind == kind:
                    taken += 1
                    by_address += holder == wanted
            if by_address >= per_address:
                raise Full(per_address, of_address=True)
            if taken >= total or free is None:
                raise Full(total, of_address=False)
            _SLOT.pack_into(self._table.view, _SLOTS_FROM + free * _SLOT.size, wanted, kind, self._table.me)
        return Place(self, free)

    def count(self, kind: Kind) -> int:
        """How many of a kind are open on this machine."""
        with self._closing:
            if self._closed:
                return 0
            with self._table.exclusively():
                return sum(process != 0 and its_kind == kind for _, its_kind, process in self._slots())

    def ahead(self, *kinds: Kind) -> int:
        """How many more places we hold than the living acceptor of this machine that holds the fewest; a glance."""
        held = {
            process: 0
            for process, _ in _MEMBER.iter_unpack(self._table.view[:_SLOTS_FROM])
            if process and self._table.lives(process)
        }
        if len(held) < 2:
            return 0
        end = _SLOTS_FROM + self._most * _SLOT.size
        for _, kind, process in _SLOT.iter_unpack(self._table.view[_SLOTS_FROM:end]):
            if process in held and kind in kinds:
                held[process] += 1
        return held.get(self._table.me, 0) - min(held.values())

    def memory(self, mine: int) -> int:
        """Bytes that all acceptor processes take, of which this one takes `mine`."""
        with self._table.exclusively():
            row, others = None, 0
            for index in range(_MOST_MEMBERS):
                process, size = _MEMBER.unpack_from(self._table.view, index * _MEMBER.size)
                if process == self._table.me:
                    row = index
                elif process and self._table.lives(process):
                    others += size
                elif row is None:
                    row = index
            if row is not None:
                _MEMBER.pack_into(self._table.view, row * _MEMBER.size, self._table.me, mine)
        return others + mine

    def close(self) -> None:
        """Forget everything that this process holds."""
        with self._closing:
            if not self._closed:
                self._closed = True
                self._table.close()

    def _slots(self) -> list[tuple[bytes, int, int]]:
        """Every slot, after those of dead processes were freed."""
        end = _SLOTS_FROM + self._most * _SLOT.size
        slots = list(_SLOT.iter_unpack(self._table.view[_SLOTS_FROM:end]))
        dead = {process for process in {slot[2] for slot in slots} if process and not self._table.lives(process)}
        if dead:
            for index, slot in enumerate(slots):
                if slot[2] in dead:
                    self._free(index)
                    slots[index] = (slot[0], slot[1], 0)
        return slots

    def _leave(self, slot: int) -> None:
        with self._closing:
            if not self._closed:
                self._free(slot)

    def _free(self, slot: int) -> None:
        # Four aligned bytes: whoever looks at the table sees the slot taken or free, and nothing between.
        struct.pack_into("<I", self._table.view, _SLOTS_FROM + slot * _SLOT.size + 20, 0)
