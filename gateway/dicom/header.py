"""What a receiver must know of a data set before it answers, read without decoding it (PS3.5 section 7).

A walk over the elements: the few values we need are taken, all others are stepped over, and every length is held
against the end of the data. pydicom reads a cut-off element without a word; a receiver that acknowledges must not.
Lenient otherwise: order, unknown VRs, padding and whatever lies inside sequences of known length are no concern here.
"""

import re
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from gateway.dicom.refusals import DataSetMalformed, DataSetTruncated, InstanceTooLarge

Buffer: TypeAlias = bytes | bytearray | memoryview  # an mmap is walked through a memoryview

UNDEFINED = 0xFFFFFFFF
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
PIXEL_TAGS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
MANUFACTURER = 0x00080070
CONTRIBUTING_EQUIPMENT = 0x0018A001
WANTED = frozenset(
    {
        0x00080016,  # SOPClassUID
        0x00080018,  # SOPInstanceUID
        0x00080050,  # AccessionNumber
        MANUFACTURER,
        0x0020000D,  # StudyInstanceUID
        0x0020000E,  # SeriesInstanceUID
        0x00201208,  # NumberOfStudyRelatedInstances
        0x00280002,  # SamplesPerPixel
        0x00280004,  # PhotometricInterpretation
        0x00280008,  # NumberOfFrames
        0x00280010,  # Rows
        0x00280011,  # Columns
        0x00280100,  # BitsAllocated
        0x00287FE0,  # PixelDataProviderURL
    }
)
SHORT_VRS = frozenset(  # PS3.5 7.1.2
    {b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL", b"SS"}
    | {b"ST", b"TM", b"UI", b"UL", b"US"}
)
LONG_VRS = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})

IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"
DEFLATED = frozenset({"1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"})

MAX_ELEMENTS = 5_000_000  # a large enhanced multi-frame object has about two million
MAX_DEPTH = 64
MAX_VALUE = 1024
MAX_INFLATED_HEAD = 64 * 1024**2

_TAKEN = WANTED | PIXEL_TAGS

_UID = re.compile(r"[0-9]+(\.[0-9]+)*")


def is_uid(text: str) -> bool:
    """Digits and dots, 64 characters at most (PS3.5 9.1); leading zeros pass, archives are full of them."""
    return len(text) <= 64 and _UID.fullmatch(text) is not None


@dataclass(slots=True)
class Header:
    """The values of the data set's first level that the receiver uses."""

    little_endian: bool
    values: dict[int, bytes] = field(default_factory=dict)
    contributors: list[str] = field(default_factory=list)  # manufacturers in ContributingEquipmentSequence
    pixel_bytes: int | None = None  # None: no pixel data element
    encapsulated: bool = False

    def text(self, tag: int) -> str | None:
        """A value as text without padding; None when it is absent or empty."""
        value = self.values.get(tag)
        return (value.decode("latin-1").strip(" \0") or None) if value is not None else None

    def number(self, tag: int) -> int | None:
        """A US value; None when it is absent or not two bytes."""
        value = self.values.get(tag)
        if value is None or len(value) < 2:
            return None
        return int.from_bytes(value[:2], "little" if self.little_endian else "big")

    def integer(self, tag: int) -> int | None:
        """An IS value; None when it is absent or no number."""
        try:
            return int(self.text(tag) or "")
        except ValueError:
            return None


class MoreNeeded(Exception):
    """The beginning of a data set does not tell; the walk has to be repeated with all of it."""


def read_header(
    data: Buffer, transfer_syntax: str, *, max_inflated: int = 4 * 1024**3, total: int | None = None
) -> Header:
    """Walk over a data set (no preamble, no file meta) in `transfer_syntax`.

    `total`: `data` are the first bytes of so many. What the header and the lengths tell is all that is looked at, so
    these often suffice; MoreNeeded says that they do not.

    Raises DataSetTruncated when an element reaches beyond the end, DataSetMalformed when the bytes make no data set,
    InstanceTooLarge when a deflated one grows beyond `max_inflated` bytes.
    """
    whole = len(data) if total is None else total
    if transfer_syntax in DEFLATED:
        if whole > len(data):
            raise MoreNeeded
        head, inflated = _inflate(data, max_inflated)
        return _Walk(head, inflated, implicit=False, little=True).run()
    little = transfer_syntax != EXPLICIT_BIG
    implicit = transfer_syntax == IMPLICIT_LITTLE
    return _Walk(data, whole, implicit=implicit, little=little, insisting=True).run()


def _inflate(data: Buffer, limit: int) -> tuple[bytes, int]:
    """The first bytes of a deflated data set and its whole length; never more than the head in memory."""
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        head = stream.decompress(data, MAX_INFLATED_HEAD)
        total = len(head)
        while not stream.eof:
            chunk = stream.decompress(stream.unconsumed_tail, 1024**2)
            if not chunk:
                break
            total += len(chunk)
            if total > limit:
                raise InstanceTooLarge(limit)
    except zlib.error as error:
        raise DataSetMalformed("deflated data set cannot be inflated") from error
    if not stream.eof:
        raise DataSetTruncated(0, total + 1, total)
    return head, total


@dataclass(slots=True)
class _Level:
    """Where the walk stands: in the elements of a data set or item, or between the items of a sequence."""

    items: bool
    end: int | None  # None: until its delimiter
    implicit: bool
    tag: int
    top: bool = False


class _Walk:
    """One pass over a data set, without recursion: depth comes from the sender."""

    def __init__(self, data: Buffer, total: int, *, implicit: bool, little: bool, insisting: bool = False) -> None:
        """`insisting`: ask for more where `data` end before `total`; otherwise nothing that we need follows."""
        self.data = data
        self.total = total
        self.insisting = insisting and total > len(data)
        order = "<" if little else ">"
        self.tag = struct.Struct(f"{order}HH").unpack_from
        self.long = struct.Struct(f"{order}L").unpack_from
        self.short = struct.Struct(f"{order}H").unpack_from
        self.explicit = struct.Struct(f"{order}HH2sH").unpack_from
        self.implicit = struct.Struct(f"{order}HHL").unpack_from
        self.stack = [_Level(items=False, end=total, implicit=implicit, tag=0, top=True)]
        self.position = 0
        self.header = Header(little_endian=little)

    def run(self) -> Header:
        left = MAX_ELEMENTS
        while left > 0:
            if len(self.stack) == 1:
                left -= self._skim(self.stack[0].implicit, left)
            if not self.stack or not self._step():
                return self.header
            left -= 1
        raise DataSetMalformed(f"data set has more than {MAX_ELEMENTS} elements")

    def _skim(self, implicit: bool, most: int) -> int:
        """Go over plain elements of the first level in a third of the time, up to what `_step` must look at."""
        data, at, long, values = self.data, self.position, self.long, self.header.values
        held = len(data)
        end = min(self.total, held) - 12
        unpack = self.implicit if implicit else self.explicit
        count = 0
        while at <= end and count < most:
            header = 8
            if implicit:
                group, element, length = unpack(data, at)
            else:
                group, element, vr, length = unpack(data, at)
                if vr not in SHORT_VRS:
                    if vr not in LONG_VRS:
                        break
                    (length,) = long(data, at + 8)
                    header = 12
            tag = group << 16 | element
            following = at + header + length
            if group == 0xFFFE or length == UNDEFINED or following > self.total or tag == CONTRIBUTING_EQUIPMENT:
                break
            if tag in _TAKEN:
                if tag in WANTED and length <= MAX_VALUE and following <= held:
                    values[tag] = bytes(data[at + header : following])
                else:
                    self.position = at + header
                    self._take(tag, length)
            at = following
            count += 1
        self.position = at
        return count

    def _step(self) -> bool:
        """Go over one element, item or delimiter; False: the walk ends here."""
        level = self.stack[-1]
        at = self.position
        if level.end is not None and at >= level.end:
            self.stack.pop()
            return True
        left = (self.total if level.end is None else level.end) - at
        if left < 8:
            return self._tail(level, left)
        if at + 12 > len(self.data) and self.total > len(self.data):
            if self.insisting:
                raise MoreNeeded
            return False  # beyond the inflated head: nothing that we need follows
        group, element = self.tag(self.data, at)
        tag = group << 16 | element
        if group == 0xFFFE:
            return self._delimiter(level, tag)
        if level.items:
            raise DataSetMalformed(f"({level.tag >> 16:04X},{level.tag & 0xFFFF:04X}): no item where one must be")
        length, header, vr = self._length(level, at, left)
        self.position = at + header
        if length == UNDEFINED:
            self._open(level, tag, vr)
            return True
        if length > left - header:
            raise DataSetTruncated(tag, length, max(left - header, 0))
        if tag == CONTRIBUTING_EQUIPMENT and level.top:
            self._push(_Level(items=True, end=self.position + length, implicit=level.implicit, tag=tag))
            return True
        if level.top:
            self._take(tag, length)
        elif tag == MANUFACTURER and len(self.stack) == 3 and self.stack[1].tag == CONTRIBUTING_EQUIPMENT:
            self.header.contributors.append(self._value(length).decode("latin-1").strip(" \0"))
        self.position += length
        return True

    def _length(self, level: _Level, at: int, left: int) -> tuple[int, int, bytes]:
        """Value length, bytes of the element's own header, VR (empty when implicit)."""
        if not level.implicit:
            vr = bytes(self.data[at + 4 : at + 6])
            if vr in LONG_VRS:
                if left < 12:
                    raise DataSetTruncated(0, 12, left)
                return self.long(self.data, at + 8)[0], 12, vr
            if vr.isalpha() and vr.isupper():
                return self.short(self.data, at + 6)[0], 8, vr
            # Not a VR: some writers put implicit elements among explicit ones
        return self.long(self.data, at + 4)[0], 8, b""

    def _open(self, level: _Level, tag: int, vr: bytes) -> None:
        if tag in PIXEL_TAGS and level.top:
            self.header.encapsulated = True
            self.header.pixel_bytes = 0
        implicit = level.implicit
        if vr == b"UN":
            # A sequence of unknown VR is implicit inside (PS3.5 6.2.2 note 2), except from writers that forgot
            if self.insisting and self.position + 14 > len(self.data):
                raise MoreNeeded
            first = bytes(self.data[self.position + 12 : self.position + 14])
            implicit = not (first.isalpha() and first.isupper())
        self._push(_Level(items=True, end=None, implicit=implicit, tag=tag))

    def _delimiter(self, level: _Level, tag: int) -> bool:
        """An item or the end of one or of a sequence; strays where elements stand are stepped over."""
        length = self.long(self.data, self.position + 4)[0]
        self.position += 8
        if level.items and tag == ITEM:
            if length == UNDEFINED:
                self._push(_Level(items=False, end=None, implicit=level.implicit, tag=level.tag))
                return True
            end = self.total if level.end is None else level.end
            if length > end - self.position:
                raise DataSetTruncated(level.tag, length, max(end - self.position, 0))
            if level.tag == CONTRIBUTING_EQUIPMENT and len(self.stack) == 2:
                self._push(_Level(items=False, end=self.position + length, implicit=level.implicit, tag=level.tag))
                return True
            if self.header.encapsulated and level.tag in PIXEL_TAGS and len(self.stack) == 2:
                self.header.pixel_bytes = (self.header.pixel_bytes or 0) + length
            self.position += length
        elif (level.items and tag == SEQUENCE_END) or (tag == ITEM_END and not level.items and level.end is None):
            self.stack.pop()
        return True

    def _tail(self, level: _Level, left: int) -> bool:
        """Fewer bytes than an element has: padding, or the place where the data were cut."""
        if self.insisting and self.position + left > len(self.data):
            raise MoreNeeded
        rest = bytes(self.data[self.position : self.position + left])
        if level.end is None and not (level.items and level.tag in PIXEL_TAGS and left == 0):
            raise DataSetTruncated(level.tag, 8, left)
        if rest.strip(b"\0"):
            raise DataSetTruncated(level.tag, 8, left)
        if level.top or level.end is None:
            return False
        self.position += left
        return True

    def _push(self, level: _Level) -> None:
        if len(self.stack) >= MAX_DEPTH:
            raise DataSetMalformed(f"sequences are nested deeper than {MAX_DEPTH}")
        self.stack.append(level)

    def _take(self, tag: int, length: int) -> None:
        if tag in WANTED:
            self.header.values[tag] = self._value(length)
        elif tag in PIXEL_TAGS:
            self.header.pixel_bytes = length

    def _value(self, length: int) -> bytes:
        end = self.position + min(length, MAX_VALUE)
        if self.insisting and end > len(self.data):
            raise MoreNeeded
        return bytes(self.data[self.position : end])


def pixel_bytes_needed(header: Header) -> int | None:
    """Bytes that native pixel data must have (PS3.5 8.1.1, PS3.3 C.7.6.3); None when a value for it is missing."""
    rows, columns, bits = header.number(0x00280010), header.number(0x00280011), header.number(0x00280100)
    if rows is None or columns is None or bits is None:
        return None
    samples = header.number(0x00280002) or 1
    frames = max(header.integer(0x00280008) or 1, 1)
    bits_of_all = rows * columns * samples * frames * bits
    photometric = header.text(0x00280004)
    if photometric in {"YBR_FULL_422", "YBR_PARTIAL_422"}:
        bits_of_all = bits_of_all * 2 // 3  # two chroma samples for two pixels (PS3.3 C.7.6.3.1.2)
    elif photometric == "YBR_PARTIAL_420":
        bits_of_all //= 2
    return (bits_of_all + 7) // 8


def wanted_texts(header: Header) -> Mapping[str, str | None]:
    """The UIDs that place an instance, by keyword."""
    return {
        "SOPClassUID": header.text(0x00080016),
        "SOPInstanceUID": header.text(0x00080018),
        "StudyInstanceUID": header.text(0x0020000D),
        "SeriesInstanceUID": header.text(0x0020000E),
    }
