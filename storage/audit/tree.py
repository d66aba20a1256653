"""The ledger's Merkle tree as it is kept: subtrees of 256 records and up as rows, what lies below from the records.

A million records need 7,800 rows, and a proof reads one block of records and some twenty rows. The rows are a cache: a
proof from a false one does not lead to a signed root, which is checked before a proof is handed out.
"""

from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import delete, insert
from sqlalchemy.orm import Session

from storage.audit.archive import Archive
from storage.audit.checkpoint import Checkpoint, CheckpointUnreadable
from storage.audit.keys import PublicKey
from storage.audit.ledger import Head, LedgerRecord, break_after
from storage.audit.merkle import (
    Frontier,
    consistency_path,
    consistent,
    includes,
    inclusion_path,
    leaf_hash,
    node_hash,
    subtrees_of,
)
from storage.errors import NotFound, StorageError
from storage.tables import LedgerNode

BLOCK_LEVEL = 8
BLOCK = 1 << BLOCK_LEVEL
PROOF_FORMAT = "scanwarden-proof-1"
CONSISTENCY_FORMAT = "scanwarden-consistency-1"


class NoProof(StorageError):
    """The record is not what was signed, or not signed yet; there is nothing to prove."""


class StoredTree:
    """The hashes of complete subtrees (`merkle.Subtrees`), read once and kept for as long as this object lives."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._nodes: dict[tuple[int, int], bytes] = {}
        self._block: tuple[int, list[bytes]] = (-1, [])

    def __call__(self, level: int, position: int) -> bytes:
        """Raises NotFound when the records that it covers are not there."""
        if level < BLOCK_LEVEL:
            start = position << level
            leaves = self._leaves(start >> BLOCK_LEVEL)
            if len(leaves) < (start & (BLOCK - 1)) + (1 << level):
                raise NotFound(f"the ledger has no records {start + 1} to {start + (1 << level)}")
            offset = start & ~(BLOCK - 1)
            return _below(leaves, level, (start - offset) >> level)
        found = self._nodes.get((level, position))
        if found is None:
            with self._archive.database.reading() as session:
                row = session.get(LedgerNode, (level, position))
            found = bytes.fromhex(row.hash) if row is not None else self._from_below(level, position)
            self._nodes[level, position] = found
        return found

    def frontier(self, size: int) -> Frontier:
        """The tree of the first `size` records."""
        return Frontier(size, [self(level, position) for level, position in subtrees_of(size)])

    def _from_below(self, level: int, position: int) -> bytes:
        if level > BLOCK_LEVEL:
            return node_hash(self(level - 1, 2 * position), self(level - 1, 2 * position + 1))
        leaves = self._leaves(position)
        if len(leaves) < BLOCK:
            raise NotFound(f"the ledger has no complete block {position}")
        return _below(leaves, BLOCK_LEVEL, 0)

    def _leaves(self, block: int) -> list[bytes]:
        if self._block[0] != block:
            records = self._archive.records(after=block * BLOCK, last=(block + 1) * BLOCK)
            self._block = (block, [leaf_of(record) for record in records])
        return self._block[1]


def leaf_of(record: LedgerRecord) -> bytes:
    """The leaf that a record is."""
    try:
        return leaf_hash(bytes.fromhex(record.hash))
    except (ValueError, TypeError):  # someone else wrote it; no signed tree has this leaf
        return leaf_hash(repr(record.hash).encode())


def _below(leaves: Sequence[bytes], level: int, position: int) -> bytes:
    if level == 0:
        return leaves[position]
    return node_hash(_below(leaves, level - 1, 2 * position), _below(leaves, level - 1, 2 * position + 1))


def write_nodes(session: Session, before: int, nodes: Mapping[tuple[int, int], bytes]) -> None:
    """Keep the subtrees that were completed when a tree of `before` records grew."""
    levels = {level for level, _ in nodes}
    for level in levels:  # whatever stands where they belong is not of this tree
        session.execute(delete(LedgerNode).where(LedgerNode.level == level, LedgerNode.position >= before >> level))
    rows = [{"level": level, "position": position, "hash": node.hex()} for (level, position), node in nodes.items()]
    if rows:
        session.execute(insert(LedgerNode), rows)


def prove(archive: Archive, seq: int, checkpoint: Checkpoint, tree: StoredTree | None = None) -> dict[str, Any]:
    """That record `seq` is in the ledger that was signed, as JSON. Raises NoProof, NotFound."""
    if not 0 < seq <= checkpoint.seq:
        raise NoProof(f"record {seq} is not under checkpoint {checkpoint.number}, which ends at {checkpoint.seq}")
    record = archive.record(seq)
    path = inclusion_path(tree or StoredTree(archive), seq - 1, checkpoint.seq)
    proof = {
        "format": PROOF_FORMAT,
        "seq": seq,
        "hash": record.hash,
        "path": [b64encode(node).decode() for node in path],
        "checkpoint": checkpoint.to_json(),
    }
    if not proves(proof, record):
        raise NoProof(f"record {seq} is not what checkpoint {checkpoint.number} signed; run: scanwarden audit verify")
    return proof


def proves(proof: Mapping[str, Any], record: LedgerRecord, key: PublicKey | None = None) -> bool:
    """Whether a proof holds for this record, whose hash is taken anew; with `key` also that this key signed it."""
    try:
        checkpoint = Checkpoint.from_json(proof["checkpoint"])
        path = [b64decode(node, validate=True) for node in proof["path"]]
    except (KeyError, TypeError, ValueError, NotBase64, CheckpointUnreadable):
        return False
    if key is not None and not checkpoint.signed_by(key):
        return False
    whole = break_after(Head(record.seq - 1, record.previous_hash), record) is None
    same = (proof.get("seq"), proof.get("hash")) == (record.seq, record.hash)
    root = bytes.fromhex(checkpoint.root)
    return whole and same and includes(leaf_of(record), record.seq - 1, checkpoint.seq, path, root)


def prove_growth(archive: Archive, old: Checkpoint, new: Checkpoint) -> dict[str, Any]:
    """That the ledger of `old` is the beginning of the one of `new`, as JSON. Raises NoProof."""
    if old.seq > new.seq:
        raise NoProof(f"checkpoint {old.number} is newer than checkpoint {new.number}")
    path = consistency_path(StoredTree(archive), old.seq, new.seq)
    if not consistent(old.seq, new.seq, bytes.fromhex(old.root), bytes.fromhex(new.root), path):
        raise NoProof(f"checkpoint {new.number} is not a growth of {old.number}; run: scanwarden audit verify")
    return {
        "format": CONSISTENCY_FORMAT,
        "old": old.to_json(),
        "new": new.to_json(),
        "path": [b64encode(node).decode() for node in path],
    }
