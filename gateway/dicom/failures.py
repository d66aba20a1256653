"""Who fails again and again is refused for a while at the connection, before TLS and parsing cost anything.

Counted for all acceptor processes of a machine together. A success clears an address: behind one address may be a
hospital's whole network, and those who do it right must not pay for a neighbour for long.
"""

import math
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from pathlib import Path

from gateway.dicom.shared import NO_ADDRESS, SharedTable, packed, unpacked

MOST_ADDRESSES = 256
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_HEADER = struct.Struct("<16sd")  # the boot whose clock is meant; until when somebody is refused, at the latest
# address, failures, connections refused since, begin of the window, refused until (0: not)
_ENTRY = struct.Struct("<16sIIdd")


@dataclass(frozen=True, slots=True)
class Pause:
    """A refusal that is over: how many connections it kept out."""

    address: str
    refused: int


class Failures:
    """The addresses that failed lately, the oldest forgotten for a new one when there are too many."""

    def __init__(
        self,
        folder: Path | None,
        *,
        limit: int,
        window: float,
        pause: float,
        exempt: Sequence[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`limit` failures within `window` seconds refuse an address for `pause` seconds; 0: never."""
        self._limit = limit
        self._window = window
        self._pause = pause
        self._exempt = [ip_network(network, strict=False) for network in exempt]
        self._clock = clock
        self._table = SharedTable(folder, "failures", _HEADER.size + MOST_ADDRESSES * _ENTRY.size)
        self._closed = False
        boot = _this_boot()
        with self._table.exclusively():
            if _HEADER.unpack_from(self._table.view)[0] != boot:
                self._table.view[:] = bytes(len(self._table.view))  # the clock has begun anew
                _HEADER.pack_into(self._table.view, 0, boot, 0.0)

    def refuses(self, address: str) -> bool:
        """Whether `address` is refused now; counts it if so."""
        now = self._clock()
        if self._closed or now >= _HEADER.unpack_from(self._table.view)[1]:
            return False
        key = _key(address)
        with self._table.exclusively():
            index = self._find(key)
            if index is None:
                return False
            failures, refused, begun, until = self._entry(index)
            if now >= until:
                return False
            self._put(index, key, failures, refused + 1, begun, until)
        return True

    def failed(self, address: str) -> int | None:
        """Count a failure; the number of failures when it is the one that `address` is refused for from now on."""
        if not self._limit or self._closed or self._is_exempt(address):
            return None
        key, now = _key(address), self._clock()
        with self._table.exclusively():
            index = self._find(key)
            failures, refused, begun, until = (0, 0, now, 0.0) if index is None else self._entry(index)
            if now < until:
                return None  # it was connected before
            if now - begun > self._window or until:
                failures, begun, until = 0, now, 0.0
            failures += 1
            if failures >= self._limit:
                until = now + self._pause
                boot, latest = _HEADER.unpack_from(self._table.view)
                _HEADER.pack_into(self._table.view, 0, boot, max(latest, until))
            self._put(self._oldest() if index is None else index, key, failures, refused, begun, until)
        return failures if until else None

    def succeeded(self, address: str) -> None:
        """Forget the failures of `address`."""
        key = _key(address)
        if self._closed or self._find(key) is None:  # the usual case costs no lock
            return
        with self._table.exclusively():
            index = self._find(key)
            if index is not None and not self._entry(index)[1]:
                self._put(index, NO_ADDRESS, 0, 0, 0.0, 0.0)

    def over(self, *, all_of_them: bool = False) -> list[Pause]:
        """Refusals that ended and kept somebody out, each told once."""
        now, found = self._clock(), []
        with self._table.exclusively():
            for index in range(MOST_ADDRESSES):
                failures, refused, begun, until = self._entry(index)
                if refused and (all_of_them or now >= until):
                    key = bytes(self._table.view[_at(index) : _at(index) + 16])
                    found.append(Pause(unpacked(key), refused))
                    self._put(index, key, failures, 0, begun, until)
        return found

    def close(self) -> None:
        """Unmap the table; nobody is counted or refused afterwards."""
        self._closed = True
        self._table.close()

    def _is_exempt(self, address: str) -> bool:
        try:
            found = ip_address(unpacked(packed(address)))
        except ValueError:
            return False
        return any(found in network for network in self._exempt)

    def _find(self, key: bytes) -> int | None:
        for index, entry in enumerate(_ENTRY.iter_unpack(self._table.view[_HEADER.size :])):
            if entry[0] == key:
                return index
        return None

    def _oldest(self) -> int:
        """The entry to give up: an empty one, else the one whose window began first, refused addresses last."""
        now = self._clock()
        entries = enumerate(_ENTRY.iter_unpack(self._table.view[_HEADER.size :]))
        return min(entries, key=lambda each: (now < each[1][4], each[1][3] if each[1][0] != NO_ADDRESS else -math.inf))[
            0
        ]

    def _entry(self, index: int) -> tuple[int, int, float, float]:
        _, failures, refused, begun, until = _ENTRY.unpack_from(self._table.view, _at(index))
        return failures, refused, begun, until

    def _put(self, index: int, key: bytes, failures: int, refused: int, begun: float, until: float) -> None:
        _ENTRY.pack_into(self._table.view, _at(index), key, failures, refused, begun, until)


def _at(index: int) -> int:
    return _HEADER.size + index * _ENTRY.size


def _key(address: str) -> bytes:
    """One entry for an IPv4 address, one for an IPv6 network of 64 bits: its holder has all of it."""
    found = packed(address)
    return found if found.startswith(bytes(10) + b"\xff\xff") else found[:8] + bytes(8)


def _this_boot() -> bytes:
    try:
        return bytes.fromhex(_BOOT.read_text().strip().replace("-", ""))[:16]
    except (OSError, ValueError):
        return b"?" * 16
