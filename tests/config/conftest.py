"""A configuration written to a file and checked, and TLS files as a hospital's authority would hand them out."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from config.check import check
from config.faults import Report

Checked = Callable[..., Report]


@pytest.fixture
def checked(tmp_path: Path) -> Checked:
    """Writes the text as a configuration file and checks it; the environment is empty unless given."""

    def write_and_check(
        text: str,
        environment: dict[str, str] | None = None,
        known_profiles: set[str] | None = None,
        known_models: set[str] | None = None,
    ) -> Report:
        path = tmp_path / "scanwarden.yaml"
        path.write_text(text, encoding="utf-8")
        return check(path, environment=environment or {}, known_profiles=known_profiles, known_models=known_models)

    return write_and_check


@dataclass(frozen=True)
class Pair:
    certificate: Path
    private_key: Path

    def yaml(self, **changes: Path) -> str:
        files = {"certificate": self.certificate, "private_key": self.private_key, **changes}
        return "{" + ", ".join(f'{key}: "{path}"' for key, path in files.items()) + "}"


@pytest.fixture
def issue(tmp_path: Path) -> Callable[..., Pair]:
    """Makes a self-signed certificate and its key, valid for `days` from `begins` days from now."""

    def issued(name: str, *, begins: int = -1, days: int = 365, passphrase: bytes | None = None) -> Pair:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        start = datetime.now(UTC) + timedelta(days=begins)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(start + timedelta(days=days))
            .sign(key, hashes.SHA256())
        )
        pair = Pair(tmp_path / f"{name}.pem", tmp_path / f"{name}.key")
        pair.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        protection: serialization.KeySerializationEncryption = (
            serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
        )
        pair.private_key.touch(mode=0o600)
        pair.private_key.write_bytes(
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection)
        )
        return pair

    return issued
