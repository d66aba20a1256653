"""Authorities, signers and signed images for tests; the signing itself is DCMTK's where a test says so."""

import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

DCMSIGN = "/usr/bin/dcmsign"


@dataclass(frozen=True)
class Signatory:
    """A certificate with its key, on disk and in memory."""

    certificate: Path
    private_key: Path
    x509: x509.Certificate
    key: rsa.RSAPrivateKey

    def signs(self, file: Path, *options: str) -> Path:
        """Sign a file in place with DCMTK: every element, SHA-256, unless the options say otherwise."""
        chosen = options or ("+m2",)
        arguments = ["+s", str(self.private_key), str(self.certificate), *chosen, str(file), str(file)]
        subprocess.run([DCMSIGN, *arguments], check=True, capture_output=True)
        return file


def authority(folder: Path, name: str = "Authority") -> Signatory:
    """A self-signed authority, as a hospital runs one."""
    return _issued(folder, name, None, begins=-3650, days=7300, is_authority=True)


def signer(
    folder: Path,
    by: Signatory,
    name: str = "CT 1",
    *,
    begins: int = -30,
    days: int = 365,
    bits: int = 2048,
    address: str = "",
) -> Signatory:
    """Somebody to whom `by` issued a certificate, valid for `days` from `begins` days from now; `address` for TLS."""
    return _issued(folder, name, by, begins=begins, days=days, is_authority=False, bits=bits, address=address)


def _issued(
    folder: Path,
    name: str,
    by: Signatory | None,
    *,
    begins: int,
    days: int,
    is_authority: bool,
    bits: int = 2048,
    address: str = "",
) -> Signatory:
    key = rsa.generate_private_key(65537, bits)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    start = datetime.now(UTC) + timedelta(days=begins)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by.x509.subject if by else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
    )
    if address:
        names = x509.SubjectAlternativeName([x509.IPAddress(ip_address(address))])
        builder = builder.add_extension(names, critical=False)
    certificate = builder.sign(by.key if by else key, hashes.SHA256())
    folder.mkdir(parents=True, exist_ok=True)
    pair = folder / f"{name}.pem", folder / f"{name}.key"
    pair[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    pair[1].touch(mode=0o600)
    pair[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return Signatory(pair[0], pair[1], certificate, key)
