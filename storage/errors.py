"""What can go wrong when something is kept; each error knows the DICOM status and the HTTP code that it becomes.

Status codes of C-STORE: PS3.4 B.2.3 and PS3.7 Annex C.
"""

import errno
from pathlib import Path

_OUT_OF_RESOURCES = {errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EFBIG}


class StorageError(Exception):
    """Base of all: something could not be kept, so it must not be acknowledged."""

    dicom_status = 0x0110
    http_status = 500


class StoreFull(StorageError):
    """The disk is above its watermark or out of a resource; the sender should try again later (PS3.4 B.2.3)."""

    dicom_status = 0xA700
    http_status = 507


class StoreFault(StorageError):
    """The file system refused: read-only, input/output error, missing folder, no permission."""


class InstanceRefused(StorageError):
    """The facts of an instance cannot be indexed, whatever the disk and the database do."""

    dicom_status = 0xC000
    http_status = 422


class DatabaseUnavailable(StorageError):
    """The database is down, locked for too long or out of disk; nothing was committed."""

    dicom_status = 0xA700
    http_status = 503


class SchemaMismatch(StorageError):
    """The database's schema is older or newer than this program."""

    http_status = 503


class PixelsUnreadable(StorageError):
    """The pixel data cannot be decoded, so it has no digest."""

    dicom_status = 0xC000
    http_status = 422


class NotFound(StorageError):
    """What was named does not exist."""

    http_status = 404


def from_os_error(fault: OSError, doing: str, path: Path) -> StorageError:
    """Put an OSError of the file system into our words: `doing` what to `path`, and what to do about it."""
    reason = fault.strerror or type(fault).__name__
    if fault.errno in _OUT_OF_RESOURCES:
        return StoreFull(f"{doing} {path}: {reason}; free space or raise the limit, the sender may try again")
    return StoreFault(f"{doing} {path}: {reason}; check the file system and its permissions")
