"""What a site knows and the files do not show: whose signatures count, who always signs, what came from where.

This room has no database and no settings, so the caller says it (`gateway/pipeline/trust.py` for the service).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from cryptography.x509 import Certificate, load_pem_x509_certificates

from inference.errors import InferenceError


class AuthoritiesUnreadable(InferenceError):
    """The file of the authorities that sign for our sources cannot be read."""


@dataclass(frozen=True)
class Trust:
    """`must_sign` and `first_seen` hold SOP Instance UIDs.

    `must_sign`: they came from a source that signs everything it makes. `first_seen`: the file that is analysed is, to
    the byte, the one that came first, and it came from a source that the site trusts. Certificates have to be
    valid when the instance arrived, by `received`, or else `at`: not by the moment of signing, which the signer says,
    nor by that of a later analysis, which would find fault with what was in order.
    """

    authorities: tuple[Certificate, ...] = ()
    must_sign: frozenset[str] = frozenset()
    first_seen: frozenset[str] = frozenset()
    received: Mapping[str, datetime] = field(default_factory=dict)
    at: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass(frozen=True)
class Proof:
    """How many of a study's instances are proven, and by what; one may be by both."""

    instances: int = 0
    signed: int = 0
    first_seen: int = 0
    proven: int = 0

    @property
    def is_complete(self) -> bool:
        """Whether every instance is proven. A study without instances proves nothing."""
        return 0 < self.instances == self.proven

    @property
    def sentence(self) -> str:
        """For the reasons of a verdict; empty where nothing is proven."""
        if not self.proven:
            return ""
        of = f"{self.instances:,} instance{'s' if self.instances != 1 else ''}"
        ways = []
        if self.signed:
            ways.append(f"{self.signed:,} as a trusted signer signed them")
        if self.first_seen:
            ways.append(f"{self.first_seen:,} to the byte as first received from a trusted source")
        return f"provenance: {self.proven:,} of {of} proven ({', '.join(ways)})"


def load_authorities(path: Path) -> tuple[Certificate, ...]:
    """The certificates of a PEM file. Raises AuthoritiesUnreadable."""
    try:
        return tuple(load_pem_x509_certificates(path.read_bytes()))
    except (OSError, ValueError) as fault:
        raise AuthoritiesUnreadable(f"{path}: no certificates can be read from it ({fault})") from fault
