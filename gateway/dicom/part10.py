"""The Part 10 header that stands before a data set as received (PS3.10 7.1)."""

import struct
from functools import lru_cache

# Ours, and without a version: the same data set must make the same file, today and after an upgrade.
IMPLEMENTATION_CLASS_UID = "2.25.22698534438420142897833719391531769436"
IMPLEMENTATION_VERSION_NAME = "SCANWARDEN"
_ELEMENT = struct.Struct("<HH2sH")


def file_meta(sop_class_uid: str, sop_instance_uid: str, transfer_syntax: str) -> bytes:
    """Preamble, prefix and File Meta Information; a function of its arguments alone."""
    uid = sop_instance_uid.encode("ascii")
    before, after = _around(sop_class_uid, len(uid), transfer_syntax)
    return b"".join((before, uid, b"\0" * (len(uid) % 2), after))


@lru_cache(maxsize=64)
def _around(sop_class_uid: str, uid: int, transfer_syntax: str) -> tuple[bytes, bytes]:
    """What stands before and after an instance's UID of `uid` bytes; the same for most instances."""
    uid += uid % 2
    before = (
        b"\x02\x00\x01\x00OB\x00\x00\x02\x00\x00\x00\x00\x01"
        + _uid(0x0002, sop_class_uid)
        + _ELEMENT.pack(0x0002, 0x0003, b"UI", uid)
    )
    after = (
        _uid(0x0010, transfer_syntax)
        + _uid(0x0012, IMPLEMENTATION_CLASS_UID)
        + _element(0x0013, b"SH", IMPLEMENTATION_VERSION_NAME.encode(), b" ")
    )
    length = _element(0x0000, b"UL", struct.pack("<L", len(before) + uid + len(after)), b"\0")
    return bytes(128) + b"DICM" + length + before, after


def _uid(element: int, value: str) -> bytes:
    return _element(element, b"UI", value.encode("ascii"), b"\0")


def _element(element: int, vr: bytes, value: bytes, pad: bytes) -> bytes:
    value += pad * (len(value) % 2)
    return _ELEMENT.pack(0x0002, element, vr, len(value)) + value
