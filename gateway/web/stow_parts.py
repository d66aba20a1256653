"""A STOW-RS body as it arrives: multipart/related, each part a Part 10 file, straight into the store (PS3.18 8.6.1).

Nothing but the head of the part at hand is held in memory. A part goes the way of a C-STORE: the same sink, the same
inspection, the same answer; its File Meta Information says what a C-STORE command would.
"""

import logging
import struct
from dataclasses import dataclass

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser

from gateway.dicom.association import Admitted
from gateway.dicom.contexts import STORAGE_CLASSES, TRANSFER_SYNTAXES
from gateway.dicom.header import is_uid
from gateway.dicom.refusals import DataSetMalformed, InstanceTooLarge, RefusedInstance
from gateway.dicom.requests import Sink, StoreCommand
from gateway.dicom.scp import StorageService
from gateway.dicom.trail import Trail
from storage import AuditEventType

MOST_PARTS = 10_000
MOST_META = 64 * 1024
MOST_HEADER = 1024
LONGEST_BOUNDARY = 200  # RFC 2046 5.1.1 says 70, and Orthanc's have 73
DICOM = "application/dicom"
_PREAMBLE = 132  # with the prefix (PS3.10 7.1)
_GROUP_LENGTH = struct.Struct("<HH2sHL")

logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # it quotes what it cannot read


class BodyMalformed(Exception):
    """The body is no multipart/related, or ends before its last boundary."""


class TooManyParts(Exception):
    """More instances than one request may bring; those before are stored."""


class SopClassNotSupported(RefusedInstance):
    """No storage SOP class that we know (PS3.18 table I.2-2)."""

    dicom_status = 0x0122
    reason = "sop_class_not_offered"


class TransferSyntaxNotSupported(RefusedInstance):
    """No transfer syntax that we know (PS3.18 table I.2-2)."""

    dicom_status = 0xC122
    reason = "transfer_syntax_not_offered"


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one part."""

    sop_class_uid: str | None
    sop_instance_uid: str | None
    status: int
    comment: str | None = None
    too_large: bool = False


class Body:
    """Takes the bytes of a request in pieces of any size; `feed` and `end` write to the disk and wait for it."""

    def __init__(
        self,
        boundary: bytes,
        service: StorageService,
        trail: Trail,
        visitor: Admitted,
        *,
        study_uid: str | None,
        limit: int,
    ) -> None:
        """`limit`: bytes of the largest instance. Raises BodyMalformed for a boundary that is none."""
        self.results: list[Result] = []
        self._service, self._trail, self._visitor = service, trail, visitor
        self._study_uid, self._limit = study_uid, limit
        self._part: _Part | None = None
        self._header: tuple[bytearray, bytearray] = bytearray(), bytearray()
        self._type: str | None = None
        self._ended = False
        if not 1 <= len(boundary) <= LONGEST_BOUNDARY:
            raise BodyMalformed(f"the boundary is not 1 to {LONGEST_BOUNDARY} characters long")
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": lambda data, start, end: self._collect(0, data[start:end]),
                "on_header_value": lambda data, start, end: self._collect(1, data[start:end]),
                "on_header_end": self._header_end,
                "on_headers_finished": self._headers_finished,
                "on_part_data": self._data,
                "on_part_end": self._end_part,
                "on_end": self._end,
            },
            max_header_size=MOST_HEADER,
        )

    def feed(self, data: bytes) -> None:
        """Take the next bytes. Raises BodyMalformed and TooManyParts."""
        try:
            self._parser.write(data)
        except MultipartParseError as fault:
            raise BodyMalformed("the body is no multipart/related with the boundary of its Content-Type") from fault

    def end(self) -> None:
        """All bytes were fed. Raises BodyMalformed when the last boundary was not among them."""
        if not self._ended:
            raise BodyMalformed("the body ends before its last boundary")

    def abandon(self) -> None:
        """Forget a part that will never be whole."""
        part, self._part = self._part, None
        if part is not None:
            part.discard()

    def _begin(self) -> None:
        if len(self.results) >= MOST_PARTS:
            raise TooManyParts
        self._type = None

    def _collect(self, index: int, data: bytes) -> None:
        self._header[index].extend(data)

    def _header_end(self) -> None:
        name, value = (bytes(each).decode("latin-1").strip() for each in self._header)
        if name.lower() == "content-type":
            self._type = value.partition(";")[0].strip().lower()
        self._header = bytearray(), bytearray()

    def _headers_finished(self) -> None:
        self._part = _Part(self._service, self._study_uid, self._limit)
        if self._type not in (None, DICOM):
            self._part.refuse(DataSetMalformed(f"a part is not {DICOM}"))

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._part is not None:
            self._part.write(memoryview(data)[start:end])

    def _end_part(self) -> None:
        part, self._part = self._part, None
        if part is not None:
            self.results.append(part.finish(self._visitor, self._trail))

    def _end(self) -> None:
        self._ended = True


class _Part:
    """One Part 10 file on its way."""

    def __init__(self, service: StorageService, study_uid: str | None, limit: int) -> None:
        self._service, self._study_uid, self._limit = service, study_uid, limit
        self._head = bytearray()
        self._command: StoreCommand | None = None
        self._sink: Sink | None = None
        self._refusal: RefusedInstance | None = None
        self._size = 0

    def refuse(self, refusal: RefusedInstance) -> None:
        """Take none of it."""
        self._refusal = refusal

    def write(self, data: memoryview) -> None:
        """Take the next bytes; the first of them are the File Meta Information."""
        if self._refusal is not None:
            return
        if self._sink is not None:
            self._size += len(data)
            self._sink.write(data)
            return
        self._head.extend(data)
        try:
            self._open()
        except RefusedInstance as refusal:
            self._refusal = refusal

    def finish(self, visitor: Admitted, trail: Trail) -> Result:
        """Store it or say why not."""
        command = self._command
        if command is None or self._sink is None:
            refusal = self._refusal or DataSetMalformed("a part is no Part 10 file")
            details = {"status": f"0x{refusal.dicom_status:04X}", "comment": refusal.comment}
            caller = visitor.caller
            trail.meeting(
                AuditEventType.INSTANCE_REFUSED, caller.calling_ae_title, caller.address, refusal.reason, details
            )
            known = command if command is not None else StoreCommand("", "", "")
            return Result(
                _uid(known.sop_class_uid), _uid(known.sop_instance_uid), refusal.dicom_status, refusal.comment
            )
        answer = self._service.store(visitor, command, self._sink)
        return Result(
            _uid(command.sop_class_uid),
            _uid(command.sop_instance_uid),
            answer.status,
            answer.comment,
            too_large=answer.status == InstanceTooLarge.dicom_status and self._size > self._limit,
        )

    def discard(self) -> None:
        """Forget what arrived."""
        if self._sink is not None:
            self._sink.discard()

    def _open(self) -> None:
        """Once the File Meta Information is whole, open a sink for what follows it."""
        end = _meta_end(self._head)
        if end is None or len(self._head) < end:
            return
        values = _meta_values(bytes(self._head[_PREAMBLE:end]))
        command = self._command = StoreCommand(
            values.get(0x0002, ""), values.get(0x0003, ""), values.get(0x0010, ""), study_uid=self._study_uid
        )
        if is_uid(command.sop_class_uid) and command.sop_class_uid not in STORAGE_CLASSES:
            raise SopClassNotSupported("no SOP class that is stored here")
        if command.transfer_syntax not in TRANSFER_SYNTAXES:
            raise TransferSyntaxNotSupported("no transfer syntax that is stored here")
        self._sink = self._service.open(command)
        rest = bytes(self._head[end:])
        self._head = bytearray()
        if rest:
            self._size += len(rest)
            self._sink.write(rest)


def _meta_end(head: bytearray) -> int | None:
    """Where the data set begins; None while too little is here. Raises DataSetMalformed when it is no Part 10 file."""
    if len(head) < _PREAMBLE + _GROUP_LENGTH.size:
        return None
    group, element, vr, size, length = _GROUP_LENGTH.unpack_from(head, _PREAMBLE)
    if head[_PREAMBLE - 4 : _PREAMBLE] != b"DICM" or (group, element, vr, size) != (0x0002, 0x0000, b"UL", 4):
        raise DataSetMalformed("a part is no Part 10 file (PS3.10 7.1)")
    if length > MOST_META:
        raise DataSetMalformed(f"File Meta Information of more than {MOST_META} bytes")
    return _PREAMBLE + _GROUP_LENGTH.size + int(length)


def _meta_values(meta: bytes) -> dict[int, str]:
    """The UIDs of group 0002 by element; always explicit VR little endian (PS3.10 7.1)."""
    values: dict[int, str] = {}
    at = 0
    while at + 8 <= len(meta):
        group, element, vr, size = struct.unpack_from("<HH2sH", meta, at)
        at += 8
        if vr in (b"OB", b"UN"):
            if at + 4 > len(meta):
                break
            (size,) = struct.unpack_from("<L", meta, at)
            at += 4
        if group != 0x0002 or at + size > len(meta):
            raise DataSetMalformed("the File Meta Information is malformed")
        if vr == b"UI":
            values[element] = meta[at : at + size].rstrip(b"\0 ").decode("latin-1")
        at += size
    return values


def _uid(text: str) -> str | None:
    return text if is_uid(text) else None
