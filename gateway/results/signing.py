"""Signing our own evidence objects, so that a reader can tell our report from one that somebody else wrote.

The creator RSA signature of PS3.15 C.2 with SHA-256, over every element of the object. RSA with PKCS #1 v1.5 padding
gives the same value for the same object, so a signed object, too, is the same bytes when it is made again (promise 2).
"""

import uuid
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509 import Certificate, load_pem_x509_certificates
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag
from pydicom.uid import ExplicitVRLittleEndian

from gateway.results.evidence import ResultsError
from inference.provenance.mac import SIGNATURES, items, may_be_signed, stream

_NAMESPACE = uuid.UUID("7b0c6a1e-3f0e-5c55-9f5a-6d8f8a1d2c11")
_LEAST_BITS = 2048


class CannotSign(ResultsError):
    """The key or the certificate for our own objects is not fit for it."""


@dataclass(frozen=True)
class Signer:
    """A key and its certificate."""

    key: rsa.RSAPrivateKey
    certificate: Certificate

    def sign(self, dataset: Dataset, at: datetime) -> None:
        """Put a signature over every element into a finished object; `at` becomes its date and time."""
        dataset.MACParametersSequence = [_parameters(dataset)]
        dataset.DigitalSignaturesSequence = [self._item(dataset, at)]
        # The stream is made of what will stand in the file, so it is written once without the value.
        buffer = BytesIO()
        dataset.save_as(buffer, enforce_file_format=True)
        buffer.seek(0)
        written = dcmread(buffer)
        covered = hashes.Hash(hashes.SHA256())
        for part in stream(written, _tags(dataset), items(written, SIGNATURES)[0]):
            covered.update(part)
        value = self.key.sign(covered.finalize(), padding.PKCS1v15(), Prehashed(hashes.SHA256()))
        dataset.DigitalSignaturesSequence[0].Signature = value

    def _item(self, dataset: Dataset, at: datetime) -> Dataset:
        item = Dataset()
        item.MACIDNumber = 0
        fingerprint = self.certificate.fingerprint(hashes.SHA256()).hex()
        item.DigitalSignatureUID = f"2.25.{uuid.uuid5(_NAMESPACE, f'{dataset.SOPInstanceUID} {fingerprint}').int}"
        item.DigitalSignatureDateTime = at.strftime("%Y%m%d%H%M%S.%f%z")
        item.CertificateType = "X509_1993_SIG"
        encoded = self.certificate.public_bytes(Encoding.DER)
        item.CertificateOfSigner = encoded + b"\0" * (len(encoded) % 2)
        item.Signature = b"\0\0"
        return item


def load_signer(certificate: Path, private_key: Path) -> Signer:
    """The signer of two PEM files. Raises CannotSign."""
    try:
        first = load_pem_x509_certificates(certificate.read_bytes())[0]
        key = load_pem_private_key(private_key.read_bytes(), password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as fault:
        raise CannotSign(f"signatures.ours: {certificate} and {private_key} cannot be read ({fault})") from fault
    if not isinstance(key, rsa.RSAPrivateKey) or key.key_size < _LEAST_BITS:
        raise CannotSign(f"signatures.ours.private_key: {private_key} is no RSA key of at least {_LEAST_BITS} bits")
    if key.public_key() != first.public_key():
        raise CannotSign(f"signatures.ours: {private_key} is not the key of the certificate in {certificate}")
    return Signer(key, first)


def _parameters(dataset: Dataset) -> Dataset:
    item = Dataset()
    item.MACIDNumber = 0
    item.MACCalculationTransferSyntaxUID = ExplicitVRLittleEndian
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax.is_compressed and syntax.is_encapsulated:
        item.MACCalculationTransferSyntaxUID = syntax
    item.MACAlgorithm = "SHA256"
    item.DataElementsSigned = [int(tag) for tag in _tags(dataset)]
    return item


def _tags(dataset: Dataset) -> list[BaseTag]:
    return [tag for tag in sorted(dataset.keys()) if may_be_signed(tag)]
