"""Exports that an outsider can verify with OpenSSL, Python and the public key: docs/verify-ledger.md says how.

A folder: `records.jsonl` is what is proved; `checkpoint.json` holds the very bytes that are signed, `checkpoint.sig`
the signature; `proofs.jsonl` has a proof for the last record of each unbroken run, since the chain binds those before
it. `records.csv` and `messages.xml` say the same for people and for collectors, and are not what is verified.
"""

import csv
import json
from base64 import b64decode
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from storage.audit.archive import Archive
from storage.audit.checkpoint import Checkpoint
from storage.audit.checkpoints import Checkpoints
from storage.audit.ledger import LedgerRecord
from storage.audit.search import Selection, search
from storage.audit.tree import StoredTree, prove
from storage.errors import NotFound, StorageError, from_os_error

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class ExportForm(StrEnum):
    """What is written beside `records.jsonl`."""

    JSONL = "jsonl"
    CSV = "csv"
    XML = "xml"


class ExportRefused(StorageError):
    """The export cannot be written where it was asked for."""


@dataclass(frozen=True, slots=True)
class Export:
    """What was written."""

    folder: Path
    records: int
    proofs: int
    checkpoint: Checkpoint
    beyond: int
    """Matching records that no checkpoint covers yet, and that were therefore left out."""


def export(checkpoints: Checkpoints, folder: Path, selection: Selection, form: ExportForm) -> Export:
    """Write every matching record that the newest checkpoint covers to a new folder.

    Raises ExportRefused for a folder that holds something, NotFound without a checkpoint, NoProof and LedgerBroken when
    the ledger is not what was signed.
    """
    newest = checkpoints.newest()
    if newest is None:
        raise NotFound("the ledger has no checkpoint yet, so nothing in it can be proved; scanwarden audit checkpoint")
    if folder.exists() and any(folder.iterdir()):
        raise ExportRefused(f"{folder} is not empty; name a new folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return _write(checkpoints, folder, selection, form, newest)
    except OSError as fault:
        raise from_os_error(fault, "cannot export to", folder) from fault


def _write(
    checkpoints: Checkpoints, folder: Path, selection: Selection, form: ExportForm, newest: Checkpoint
) -> Export:
    archive = checkpoints.archive
    runs = _Runs(archive, newest)
    count = beyond = 0
    with ExitStack() as files:
        lines = files.enter_context((folder / "records.jsonl").open("w", encoding="ascii"))
        proofs = files.enter_context((folder / "proofs.jsonl").open("w", encoding="ascii"))
        other = _other(files, folder, form)
        for record in search(archive, selection):
            if record.seq > newest.seq:
                beyond += 1
                continue
            for proof in runs.after(record):
                proofs.write(json.dumps(proof) + "\n")
            lines.write(json.dumps(record.to_json(), sort_keys=True) + "\n")
            other.add(record)
            count += 1
        for proof in runs.end():
            proofs.write(json.dumps(proof) + "\n")
        other.close()
    (folder / "checkpoint.json").write_bytes(newest.payload())
    (folder / "checkpoint.sig").write_bytes(b64decode(newest.signature))
    _write_keys(archive, folder)
    with (folder / "checkpoints.jsonl").open("wb") as file:
        file.writelines(each.line() for each in checkpoints.taken() if each.number <= newest.number)
    return Export(folder, count, runs.proved, newest, beyond)


class _Runs:
    """Proves the last record of each unbroken run."""

    def __init__(self, archive: Archive, checkpoint: Checkpoint) -> None:
        self._archive = archive
        self._checkpoint = checkpoint
        self._tree = StoredTree(archive)
        self._last: LedgerRecord | None = None
        self.proved = 0

    def after(self, record: LedgerRecord) -> Iterator[dict[str, Any]]:
        if self._last is not None and record.seq != self._last.seq + 1:
            yield self._proof(self._last)
        self._last = record

    def end(self) -> Iterator[dict[str, Any]]:
        if self._last is not None:
            yield self._proof(self._last)

    def _proof(self, record: LedgerRecord) -> dict[str, Any]:
        self.proved += 1
        proof = prove(self._archive, record.seq, self._checkpoint, self._tree)
        return {name: proof[name] for name in ("seq", "hash", "path")}


def _write_keys(archive: Archive, folder: Path) -> None:
    keys = folder / "keys"
    keys.mkdir()
    for key in archive.published_keys():
        (keys / f"{key.id}.pem").write_text(key.public.pem, encoding="ascii")
    text = json.dumps([key.to_json() for key in archive.published_keys()], indent=2)
    (keys / "keys.json").write_text(text + "\n", encoding="ascii")


class _Nothing:
    def add(self, record: LedgerRecord) -> None:
        pass

    def close(self) -> None:
        pass


class _Csv(_Nothing):
    """For a spreadsheet; a cell that it would take for a formula gets a quote before it."""

    def __init__(self, files: ExitStack, path: Path) -> None:
        self._names = LedgerRecord.__slots__
        self._table = csv.writer(files.enter_context(path.open("w", encoding="utf-8", newline="")))
        self._table.writerow(self._names)

    def add(self, record: LedgerRecord) -> None:
        self._table.writerow([_cell(getattr(record, name)) for name in self._names])


class _Xml(_Nothing):
    """The audit messages of PS3.15 A.5, one after the other in one element."""

    def __init__(self, files: ExitStack, path: Path) -> None:
        from storage.audit.messages import as_xml

        self._message = as_xml
        self._file = files.enter_context(path.open("wb"))
        self._file.write(b'<?xml version="1.0" encoding="UTF-8"?>\n<AuditMessages>\n')

    def add(self, record: LedgerRecord) -> None:
        message = self._message(record)
        self._file.write(message[message.index(b"<AuditMessage") :].rstrip() + b"\n")

    def close(self) -> None:
        self._file.write(b"</AuditMessages>\n")


def _other(files: ExitStack, folder: Path, form: ExportForm) -> _Nothing:
    if form is ExportForm.CSV:
        return _Csv(files, folder / "records.csv")
    return _Xml(files, folder / "messages.xml") if form is ExportForm.XML else _Nothing()


def _cell(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
