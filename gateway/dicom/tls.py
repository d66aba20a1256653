"""TLS for DICOM after BCP 195 (RFC 9325; PS3.15 B.12): 1.2 and 1.3, forward secrecy and AEAD, both sides checked."""

import ssl
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from config.settings import Tls

# RFC 9325 section 4.2; the suites of TLS 1.3 are all allowed and OpenSSL sets them by itself.
TLS12_SUITES = (
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
)

SOON = timedelta(days=30)


class TlsFault(ValueError):
    """A certificate or key that cannot be used; says which file and what to do. Stops a start."""


def server_context(tls: Tls) -> ssl.SSLContext:
    """For the port we listen on. Raises TlsFault when a file is missing, unreadable or does not fit the others."""
    context = _context(ssl.PROTOCOL_TLS_SERVER, tls)
    if tls.require_client_certificate:
        if tls.authorities is None:
            raise TlsFault(
                "dicom.tls.require_client_certificate is on, but dicom.tls.authorities names no file: "
                "name the authorities that sign your modalities' certificates, or turn the requirement off"
            )
        context.verify_mode = ssl.CERT_REQUIRED
    elif tls.authorities is not None:
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


def client_context(tls: Tls) -> ssl.SSLContext:
    """For a destination: its certificate is signed by `authorities` (none: the system's) and names the host we call.

    Raises TlsFault as `server_context` does.
    """
    context = _context(ssl.PROTOCOL_TLS_CLIENT, tls)
    if tls.authorities is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    return context


def expiry_warning(tls: Tls, now: datetime | None = None) -> str | None:
    """What to say when our certificate, or one of its chain or of the authorities, ends within 30 days; else None."""
    from cryptography.x509 import load_pem_x509_certificates

    now = now or datetime.now(UTC)
    found: list[str] = []
    for path in (tls.certificate, tls.authorities):
        if path is None:
            continue
        try:
            ends = min(each.not_valid_after_utc for each in load_pem_x509_certificates(path.read_bytes()))
        except (OSError, ValueError):
            found.append(f"{path} cannot be read any more; a restart would fail")
            continue
        if ends - now < SOON:
            found.append(f"a certificate in {path} {'expired' if ends < now else 'expires'} on {ends:%Y-%m-%d}")
    return "; ".join(found) or None


def common_name(certificate: Mapping[str, object] | None) -> str | None:
    """The subject's common name of a peer certificate, as `ssl.SSLSocket.getpeercert` gives it."""
    subject = (certificate or {}).get("subject", ())
    if not isinstance(subject, tuple):
        return None
    for names in subject:
        for key, value in names:
            if key == "commonName":
                return str(value)
    return None


def _context(side: int, tls: Tls) -> ssl.SSLContext:
    context = ssl.SSLContext(side)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(":".join(TLS12_SUITES))
    context.options |= ssl.OP_NO_RENEGOTIATION
    _readable("certificate", tls.certificate)
    _readable("private key", tls.private_key)
    try:
        context.load_cert_chain(tls.certificate, tls.private_key, password=_no_passphrase)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise TlsFault(
                f"{tls.private_key} is not the key of the certificate in {tls.certificate}: "
                "name the pair that belongs together"
            ) from error
        raise TlsFault(
            f"{tls.certificate} with {tls.private_key}: not a certificate and its key in PEM ({_reason(error)}); "
            "convert them with openssl"
        ) from error
    if tls.authorities is not None:
        _readable("authorities", tls.authorities)
        try:
            context.load_verify_locations(tls.authorities)
        except ssl.SSLError as error:
            raise TlsFault(f"{tls.authorities}: holds no certificate in PEM ({_reason(error)})") from error
    return context


def _readable(role: str, path: Path) -> None:
    try:
        path.open("rb").close()
    except OSError as error:
        raise TlsFault(
            f"{path}: the TLS {role} cannot be read ({error.strerror}); check the path and its owner"
        ) from error


def _no_passphrase() -> str:
    # Without this OpenSSL asks on the terminal, and a service would hang there.
    raise TlsFault("the TLS private key has a passphrase: store it without one, readable by the service's user only")


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or str(error)).replace("_", " ").lower()
