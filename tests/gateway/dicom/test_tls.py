"""TLS after BCP 195: the right certificate comes in, all others leave a reason, a wrong file stops the start."""

import socket
import ssl
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from config.settings import Destination, Tls
from gateway.dicom import receiver
from gateway.dicom.scu import Rejected, Unreachable, echo
from gateway.dicom.tls import TlsFault, client_context, expiry_warning, server_context
from tests.faults.modality import make_study
from tests.gateway.dicom.conftest import Gateway, Start


class Authority:
    """A certificate authority of the test, and what it signs."""

    def __init__(self, folder: Path, name: str, *, with_rsa: bool = False) -> None:
        self.folder = folder
        self.with_rsa = with_rsa
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._sign(self.name, self.key, authority=True)
        self.path = folder / f"{name}.pem"
        self.path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, common_name: str, passphrase: bytes | None = None) -> dict[str, str]:
        """Certificate and key files for a node on the loopback, as the settings name them."""
        key = (
            rsa.generate_private_key(public_exponent=65537, key_size=2048)
            if self.with_rsa
            else ec.generate_private_key(ec.SECP256R1())
        )
        certificate = self._sign(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]), key)
        certificate_path = self.folder / f"{common_name}.crt"
        key_path = self.folder / f"{common_name}.key"
        certificate_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        key_path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption(),
            )
        )
        return {"certificate": str(certificate_path), "private_key": str(key_path), "authorities": str(self.path)}

    def _sign(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, *, authority: bool = False
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1")), x509.DNSName("localhost")]),
                critical=False,
            )
            .sign(self.key, hashes.SHA256())
        )


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("hospital"), "hospital")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("stranger"), "stranger")


def destination(gateway: Gateway, tls: dict[str, str] | None) -> Destination:
    return Destination.model_validate(
        {
            "name": "gateway",
            "ae_title": "SCANWARDEN",
            "host": "127.0.0.1",
            "port": gateway.port,
            "tls": tls,
            "timeout": 5,
        }
    )


def test_the_right_certificate_comes_in(start: Start, hospital: Authority) -> None:
    gateway = start(tls=hospital.issue("gateway"), sources=[{"ae_title": "CT1", "certificate_subject": "ct1"}])
    assert echo(destination(gateway, hospital.issue("ct1")), "CT1") < 5


def test_a_certificate_of_another_node_is_rejected(start: Start, hospital: Authority) -> None:
    gateway = start(tls=hospital.issue("gateway"), sources=[{"ae_title": "CT1", "certificate_subject": "ct1"}])
    with pytest.raises(Rejected, match="calling AE title not recognised") as rejected:
        echo(destination(gateway, hospital.issue("ct2")), "CT1")
    assert not rejected.value.transient
    assert gateway.refused_associations()[0]["reason"] == "calling_ae_title"


def test_a_certificate_of_a_stranger_ends_in_the_handshake(
    start: Start, hospital: Authority, stranger: Authority
) -> None:
    gateway = start(tls=hospital.issue("gateway"))
    forged = {**stranger.issue("ct1"), "authorities": str(hospital.path)}
    with pytest.raises(Unreachable, match="TLS fails"):
        echo(destination(gateway, forged), "CT1")
    (event,) = gateway.refused_associations()
    assert event["reason"] == "tls"
    assert "certificate" in event["text"]
    assert echo(destination(gateway, hospital.issue("ct1")), "CT1") < 5, "the next association works"


def test_no_certificate_ends_in_the_handshake(start: Start, hospital: Authority) -> None:
    gateway = start(tls=hospital.issue("gateway"))
    context = ssl.create_default_context(cafile=hospital.path)
    with (
        socket.create_connection(("127.0.0.1", gateway.port), 5) as raw,
        context.wrap_socket(raw, server_hostname="127.0.0.1") as secured,
        pytest.raises(ssl.SSLError),
    ):
        secured.recv(1)
    assert gateway.refused_associations()[0]["text"] == "TLS handshake: peer did not return a certificate"


def test_without_the_requirement_no_certificate_is_needed(start: Start, hospital: Authority) -> None:
    gateway = start(tls={**hospital.issue("gateway"), "require_client_certificate": False})
    context = ssl.create_default_context(cafile=hospital.path)
    with (
        socket.create_connection(("127.0.0.1", gateway.port), 5) as raw,
        context.wrap_socket(raw, server_hostname="127.0.0.1") as secured,
    ):
        assert secured.version() == "TLSv1.3"


def test_a_server_of_a_stranger_is_not_sent_to(start: Start, hospital: Authority, stranger: Authority) -> None:
    gateway = start(tls={**stranger.issue("gateway"), "authorities": str(hospital.path)})
    with pytest.raises(Unreachable, match="TLS fails: CERTIFICATE_VERIFY_FAILED"):
        echo(destination(gateway, hospital.issue("ct1")), "CT1")


def test_plain_dicom_on_the_tls_port_is_refused_and_the_next_works(start: Start, hospital: Authority) -> None:
    gateway = start(tls=hospital.issue("gateway"))
    with pytest.raises(Unreachable):
        echo(destination(gateway, None), "CT1")
    assert gateway.refused_associations()[0]["reason"] == "tls"
    assert echo(destination(gateway, hospital.issue("ct1")), "CT1") < 5


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_attack_a_downgrade_below_1_2_is_refused(start: Start, hospital: Authority) -> None:
    gateway = start(tls=hospital.issue("gateway"))
    context = ssl.create_default_context(cafile=hospital.path)
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with (
        socket.create_connection(("127.0.0.1", gateway.port), 5) as raw,
        pytest.raises(ssl.SSLError),
    ):
        context.wrap_socket(raw, server_hostname="127.0.0.1")
    assert "protocol" in gateway.refused_associations()[0]["text"]


def test_a_suite_without_forward_secrecy_is_refused(start: Start, hospital: Authority) -> None:
    gateway = start(tls=hospital.issue("gateway"))
    context = ssl.create_default_context(cafile=hospital.path)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("AES256-GCM-SHA384:ECDHE-ECDSA-AES256-SHA")
    with (
        socket.create_connection(("127.0.0.1", gateway.port), 5) as raw,
        pytest.raises(ssl.SSLError),
    ):
        context.wrap_socket(raw, server_hostname="127.0.0.1")
    assert gateway.refused_associations()[0]["text"] == "TLS handshake: no shared cipher"


def client(gateway: Gateway, *options: str) -> str:
    """What OpenSSL's client says of a connection; `R` asks for a renegotiation."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{gateway.port}", *options]
    done = subprocess.run(command, input="R\n", capture_output=True, text=True, timeout=30, check=False)
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    "options",
    [
        ("-tls1", "-cipher", "ALL:@SECLEVEL=0"),
        ("-tls1_1", "-cipher", "ALL:@SECLEVEL=0"),
        ("-tls1_2", "-cipher", "AES128-SHA:AES256-GCM-SHA384:@SECLEVEL=0"),  # no forward secrecy
        ("-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-SHA384:ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0"),  # no AEAD
        ("-tls1_2", "-cipher", "DHE-RSA-AES256-GCM-SHA384:@SECLEVEL=0"),
        ("-tls1_2", "-cipher", "aNULL:eNULL:@SECLEVEL=0"),
    ],
    ids=lambda options: " ".join(options[::2]),
)
def test_attack_a_client_of_yesterday_is_refused(start: Start, hospital: Authority, options: tuple[str, ...]) -> None:
    gateway = start(tls=hospital.issue("gateway"))
    said = client(gateway, *options)
    assert "Cipher is (NONE)" in said
    assert gateway.refused_associations()[0]["reason"] == "tls"


def test_attack_a_renegotiation_is_refused(start: Start, hospital: Authority) -> None:
    gateway = start(tls={**hospital.issue("gateway"), "require_client_certificate": False})
    assert "no renegotiation" in client(gateway, "-tls1_2")


TLS_1_2, TLS_1_3 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


@pytest.mark.peers
@pytest.mark.parametrize(
    ("version", "profile", "with_rsa"),
    [
        (TLS_1_2, "+py", True),  # BCP 195, non-downgrading: DCMTK 3.6.7 asks for RSA certificates there
        (TLS_1_2, "+px", True),  # BCP 195
        (TLS_1_2, "+pz", False),  # extended BCP 195, which has no 1.3
        (TLS_1_3, "+py", False),
        (TLS_1_3, "+px", True),
    ],
)
def test_dcmtk_stores_over_tls(
    start: Start,
    program: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    version: ssl.TLSVersion,
    profile: str,
    with_rsa: bool,
) -> None:
    hospital = Authority(tmp_path, "hospital", with_rsa=with_rsa)

    def only(tls: Tls) -> ssl.SSLContext:
        context = server_context(tls)
        context.minimum_version = context.maximum_version = version
        return context

    monkeypatch.setattr(receiver, "server_context", only)
    gateway = start(tls=hospital.issue("gateway"), sources=[{"ae_title": "CT1", "certificate_subject": "ct1"}])
    ours = hospital.issue("ct1")
    study = make_study(tmp_path, edited=False, slices=2)
    command = [program("storescu"), "-aet", "CT1", "-aec", "SCANWARDEN", profile, "+cf", ours["authorities"]]
    command += ["+tls", ours["private_key"], ours["certificate"], "127.0.0.1", str(gateway.port)]
    done = subprocess.run([*command, *map(str, study.files)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert sorted(each.sop_instance_uid for each in gateway.instances()) == sorted(study.instance_uids)


def test_a_certificate_that_ends_soon_is_told_while_the_service_runs(hospital: Authority) -> None:
    tls = Tls.model_validate(hospital.issue("gateway"))
    now = datetime.now(UTC)
    assert "expires on" in (expiry_warning(tls, now) or "")
    assert "expired on" in (expiry_warning(tls, now + timedelta(days=1)) or "")
    assert expiry_warning(tls, now - timedelta(days=60)) is None
    tls.certificate.unlink()
    assert "cannot be read any more" in (expiry_warning(tls, now) or "")


def test_a_peer_that_stops_in_the_handshake_holds_up_nobody(start: Start, hospital: Authority) -> None:
    gateway = start(tls=hospital.issue("gateway"))
    with socket.create_connection(("127.0.0.1", gateway.port), 5) as stuck:
        stuck.sendall(b"\x16")
        assert echo(destination(gateway, hospital.issue("ct1")), "CT1") < 5


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"certificate": "/nowhere/x.pem"}, "/nowhere/x.pem: the TLS certificate cannot be read"),
        ({"private_key": "OTHER KEY"}, "is not the key of the certificate"),
        ({"private_key": "LOCKED KEY"}, "has a passphrase"),
        ({"certificate": __file__}, "not a certificate and its key in PEM"),
        ({"authorities": __file__}, "holds no certificate in PEM"),
        ({"authorities": None}, "dicom.tls.authorities names no file"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(hospital: Authority, changes: dict[str, str | None], says: str) -> None:
    made = {
        "OTHER KEY": lambda: hospital.issue("b")["private_key"],
        "LOCKED KEY": lambda: hospital.issue("c", b"secret")["private_key"],
    }
    values = {key: made[value]() if value in made else value for key, value in changes.items()}
    with pytest.raises(TlsFault, match=says):
        server_context(Tls.model_validate({**hospital.issue("a"), **values}))


def test_a_destination_whose_files_cannot_be_used_is_unreachable(gateway: Gateway, hospital: Authority) -> None:
    broken = {**hospital.issue("e"), "private_key": "/nowhere/key.pem"}
    with pytest.raises(Unreachable, match=r"gateway .*/nowhere/key.pem: the TLS private key cannot be read"):
        echo(destination(gateway, broken), "CT1")


def test_a_client_without_authorities_trusts_the_system(hospital: Authority) -> None:
    context = client_context(Tls.model_validate({**hospital.issue("d"), "authorities": None}))
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
