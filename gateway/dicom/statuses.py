"""What a C-STORE status, or a STOW-RS reason (the same numbers), means for what was sent (PS3.4 B.2.3, PS3.7 C)."""

from enum import Enum


class Judgement(Enum):
    """What is to be done about one object."""

    STORED = "stored"
    NO_ROOM = "no room"  # nothing is wrong with the object: the destination has to be waited for
    AGAIN = "again"  # it may go better another time
    NEVER = "never"  # it will be refused however often it is sent


DUPLICATE = 0x0111
"""Duplicate SOP Instance: it is there already, from an attempt whose answer got lost."""
# Warnings outside 0xBxxx.
_WARNINGS = frozenset({0x0001, 0x0107, 0x0116})
# No such SOP class, invalid instance, class and instance that do not fit, invalid values, not authorised, malformed.
_FOR_GOOD = frozenset({0x0105, 0x0106, 0x0115, 0x0117, 0x0118, 0x0119, 0x0120, 0x0121, 0x0122, 0x0124, 0x0211, 0x0212})


def is_warning(status: int | None) -> bool:
    """Whether it is stored, though something is to be said about it."""
    return status is not None and (status in _WARNINGS or status & 0xF000 == 0xB000)


def judge(status: int | None) -> Judgement:
    """What a status asks for; None: the object could not be offered at all (no presentation context, unreadable)."""
    if status is None or status in _FOR_GOOD:
        return Judgement.NEVER
    if status in (0, DUPLICATE) or is_warning(status):
        return Judgement.STORED
    if status & 0xFF00 == 0xA700 or status == 0x0213:  # out of resources; resource limitation
        return Judgement.NO_ROOM
    # Data set does not match SOP class; cannot understand.
    return Judgement.NEVER if status & 0xFF00 == 0xA900 or status & 0xF000 == 0xC000 else Judgement.AGAIN
