"""A checkpoint: the ledger's head and Merkle root at a moment, signed with Ed25519.

What is signed is the JSON object of all fields but the signature, with `format`, sorted keys, no white space, ASCII:
the bytes that `payload` gives and an export writes to `checkpoint.json`. Numbers start at 1 and have no gap; `previous`
is the SHA-256 of the payload before it, zeros for the first.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from hashlib import sha256
from typing import Any

from storage.audit.keys import PublicKey, SigningKey
from storage.errors import StorageError

CHECKPOINT_FORMAT = "scanwarden-checkpoint-1"
FIRST = "0" * 64
_SHA256 = re.compile(r"[0-9a-f]{64}")


class CheckpointUnreadable(StorageError):
    """What was given is no checkpoint."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One signed head. `seq` records existed, the last with hash `head`; `root` is their tree's."""

    number: int
    seq: int
    head: str
    root: str
    time: str
    previous: str
    key_id: str
    signature: str = ""

    def payload(self) -> bytes:
        """The bytes that are signed."""
        facts = self.to_json() | {"format": CHECKPOINT_FORMAT}
        del facts["signature"]
        return json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()

    @property
    def digest(self) -> str:
        """What the next checkpoint names as its `previous`."""
        return sha256(self.payload()).hexdigest()

    def signed_by(self, key: PublicKey) -> bool:
        return self.key_id == key.id and key.signed(self.signature, self.payload())

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in NAMES}

    def line(self) -> bytes:
        """The line of an anchor."""
        return json.dumps(self.to_json() | {"format": CHECKPOINT_FORMAT}, sort_keys=True).encode() + b"\n"

    @staticmethod
    def from_json(facts: Any) -> "Checkpoint":
        """The checkpoint of a JSON object. Raises CheckpointUnreadable."""
        if not isinstance(facts, Mapping) or facts.get("format", CHECKPOINT_FORMAT) != CHECKPOINT_FORMAT:
            raise CheckpointUnreadable(f"this is no checkpoint of the form {CHECKPOINT_FORMAT}")
        try:
            made = Checkpoint(**{name: facts[name] for name in NAMES})
        except KeyError as fault:
            raise CheckpointUnreadable(f"the checkpoint has no {fault}") from None
        whole = all(type(number) is int and number > 0 for number in (made.number, made.seq))
        hashes = (made.head, made.root, made.previous)
        if not whole or not all(isinstance(each, str) and _SHA256.fullmatch(each) for each in hashes):
            raise CheckpointUnreadable("a number or a hash of the checkpoint is none")
        if not all(isinstance(text, str) and text.isascii() for text in (made.time, made.key_id, made.signature)):
            raise CheckpointUnreadable("a text of the checkpoint is none")
        return made


NAMES = tuple(each.name for each in fields(Checkpoint))


def signed(key: SigningKey, *, number: int, seq: int, head: str, root: str, time: str, previous: str) -> Checkpoint:
    """A checkpoint with its signature."""
    facts: dict[str, Any] = {"number": number, "seq": seq, "head": head, "root": root, "time": time}
    draft = Checkpoint(**facts, previous=previous, key_id=key.public.id)
    return Checkpoint(**facts, previous=previous, key_id=draft.key_id, signature=key.sign(draft.payload()))
