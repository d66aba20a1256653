"""The instance store: files that arrive and files that we make; a crash leaves all of one or nothing of it.

    incoming/    what is being received; a living receiver holds a lock on each of its files
    instances/   ab/<SHA-256 of the SOP Instance UID>-<copy>.dcm: Part 10 as received, transfer syntax untouched
    drafts/      folders that are being written
    analyses/, evidence/    folders that we made, complete or absent

No path is ever built from what a peer sent: a UID only goes into a hash. All folders lie on one file system, so a
rename is atomic. Paths in the database are relative to the root.
"""

import os
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fcntl import LOCK_EX, LOCK_NB, flock
from hashlib import sha256
from pathlib import Path
from secrets import token_hex
from types import TracebackType
from typing import Any, Literal

from config import Settings
from storage.errors import StorageError, StoreFull, from_os_error
from storage.points import Point, reached
from storage.rereading import begin_digest, digest_of
from storage.writeback import begin_writing

_EARLY = 256 * 1024  # bytes of an arriving instance that the disk is given at a time
_WORTHWHILE = 256 * 1024  # bytes from which an instance is hashed beside its fsync
_REREAD = 4 * 1024**2  # bytes: of a longer instance the page cache may have lost some
_NEWBORN = 60.0  # seconds in which a file in incoming/ may not have its lock yet
DraftKind = Literal["analyses", "evidence"]


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file that is durable under its final name, and not yet in the index."""

    path: Path
    """Absolute."""
    relative: str
    """To the store's root: what the index keeps."""
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Headroom:
    """How full the store's disk is."""

    total: int
    free: int
    used_share: float


class InstanceStore:
    """The files under one root."""

    def __init__(
        self,
        root: Path,
        *,
        high_watermark: float = 0.90,
        low_watermark: float = 0.85,
        reserve_bytes: int = 256 * 1024**2,
    ) -> None:
        """Watermarks are shares of the disk in use; `reserve_bytes` stay free for the ledger whatever they say."""
        self.root = root.absolute()
        self.text = str(self.root)  # the receive path puts names together by hand: a Path costs more than a system call
        self._high, self._low, self._reserve = high_watermark, min(low_watermark, high_watermark), reserve_bytes
        self._full = False
        self._arriving: set[Upload] = set()  # those that have bytes
        self._latest_size = 0  # of an instance: the next one's is likely the same
        with _in_our_words("creating", self.root):
            for folder in ("incoming", "drafts", "analyses", "evidence"):
                _create_durably(self.root / folder)
            # All 256 at once, so that the receive path never waits for a folder to become durable.
            leaves = [self.root / "instances" / f"{number:02x}" for number in range(256)]
            missing = [leaf for leaf in leaves if not leaf.is_dir()]
            for leaf in missing:
                leaf.mkdir(parents=True, exist_ok=True)
            if missing:
                _sync_folder(self.root / "instances")
                _sync_folder(self.root)

    @contextmanager
    def incoming(self, prepared: "Upload | None" = None) -> Iterator["Upload"]:
        """A file to write an arriving instance to; removed when the block ends without `keep`.

        Raises StoreFull above the watermark, and another StorageError when the file cannot be created.
        """
        try:
            self.check_headroom()
            upload = prepared or self._created()
        except BaseException:
            if prepared is not None:
                prepared.discard()
            raise
        try:
            yield upload
        finally:
            upload.discard()

    def prepare(self) -> "Upload | None":
        """An empty file for `incoming`, made while there is time; None when that is not possible now."""
        try:
            self.check_headroom()
            return self._created()
        except StorageError:
            return None

    def _created(self) -> "Upload":
        path = f"{self.text}/incoming/{token_hex(16)}.part"
        with _in_our_words("creating", path):
            return Upload(self, path)

    def headroom(self) -> Headroom:
        """How full the disk is, as the service's user sees it."""
        with _in_our_words("measuring", self.root):
            disk = os.statvfs(self.root)
        used, free = disk.f_blocks - disk.f_bfree, disk.f_bavail
        return Headroom(disk.f_blocks * disk.f_frsize, free * disk.f_frsize, used / max(1, used + free))

    def check_headroom(self) -> Headroom:
        """Raise StoreFull from the high watermark on until use has fallen below the low one."""
        room = self.headroom()
        limit = self._low if self._full else self._high
        self._full = room.used_share >= limit or room.free <= self._reserve
        if self._full:
            raise StoreFull(
                f"{self.root}: {room.used_share:.1%} of the disk is in use, {room.free / 1024**2:,.0f} MiB are free; "
                f"the limits are {limit:.1%} and {self._reserve / 1024**2:,.0f} MiB; delete or move something"
            )
        return room

    def locate(self, relative: str) -> Path:
        """The absolute path of what the index names."""
        return self.root / relative

    def remove(self, relative: str) -> None:
        """Delete a file or a folder that the index does not name (any more); no complaint when it is gone."""
        path = self.root / relative
        with _in_our_words("deleting", path):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    @contextmanager
    def draft(self, kind: DraftKind, revision_id: int) -> Iterator["Draft"]:
        """A folder to write results to; nothing of it remains when the block ends without `keep`.

        Every draft is kept under a path of its own, so that a repeat never touches what an earlier run wrote.
        """
        draft = Draft(self, kind, f"{revision_id}-{token_hex(4)}")
        with _in_our_words("creating", draft.folder):
            draft.folder.mkdir()
        try:
            yield draft
        finally:
            shutil.rmtree(draft.folder, ignore_errors=True)

    def sweep_incoming(self, *, drafts_older_than: float = 24 * 3600) -> int:
        """Remove what receivers that died have left behind, and drafts past `drafts_older_than` seconds; says how many.

        A living receiver, in whatever process or machine, holds the lock of its file and is never disturbed.
        """
        swept = 0
        for path in (self.root / "incoming").iterdir():
            swept += self._sweep_upload(path)
        for folder in (self.root / "drafts").iterdir():
            with suppress(OSError):
                if time.time() - folder.stat().st_mtime > drafts_older_than:
                    shutil.rmtree(folder, ignore_errors=True)
                    swept += 1
        return swept

    def _sweep_upload(self, path: Path) -> bool:
        try:
            handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            if time.time() - os.fstat(handle).st_ctime < _NEWBORN:
                return False
            flock(handle, LOCK_EX | LOCK_NB)
            path.unlink(missing_ok=True)
        except OSError:
            return False
        else:
            return True
        finally:
            os.close(handle)


class Upload:
    """One arriving instance: bytes in, then `keep`, which returns when they are durable."""

    def __init__(self, store: InstanceStore, path: str) -> None:
        self._store, self._path = store, path
        self._handle: int | None = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        flock(self._handle, LOCK_EX | LOCK_NB)
        self._digest: Any = None  # None: it is hashed in the end
        self._begun = 0  # bytes that the kernel was told to write
        self.size = 0
        reached(Point.INCOMING_CREATED)

    @property
    def path(self) -> Path:
        """Where the bytes are until they are kept; for a look at the header."""
        return Path(self._path)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append bytes."""
        handle, view = self._open(), memoryview(data)
        if not self.size:
            self._begin()
        with _in_our_words("writing to", self._path):
            while view:
                view = view[os.write(handle, view) :]
        first, self.size = not self.size, self.size + len(data)
        if self.size - self._begun >= _EARLY:
            begin_writing(handle, self._begun, self.size - self._begun)
            self._begun = self.size
        if self._digest is not None:
            self._digest.update(data)
        elif self.size > _REREAD:
            with _in_our_words("reading", self._path):
                self._digest = digest_of(handle, self.size)
        reached(Point.FIRST_BYTES_WRITTEN if first else Point.BYTES_WRITTEN)

    def keep(self, sop_instance_uid: str) -> StoredFile:
        """Make the bytes durable under their final name: rename, fsync, fsync of the folder.

        The rename comes first because a journalling file system then commits bytes and name together. What a power cut
        leaves of the file in between is no instance: no row names it, and `sweeping` removes it. The caller then
        indexes it (`reception.record_instances`) and only after that acknowledges it. Whatever error is raised here,
        no file remains.
        """
        handle = self._open()
        name = f"{sha256(sop_instance_uid.encode('utf-8', 'surrogatepass')).hexdigest()}-{token_hex(8)}.dcm"
        relative = f"instances/{name[:2]}/{name}"
        folder = f"{self._store.text}/instances/{name[:2]}"
        final = f"{folder}/{name}"
        with _in_our_words("storing", final):
            reached(Point.LAST_BYTES_WRITTEN)
            os.rename(self._path, final)  # noqa: PTH104
            hashing = begin_digest(handle, self.size) if self._digest is None else None
            try:
                reached(Point.RENAMED)
                os.fsync(handle)
                reached(Point.FILE_SYNCED)
                _sync_folder(folder)
                reached(Point.FOLDER_SYNCED)
                if hashing is not None:
                    self._digest = hashing.result()
            except OSError:
                Path(final).unlink(missing_ok=True)
                raise
            finally:
                if hashing is not None:
                    wait([hashing])  # it reads from the handle
        self._close(handle)
        self._store._latest_size = self.size
        return StoredFile(Path(final), relative, self.size, self._digest.hexdigest())

    def discard(self) -> None:
        """Remove the file unless it was kept."""
        if self._handle is not None:
            with suppress(OSError):
                os.unlink(self._path)  # noqa: PTH108
            self._close(self._handle)

    def _begin(self) -> None:
        """Choose when to hash: the second core is free for it when nothing else arrives."""
        store = self._store
        if store._arriving or store._latest_size < _WORTHWHILE:
            self._digest = sha256()
        store._arriving.add(self)

    def _close(self, handle: int) -> None:
        self._store._arriving.discard(self)
        os.close(handle)
        self._handle = None

    def _open(self) -> int:
        if self._handle is None:
            raise ValueError("this upload was kept or discarded already")
        return self._handle


class Draft:
    """A folder that is being written; `keep` makes it durable and visible as a whole."""

    def __init__(self, store: InstanceStore, kind: DraftKind, name: str) -> None:
        self._store = store
        self._relative = f"{kind}/{name}"
        self.folder = store.root / "drafts" / f"{kind}-{name}"

    def keep(self) -> str:
        """fsync every file and folder, rename, fsync the parent; the path relative to the store's root."""
        final = self._store.root / self._relative
        with _in_our_words("storing", final):
            for folder, _, names in os.walk(self.folder):
                for name in names:
                    _sync_file(Path(folder, name))
                _sync_folder(Path(folder))
            self.folder.rename(final)
            _sync_folder(final.parent)
        return self._relative


def open_store(settings: Settings) -> InstanceStore:
    """The store that the settings describe."""
    store = settings.store
    return InstanceStore(
        store.root,
        high_watermark=store.high_watermark,
        low_watermark=store.low_watermark,
        reserve_bytes=store.reserve_bytes,
    )


def _create_durably(folder: Path) -> None:
    missing = [f for f in (folder, *folder.parents) if not f.is_dir()]
    for each in reversed(missing):
        each.mkdir(exist_ok=True)
        _sync_folder(each.parent)


def _sync_file(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sync_folder(folder: Path | str) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class _in_our_words:  # noqa: N801 - reads as the words it is
    """Turns an OSError of the block into a StorageError; a class, because it is entered for every chunk."""

    __slots__ = ("_doing", "_path")

    def __init__(self, doing: str, path: Path | str) -> None:
        self._doing, self._path = doing, path

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, fault: BaseException | None, _trace: TracebackType | None) -> None:
        if isinstance(fault, OSError):
            raise from_os_error(fault, self._doing, Path(self._path)) from fault
