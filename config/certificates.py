"""TLS files: that they are there, belong together, are still good, and that the key is ours alone."""

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from config.document import Place
from config.notes import Notes
from config.settings import Tls

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
    from cryptography.x509 import Certificate

_SOON = timedelta(days=30)
_LEAST_RSA_BITS = 2048
_LARGEST = 4 * 1024 * 1024


def check_certificates(notes: Notes, place: Place, tls: Tls) -> None:
    """Look into the files of one `tls` group; `place` is the group's."""
    chain = certificates_of(notes, (*place, "certificate"), tls.certificate)
    key = _private_key(notes, (*place, "private_key"), tls.private_key)
    if chain and key is not None:
        _pair(notes, place, tls.certificate, tls.private_key, chain, key)
    if chain:
        _validity(notes, (*place, "certificate"), tls.certificate, chain[0])
    if tls.authorities is not None:
        authorities = certificates_of(notes, (*place, "authorities"), tls.authorities)
        now = datetime.now(UTC)
        expired = [authority for authority in authorities if authority.not_valid_after_utc < now]
        if expired:
            notes.warning(
                (*place, "authorities"),
                str(tls.authorities),
                f"{len(expired)} of its {len(authorities)} certificates expired",
                "replace it by the authorities' current certificates",
            )


def check_signing_pair(notes: Notes, place: Place, certificate: Path, private_key: Path) -> None:
    """Look into the files that sign our own objects: as for TLS, and an RSA key (PS3.15 C.1)."""
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    chain = certificates_of(notes, (*place, "certificate"), certificate)
    key = _private_key(notes, (*place, "private_key"), private_key)
    if chain and key is not None:
        _pair(notes, place, certificate, private_key, chain, key)
    if chain:
        _validity(notes, (*place, "certificate"), certificate, chain[0])
    if key is not None and not (isinstance(key, RSAPublicKey) and key.key_size >= _LEAST_RSA_BITS):
        remedy = f"make one: openssl req -newkey rsa:{_LEAST_RSA_BITS} -nodes -keyout FILE"
        notes.fault(
            (*place, "private_key"), str(private_key), f"is no RSA key of {_LEAST_RSA_BITS} bits or more", remedy
        )


def read_file(notes: Notes, place: Place, path: Path) -> bytes | None:
    """The content of a file that a setting names; None with a fault when it cannot be read."""
    remedy = "check the path and its owner"
    if str(path).startswith("~"):
        remedy = "write the whole path: ~ is not expanded"
    try:
        if path.is_dir():
            notes.fault(place, str(path), "is a folder", "name the file in it")
            return None
        with path.open("rb") as file:
            return file.read(_LARGEST)
    except FileNotFoundError:
        notes.fault(place, str(path), "does not exist", remedy)
    except PermissionError:
        notes.fault(place, str(path), "may not be read by this user", "give it to the service's user")
    except (OSError, ValueError):
        notes.fault(place, str(path), "cannot be read", remedy)
    return None


def others_may_read(path: Path) -> bool:
    return bool(path.stat().st_mode & stat.S_IROTH)


def certificates_of(notes: Notes, place: Place, path: Path) -> "list[Certificate]":
    """The certificates of a PEM file that a setting names; none with a fault when there are none."""
    from cryptography.x509 import load_pem_x509_certificates

    content = read_file(notes, place, path)
    if content is None:
        return []
    try:
        return load_pem_x509_certificates(content)
    except ValueError:
        remedy = "convert it: openssl x509 -in FILE -out FILE.pem -outform PEM"
        notes.fault(place, str(path), "holds no certificate in PEM", remedy)
        return []


def _private_key(notes: Notes, place: Place, path: Path) -> "PublicKeyTypes | None":
    """The public half of the private key: enough to compare, and nothing secret stays in memory."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    content = read_file(notes, place, path)
    if content is None:
        return None
    if others_may_read(path):
        notes.fault(place, str(path), "may be read by every user of this machine", f"run: chmod 600 {path}")
    try:
        return load_pem_private_key(content, password=None).public_key()
    except TypeError:
        remedy = "store it without one (openssl pkey), readable by the service's user only"
        notes.fault(place, str(path), "has a passphrase, and nobody is there to type it", remedy)
    except (ValueError, UnsupportedAlgorithm):
        notes.fault(place, str(path), "holds no private key in PEM", "name the file with the key of the certificate")
    return None


def _pair(
    notes: Notes,
    place: Place,
    certificate_file: Path,
    key_file: Path,
    chain: "list[Certificate]",
    key: "PublicKeyTypes",
) -> None:
    if chain[0].public_key() == key:
        return
    if any(certificate.public_key() == key for certificate in chain[1:]):
        remedy = "put our own certificate first, then those that signed it"
        notes.fault((*place, "certificate"), str(certificate_file), "holds the chain in the wrong order", remedy)
    else:
        problem = f"is not the key of the certificate in {certificate_file}"
        remedy = "name the certificate and the key that belong together"
        notes.fault((*place, "private_key"), str(key_file), problem, remedy)


def _validity(notes: Notes, place: Place, path: Path, certificate: "Certificate") -> None:
    now = datetime.now(UTC)
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if ends < now:
        notes.fault(place, str(path), f"expired on {ends:%Y-%m-%d}", "get a new certificate")
    elif begins > now:
        remedy = "check this machine's clock, or wait"
        notes.fault(place, str(path), f"is valid from {begins:%Y-%m-%d %H:%M} UTC only", remedy)
    elif ends - now < _SOON:
        notes.warning(place, str(path), f"expires on {ends:%Y-%m-%d}", "get a new certificate before that day")
