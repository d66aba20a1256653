"""The way of a fetched file into the gateway: as a C-STORE of its archive would bring it (promises 1 to 5)."""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydicom.filereader import read_file_meta_info

from config.settings import Destination, Source
from gateway.app import App
from gateway.dicom.association import Caller
from gateway.dicom.contexts import STORAGE_CLASSES, TRANSFER_SYNTAXES
from gateway.dicom.refusals import STATUS_SUCCESS
from gateway.dicom.requests import StoreCommand
from gateway.dicom.scp import StorageService
from gateway.dicom.trail import Trail

FETCHED = "fetched:"
"""Stands before the host in the address that the index keeps: no source of the settings is taken for the sender."""
_CHUNK = 1 << 18
_GROUP_LENGTH = struct.Struct("<HH2sHL")
_PREAMBLE = 132


@dataclass(frozen=True, slots=True)
class Sender:
    """An archive that was asked, as the store knows senders."""

    caller: Caller
    source: Source | None = None


class Intake:
    """Takes files of one archive; `opened` gives one."""

    def __init__(self, app: App, destination: Destination, trail: Trail) -> None:
        patience = max(app.settings.database.busy_timeout, 1.0)
        self._service = StorageService(app.settings.dicom, app.database, app.store, trail, patience=patience)
        address = f"{FETCHED}{destination.host}"[:64]
        self._sender = Sender(Caller(address, destination.ae_title, app.settings.dicom.ae_title))

    def take(self, path: Path, study_uid: str) -> str | None:
        """Keep and index one file, durably; why not, where it is refused, which the ledger then says, too."""
        try:
            start, command = _describe(path, study_uid)
        except (OSError, ValueError, AttributeError, EOFError, struct.error) as fault:
            return f"no DICOM file ({type(fault).__name__})"
        if command.sop_class_uid not in STORAGE_CLASSES or command.transfer_syntax not in TRANSFER_SYNTAXES:
            return "no SOP class or transfer syntax that is stored here"
        sink = self._service.open(command)
        try:
            with path.open("rb") as file:
                file.seek(start)
                while chunk := file.read(_CHUNK):
                    sink.write(chunk)
        except OSError as fault:
            sink.discard()
            return f"cannot be read: {fault.strerror or fault}"
        answer = self._service.store(self._sender, command, sink)
        if answer.status == STATUS_SUCCESS:
            return None
        return f"status 0x{answer.status:04X}: {answer.comment or 'no comment'}"


@contextmanager
def opened(app: App, destination: Destination) -> Iterator[Intake]:
    """An intake for as long as the block runs."""
    trail = Trail(app.ledger)
    try:
        yield Intake(app, destination, trail)
    finally:
        trail.tick(closing=True)


def _describe(path: Path, study_uid: str) -> tuple[int, StoreCommand]:
    """Where the data set begins, and what a C-STORE command would say of it."""
    with path.open("rb") as file:
        head = file.read(_PREAMBLE + _GROUP_LENGTH.size)
    group, element, vr, _, length = _GROUP_LENGTH.unpack_from(head, _PREAMBLE)
    if head[_PREAMBLE - 4 : _PREAMBLE] != b"DICM" or (group, element, vr) != (0x0002, 0x0000, b"UL"):
        raise ValueError("no Part 10 file (PS3.10 7.1)")
    meta = read_file_meta_info(path)
    command = StoreCommand(
        str(meta.MediaStorageSOPClassUID),
        str(meta.MediaStorageSOPInstanceUID),
        str(meta.TransferSyntaxUID),
        study_uid=study_uid,
    )
    return _PREAMBLE + _GROUP_LENGTH.size + int(length), command
