"""Digital signatures of one instance: what they cover, whether they fit, and who made them (PS3.15 Annex C).

A signature proves something only when its MAC fits the elements as they stand, its algorithm is not weak, its
certificate was issued by an authority of the site and was valid when the image arrived, and it covers what makes the
image. The moment of signing is the signer's own word, so an expired certificate proves nothing, whenever it is said to
have been used.
"""

import hashlib
import mmap
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path

import pydicom
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from cryptography.x509 import BasicConstraints, Certificate, ExtensionNotFound, KeyUsage, load_der_x509_certificate
from pydicom.dataset import Dataset
from pydicom.filereader import data_element_generator
from pydicom.tag import BaseTag, Tag
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian
from pydicom.valuerep import DT

from inference.instances import refuse_deflated_excess
from inference.provenance.mac import MAC_PARAMETERS, SIGNATURES, NotSignable, guesses, items, peek, stream
from inference.provenance.scope import Coverage, coverage

_STRONG = {"SHA256": hashes.SHA256(), "SHA384": hashes.SHA384(), "SHA512": hashes.SHA512()}
_WEAK = {"SHA1": hashes.SHA1(), "MD5": hashes.MD5()}  # noqa: S303  only to say that they fit, and prove nothing
_RIPEMD160_INFO = bytes.fromhex("3021300906052b2403020105000414")  # DigestInfo of PKCS #1 v1.5, before the 20 bytes
_WEAK_CERTIFICATE_HASHES = ("md5", "sha1")
_LEAST_RSA, _LEAST_EC = 2048, 224
_CLOCKS_DIFFER = timedelta(days=1)  # a DT without an offset is in the signer's own zone
# MAC Parameters Sequence in both byte orders; Digital Signatures Sequence, which pixels could spell, with its VR.
_MARKS = (b"\xfe\x4f\x01\x00", b"\x4f\xfe\x00\x01", b"\xfa\xff\xfa\xffSQ", b"\xff\xfa\xff\xfaSQ")
_HEADER_LIMIT = 4 * 1024**3
_DEEPEST = 16


class Grade(StrEnum):
    """What a signature is worth, the gravest first."""

    BROKEN = "broken"
    UNCHECKABLE = "uncheckable"
    WEAK = "weak"
    UNTRUSTED = "untrusted"
    EXPIRED = "expired"
    PARTIAL = "partial"
    VALID = "valid"


@dataclass(frozen=True)
class SignatureCheck:
    """One signature. `signer` is the SHA-256 of its certificate; `place` is empty for one over the whole instance."""

    grade: Grade
    reason: str
    uid: str = ""
    place: str = ""
    algorithm: str = ""
    signer: str = ""
    left_out: tuple[str, ...] = ()

    @property
    def proves(self) -> bool:
        """Whether the instance is, in everything that a reader sees or a program computes with, as it was signed."""
        return self.grade is Grade.VALID and not self.place and not self.left_out

    @property
    def is_sound(self) -> bool:
        """Whether it is enough for a source that always signs: pixels and UIDs are covered, the header may be not."""
        return self.grade is Grade.VALID and not self.place


def check_file(
    file: Path, authorities: Sequence[Certificate], at: datetime | None = None
) -> tuple[SignatureCheck, ...]:
    """Every signature of an instance; none where it carries none or cannot be read at all."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        marked = False
        try:
            marked = _may_hold_signatures(file)
            if not marked:
                return ()
            dataset = pydicom.dcmread(file, force=True)
            if not _holders(dataset, ""):
                return ()
            fault = _order_fault(file, dataset)
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001  the analysis itself says what is wrong with a file that cannot be read
            return () if not marked else (SignatureCheck(Grade.UNCHECKABLE, "the file cannot be read to its end"),)
        checks = check_dataset(dataset, authorities, at)
    return checks if fault is None else tuple(_worse(check, fault) for check in checks)


def check_dataset(
    dataset: Dataset, authorities: Sequence[Certificate], at: datetime | None = None
) -> tuple[SignatureCheck, ...]:
    """Every signature of a data set that was read from a file and not touched since, those inside items included."""
    moment = at or datetime.now(UTC)
    checks: list[SignatureCheck] = []
    for place, holder in _holders(dataset, ""):
        signatures = items(holder, SIGNATURES)
        if not signatures:
            checks.append(SignatureCheck(Grade.BROKEN, "parameters of a signature without the signature", place=place))
        for signature in signatures:
            try:
                checks.append(_check(holder, signature, place, authorities, moment))
            except Exception as fault:  # noqa: BLE001  bytes that nobody can read are no signature
                reason = f"it cannot be read ({type(fault).__name__})"
                checks.append(SignatureCheck(Grade.BROKEN, reason, place=place))
    return tuple(checks)


def _may_hold_signatures(file: Path) -> bool:
    """A look at the bytes, because most instances carry none and parsing every item of a large one takes seconds.

    Raises UnreadableInstance for a deflated data set without measure.
    """
    meta = pydicom.filereader.read_file_meta_info(file)
    if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        refuse_deflated_excess(file, _HEADER_LIMIT)
        return True
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return any(content.find(mark) >= 0 for mark in _MARKS)


def _holders(dataset: Dataset, place: str, depth: int = 0) -> list[tuple[str, Dataset]]:
    """The data set and those of its items that carry signatures or their parameters."""
    found = [(place, dataset)] if SIGNATURES in dataset or MAC_PARAMETERS in dataset else []
    if depth >= _DEEPEST:
        return found
    for tag in dataset.keys():  # noqa: SIM118  iterating a Dataset converts its elements
        if tag in (SIGNATURES, MAC_PARAMETERS) or not _is_sequence(dataset, tag):
            continue
        for number, item in enumerate(items(dataset, tag)):
            found += _holders(item, f"{place}{tag}[{number}]", depth + 1)
    return found


def _is_sequence(dataset: Dataset, tag: BaseTag) -> bool:
    found = dataset.get_item(tag)
    if found is None:
        return False
    if found.VR is None:
        try:
            return pydicom.datadict.dictionary_VR(tag) == "SQ"
        except KeyError:
            return False
    return str(found.VR) == "SQ"


def _check(
    dataset: Dataset, signature: Dataset, place: str, authorities: Sequence[Certificate], at: datetime
) -> SignatureCheck:
    uid = str(peek(signature, "DigitalSignatureUID") or "")

    def graded(grade: Grade, reason: str, **more: str | tuple[str, ...]) -> SignatureCheck:
        return SignatureCheck(grade, reason, uid=uid, place=place, algorithm=name, signer=signer, **more)  # type: ignore[arg-type]

    name = signer = ""
    number = peek(signature, "MACIDNumber")
    parameters = [each for each in items(dataset, MAC_PARAMETERS) if peek(each, "MACIDNumber") == number]
    if len(parameters) != 1:
        return graded(Grade.BROKEN, f"{len(parameters)} MAC parameters belong to it, not 1")
    name = str(peek(parameters[0], "MACAlgorithm") or "")
    value, encoded = peek(signature, "Signature"), peek(signature, "CertificateOfSigner")
    signed = _tags(peek(parameters[0], "DataElementsSigned"))
    if not value or not encoded or not signed:
        return graded(Grade.BROKEN, "its value, its certificate or the list of what it covers is missing")
    try:
        certificate = load_der_x509_certificate(_without_padding(bytes(encoded)))
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return graded(Grade.BROKEN, "its certificate cannot be read")
    signer = certificate.fingerprint(hashes.SHA256()).hex()
    if peek(parameters[0], "MACCalculationTransferSyntaxUID") == ImplicitVRLittleEndian:
        return graded(Grade.UNCHECKABLE, "it is made over a transfer syntax without value representations")
    try:
        digest = _digest(name, stream(dataset, signed, signature))
        fits = _fits(key, bytes(value), name, digest)
    except NotSignable as fault:
        return graded(Grade.UNCHECKABLE, f"what it covers has no sound form: {fault}")
    except (_UnknownAlgorithm, UnsupportedAlgorithm) as fault:
        return graded(Grade.UNCHECKABLE, str(fault))
    if not fits:
        if guesses(dataset):
            return graded(Grade.UNCHECKABLE, "it does not fit, and private elements came without their representation")
        return graded(Grade.BROKEN, "it does not fit the elements that it covers: they were altered after signing")
    if weakness := _weakness(name, key, certificate):
        return graded(Grade.WEAK, weakness)
    if stranger := _stranger(certificate, authorities):
        return graded(Grade.UNTRUSTED, stranger)
    if late := _untimely(certificate, authorities, peek(signature, "DigitalSignatureDateTime"), at):
        return graded(Grade.EXPIRED, late)
    covered: Coverage = coverage(dataset, signed)
    if covered.core_left_out and not place:
        left_out = covered.core_left_out + covered.left_out
        return graded(Grade.PARTIAL, f"it leaves out {_listed(left_out)}", left_out=left_out)
    return graded(Grade.VALID, "it fits, by a signer that the site trusts", left_out=covered.left_out)


class _UnknownAlgorithm(Exception):
    pass


def _digest(name: str, parts: Iterable[bytes]) -> bytes:
    if name not in (*_STRONG, *_WEAK, "RIPEMD160"):
        raise _UnknownAlgorithm(f"its MAC algorithm {name[:16]!r} is unknown")
    try:
        hasher = hashlib.new(name.lower())
    except ValueError as fault:
        raise _UnknownAlgorithm(f"its MAC algorithm {name} is weak, and not installed here") from fault
    for part in parts:
        hasher.update(part)
    return hasher.digest()


def _fits(key: object, value: bytes, name: str, digest: bytes) -> bool:
    algorithm = {**_STRONG, **_WEAK}.get(name)
    try:
        if isinstance(key, rsa.RSAPublicKey):
            value = value[: (key.key_size + 7) // 8]  # a value of odd length is padded (PS3.5 §6.2, OB)
            if algorithm is None:
                return key.recover_data_from_signature(value, padding.PKCS1v15(), None) == _RIPEMD160_INFO + digest
            key.verify(value, digest, padding.PKCS1v15(), utils.Prehashed(algorithm))
            return True
        if isinstance(key, ec.EllipticCurvePublicKey) and algorithm is not None:
            key.verify(_without_padding(value), digest, ec.ECDSA(utils.Prehashed(algorithm)))
            return True
    except (InvalidSignature, ValueError):
        return False
    raise _UnknownAlgorithm(f"its key is a {type(key).__name__.lstrip('_')}; RSA and elliptic curves can be checked")


def _weakness(name: str, key: object, certificate: Certificate) -> str:
    if name not in _STRONG:
        return f"its MAC algorithm {name} is weak: a signed image can be forged"
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < _LEAST_RSA:
        return f"its RSA key has {key.key_size} bits, fewer than {_LEAST_RSA}"
    if isinstance(key, ec.EllipticCurvePublicKey) and key.key_size < _LEAST_EC:
        return f"its key has {key.key_size} bits, fewer than {_LEAST_EC}"
    used = certificate.signature_hash_algorithm
    if used is not None and used.name in _WEAK_CERTIFICATE_HASHES:
        return f"its certificate was issued with {used.name.upper()}"
    return ""


def _stranger(certificate: Certificate, authorities: Sequence[Certificate]) -> str:
    if not authorities:
        return "the site names no authority whose signers it trusts"
    if _issuer(certificate, authorities) is None:
        return "no authority of the site issued its certificate"
    try:
        usage = certificate.extensions.get_extension_for_class(KeyUsage).value
    except (ExtensionNotFound, ValueError):
        return ""
    if not (usage.digital_signature or usage.content_commitment):
        return "its certificate is not meant for signatures"
    return ""


def _issuer(certificate: Certificate, authorities: Sequence[Certificate]) -> Certificate | None:
    """The authority that issued it, or itself where the site names the signer's own certificate."""
    for authority in authorities:
        if authority == certificate:
            return authority
        try:
            certificate.verify_directly_issued_by(authority)
            if authority.extensions.get_extension_for_class(BasicConstraints).value.ca:
                return authority
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm, ExtensionNotFound):
            continue
    return None


def _untimely(certificate: Certificate, authorities: Sequence[Certificate], stamp: object, at: datetime) -> str:
    issuer = _issuer(certificate, authorities)
    for whose, each in (("its certificate", certificate), ("the authority's certificate", issuer)):
        if each is not None and not each.not_valid_before_utc <= at <= each.not_valid_after_utc:
            day = each.not_valid_after_utc if at > each.not_valid_after_utc else each.not_valid_before_utc
            return f"{whose} {'expired on' if at > day else 'is valid only from'} {day:%Y-%m-%d}"
    try:
        signed_at = stamp if isinstance(stamp, datetime) else DT(str(stamp))
    except (ValueError, TypeError):
        signed_at = None
    if signed_at is None:
        return "it says no moment of signing"
    signed_at = signed_at if signed_at.tzinfo is not None else signed_at.replace(tzinfo=UTC)
    if not certificate.not_valid_before_utc - _CLOCKS_DIFFER <= signed_at <= at + _CLOCKS_DIFFER:
        return "it says that it was made outside its certificate's time"
    return ""


def _order_fault(file: Path, dataset: Dataset) -> tuple[Grade, str] | None:
    """An element that stands twice is read by one program from here and by another from there: none must be covered."""
    if dataset.file_meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        return Grade.UNCHECKABLE, "the order of a deflated data set is not looked at"
    implicit, little = dataset.original_encoding
    with file.open("rb") as opened:
        opened.seek(128 + 4)
        length = int.from_bytes(opened.read(12)[8:12], "little")
        opened.seek(128 + 4 + 12 + length)
        tags = [each.tag for each in data_element_generator(opened, bool(implicit), bool(little), defer_size=1024)]
    if len(set(tags)) < len(tags):
        return Grade.BROKEN, "the data set holds an element twice: programs differ in which one they show"
    return None if tags == sorted(tags) else (Grade.UNCHECKABLE, "the elements are not in order (PS3.5 §7.1)")


def _worse(check: SignatureCheck, fault: tuple[Grade, str]) -> SignatureCheck:
    grades = list(Grade)
    if grades.index(check.grade) <= grades.index(fault[0]):
        return check
    return SignatureCheck(fault[0], fault[1], check.uid, check.place, check.algorithm, check.signer, check.left_out)


def _tags(value: object) -> list[BaseTag]:
    if value is None:
        return []
    values = [value] if isinstance(value, int) else value
    return [Tag(each) for each in values] if isinstance(values, Iterable) else []


def _without_padding(encoded: bytes) -> bytes:
    """DER says its own length; a NUL after it is DICOM's padding to an even length."""
    if len(encoded) > 4 and encoded[1] & 0x80:
        size = encoded[1] & 0x7F
        return encoded[: 2 + size + int.from_bytes(encoded[2 : 2 + size], "big")]
    return encoded[: 2 + encoded[1]] if len(encoded) > 1 else encoded


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
