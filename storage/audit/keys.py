"""The keys that sign checkpoints: private halves in files of our own user, public halves in the ledger and the store.

The ledger says which key signs: each `ledger-key-published` record names one, and the newest holds until the next. A
later key carries the *endorsement* of the one before it, so that whoever trusts the first follows to the last. A
retired private key is deleted: it cannot be stolen and used on the past.
"""

import json
import os
from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_public_key,
    load_pem_private_key,
    load_pem_public_key,
)

from storage.errors import StorageError

KEY_FORMAT = "scanwarden-key-1"


class KeyFault(StorageError):
    """A key is missing, unreadable, open to others or not the one that the ledger names."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """The public half: what a verifier needs."""

    key: Ed25519PublicKey

    @property
    def id(self) -> str:
        """The first 32 hexadecimal digits of the SHA-256 of its DER form (SubjectPublicKeyInfo)."""
        return sha256(self._der()).hexdigest()[:32]

    @property
    def text(self) -> str:
        """Its DER form in Base64: the middle line of its PEM file."""
        return b64encode(self._der()).decode()

    @property
    def pem(self) -> str:
        return self.key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    def signed(self, signature: str, message: bytes) -> bool:
        """Whether this key made the signature (Base64)."""
        try:
            self.key.verify(b64decode(signature, validate=True), message)
        except (InvalidSignature, NotBase64, ValueError):
            return False
        return True

    def _der(self) -> bytes:
        return self.key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    @staticmethod
    def from_text(text: str) -> "PublicKey":
        """The key of a `text`. Raises KeyFault."""
        try:
            return PublicKey(_ed25519(load_der_public_key(b64decode(text, validate=True)), "a record of the ledger"))
        except (ValueError, UnsupportedAlgorithm) as fault:
            raise KeyFault(f"a record of the ledger holds no public key: {fault}") from fault

    @staticmethod
    def from_file(path: Path) -> "PublicKey":
        """The key of a PEM file. Raises KeyFault."""
        try:
            return PublicKey(_ed25519(load_pem_public_key(path.read_bytes()), str(path)))
        except (OSError, ValueError, UnsupportedAlgorithm) as fault:
            raise KeyFault(f"{path}: no public key could be read ({fault}); give a PEM file") from fault


def _ed25519(key: object, where: str) -> Ed25519PublicKey:
    if not isinstance(key, Ed25519PublicKey):
        raise KeyFault(f"{where}: the key is not of Ed25519")
    return key


@dataclass(frozen=True, slots=True)
class SigningKey:
    """Both halves, in the one process that signs."""

    key: Ed25519PrivateKey

    @property
    def public(self) -> PublicKey:
        return PublicKey(self.key.public_key())

    def sign(self, message: bytes) -> str:
        """The signature in Base64, 88 characters."""
        return b64encode(self.key.sign(message)).decode()


@dataclass(frozen=True, slots=True)
class PublishedKey:
    """A key as a record of the ledger names it."""

    seq: int
    time: str
    public: PublicKey
    previous: str | None
    endorsement: str | None

    @property
    def id(self) -> str:
        return self.public.id

    def endorsed_by(self, other: PublicKey) -> bool:
        """Whether the holder of the other key said that this one follows it."""
        vouched = self.previous == other.id and self.endorsement is not None
        return vouched and other.signed(str(self.endorsement), endorsement_of(self.public, other))

    def to_json(self) -> dict[str, Any]:
        return {
            "key_id": self.id,
            "seq": self.seq,
            "time": self.time,
            "public_key": self.public.text,
            "previous": self.previous,
            "endorsement": self.endorsement,
        }

    @staticmethod
    def from_details(seq: int, time: str, details: Mapping[str, Any]) -> "PublishedKey":
        """The key of a `ledger-key-published` record. Raises KeyFault when the record holds none."""
        public = PublicKey.from_text(str(details.get("public_key", "")))
        if public.id != details.get("key_id"):
            raise KeyFault(f"record {seq} gives a key another identifier than its own")
        return PublishedKey(seq, time, public, details.get("previous"), details.get("endorsement"))


def endorsement_of(new: PublicKey, by: PublicKey) -> bytes:
    """What the older key signs."""
    facts = {"format": KEY_FORMAT, "key_id": new.id, "previous": by.id, "public_key": new.text}
    return json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()


class KeyFolder:
    """The folder of private keys: mode 0700, a file of mode 0600 for each key."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def create(self) -> SigningKey:
        """Make a new key, durably. Raises KeyFault when it cannot be written."""
        made = SigningKey(Ed25519PrivateKey.generate())
        pem = made.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        file = self.file(made.public.id)
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as new:
                new.write(pem)
                new.flush()
                os.fsync(new.fileno())
            _sync_folder(self.path)
        except OSError as fault:
            raise KeyFault(f"{file}: the key cannot be written ({fault.strerror}); check `audit.keys`") from fault
        return made

    def load(self, key_id: str) -> SigningKey:
        """The private key that the ledger names. Raises KeyFault when it is not here, or is open to others."""
        file = self.file(key_id)
        try:
            if file.stat().st_mode & 0o077:
                raise KeyFault(f"{file}: others may read or write the ledger's key; chmod 600 it, then rotate it")
            key = load_pem_private_key(file.read_bytes(), password=None)
        except OSError as fault:
            raise KeyFault(
                f"{file}: the key that signs this ledger cannot be read ({fault.strerror}); restore it, or if it is "
                "lost for good: scanwarden audit keys rotate --lost"
            ) from fault
        except (ValueError, TypeError, UnsupportedAlgorithm) as fault:
            raise KeyFault(f"{file}: is no private key ({fault}); restore it from its backup") from fault
        if not isinstance(key, Ed25519PrivateKey) or PublicKey(key.public_key()).id != key_id:
            raise KeyFault(f"{file}: holds another key than its name says; restore it from its backup")
        return SigningKey(key)

    def retire_all_but(self, key_id: str) -> None:
        """Delete every other private key."""
        for file in self.path.glob("*.pem"):
            if file != self.file(key_id):
                file.unlink(missing_ok=True)

    def file(self, key_id: str) -> Path:
        return self.path / f"{key_id}.pem"


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
