"""The command sets of C-STORE, read and written without a data set in between (PS3.7 6.3.1, 9.3.1).

Only what nearly every sender sends is read here; anything else is left to pynetdicom.
"""

import re
import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

C_STORE_RQ, C_STORE_RSP = 0x0001, 0x8001
NO_DATA_SET = 0x0101
PRIORITIES = frozenset({0, 1, 2})
MAX_RESPONSE = 512  # bytes; a comment has 64 characters at most

_ELEMENT = struct.Struct("<HHL")
_US = struct.Struct("<H")
_UID = re.compile(rb"[0-9.]{1,64}\0?")
_PDU = struct.Struct(">BxLLBB")

GROUP_LENGTH, SOP_CLASS, COMMAND_FIELD, MESSAGE_ID = 0x0000, 0x0002, 0x0100, 0x0110
RESPONDED_TO, PRIORITY, DATA_SET_TYPE, STATUS, COMMENT, SOP_INSTANCE = 0x0120, 0x0700, 0x0800, 0x0900, 0x0902, 0x1000
ORIGINATOR, ORIGINATOR_ID = 0x1030, 0x1031
_NUMBERS: Final = frozenset({COMMAND_FIELD, MESSAGE_ID, PRIORITY, DATA_SET_TYPE, ORIGINATOR_ID})
_UIDS: Final = frozenset({SOP_CLASS, SOP_INSTANCE})


@dataclass(frozen=True, slots=True)
class StoreRequest:
    """A C-STORE request with a data set, every value of it in order."""

    message_id: int
    priority: int
    sop_class_uid: str
    sop_instance_uid: str


def read_store_request(command: bytes) -> StoreRequest | None:
    """What a whole command set says; None when it is no C-STORE request, or unusual in any way."""
    numbers: dict[int, int] = {}
    uids: dict[int, str] = {}
    offset, end, before = 0, len(command), -1
    while offset < end:
        if end - offset < 8:
            return None
        group, element, length = _ELEMENT.unpack_from(command, offset)
        offset += 8
        if group or element <= before or length > end - offset:
            return None
        before = element
        value = command[offset : offset + length]
        offset += length
        if element in _NUMBERS:
            if length != 2:
                return None
            numbers[element] = _US.unpack(value)[0]
        elif element in _UIDS:
            if not _UID.fullmatch(value):
                return None
            uids[element] = value.rstrip(b"\0").decode("ascii")
        elif element == GROUP_LENGTH:
            if length != 4 or int.from_bytes(value, "little") != end - offset:
                return None
        elif element != ORIGINATOR or length > 16 or not value.isascii() or b"\\" in value:
            return None
    if (
        numbers.get(COMMAND_FIELD) != C_STORE_RQ
        or numbers.get(DATA_SET_TYPE, NO_DATA_SET) == NO_DATA_SET
        or numbers.get(PRIORITY) not in PRIORITIES
        or MESSAGE_ID not in numbers
        or len(uids) != 2
    ):
        return None
    return StoreRequest(numbers[MESSAGE_ID], numbers[PRIORITY], uids[SOP_CLASS], uids[SOP_INSTANCE])


def store_response(context_id: int, request: StoreRequest, status: int, comment: str | None) -> bytes:
    """The P-DATA-TF PDU that answers `request`; `comment` in ASCII, 64 characters at most."""
    uid = request.sop_instance_uid.encode("ascii")
    before, after = _response(context_id, request.sop_class_uid, status, comment, len(uid))
    return b"".join((before, _US.pack(request.message_id), after, uid, b"\0" * (len(uid) % 2)))


@lru_cache(maxsize=64)
def _response(context_id: int, sop_class_uid: str, status: int, comment: str | None, uid: int) -> tuple[bytes, bytes]:
    """What stands before and after the message's number, up to an instance's UID of `uid` bytes; the same for most."""
    elements = [
        _uid(SOP_CLASS, sop_class_uid),
        _number(COMMAND_FIELD, C_STORE_RSP),
        _ELEMENT.pack(0, RESPONDED_TO, 2),
    ]
    following = [_number(DATA_SET_TYPE, NO_DATA_SET), _number(STATUS, status)]
    if comment:
        text = comment.encode("ascii")
        following.append(_element(COMMENT, text + b" " * (len(text) % 2)))
    uid += uid % 2
    following.append(_ELEMENT.pack(0, SOP_INSTANCE, uid))
    before, after = b"".join(elements), b"".join(following)
    body = len(before) + 2 + len(after) + uid
    command = _element(GROUP_LENGTH, body.to_bytes(4, "little"))
    size = len(command) + body
    return _PDU.pack(0x04, size + 6, size + 2, context_id, 0x03) + command + before, after


def _element(number: int, value: bytes) -> bytes:
    return _ELEMENT.pack(0, number, len(value)) + value


def _number(number: int, value: int) -> bytes:
    return _element(number, _US.pack(value))


def _uid(number: int, uid: str) -> bytes:
    value = uid.encode("ascii")
    return _element(number, value + b"\0" * (len(value) % 2))
