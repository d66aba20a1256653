"""A real rsyslog collector over TLS for tests: its own folder, its own port on loopback, gone at the end.

Its configuration is the one of docs/audit-messages.md, read from there, with the places of this test in it.
"""

import re
import shutil
import socket
import subprocess
import time
from base64 import b64decode
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from config.settings import Collector, Tls

RSYSLOGD = shutil.which("rsyslogd", path="/usr/sbin:/usr/bin:/sbin") or "/usr/sbin/rsyslogd"
DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "audit-messages.md"
DRIVERS = {"ossl": "lmnsd_ossl.so", "gtls": "lmnsd_gtls.so"}
CLIENT = "gateway.example"
_RECORD = re.compile(
    r'ParticipantObjectID="(\d+)"[^>]*><ParticipantObjectIDTypeCode csd-code="ledger-record".*?'
    r'type="hash" value="([^"]+)"'
)


def installed(driver: str) -> bool:
    """Whether rsyslog is here, with this TLS driver."""
    modules = list(Path("/usr/lib").glob(f"*/rsyslog/{DRIVERS[driver]}"))
    modules += Path("/usr/lib/rsyslog").glob(DRIVERS[driver])
    return Path(RSYSLOGD).exists() and bool(modules)


class Authority:
    """A certificate authority of a test."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        basic = x509.BasicConstraints(ca=True, path_length=None)
        certificate = _builder(self._name, self._name, self._key).add_extension(basic, critical=True)
        self.certificate = folder / f"{name}.pem"
        self.certificate.write_bytes(certificate.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM))

    def issue(self, name: str, *, address: str | None = "127.0.0.1") -> Tls:
        """A certificate and key for `name`, and for a loopback address unless that is None."""
        key = ec.generate_private_key(ec.SECP256R1())
        names: list[x509.GeneralName] = [x509.DNSName(name)]
        if address is not None:
            names.append(x509.IPAddress(ip_address(address)))
        builder = _builder(_name(name), self._name, key)
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        certificate, secret = self._folder / f"{name}.pem", self._folder / f"{name}.key"
        certificate.write_bytes(builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM))
        secret.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        secret.chmod(0o600)
        return Tls(certificate=certificate, private_key=secret, authorities=self.certificate)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30))
    )


class Rsyslog:
    """A collector that writes each message as one line: the header's fields, then the message."""

    def __init__(self, folder: Path, driver: str = "ossl") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.authority = Authority(folder / "certificates")
        self.client = self.authority.issue(CLIENT)
        self.received = folder / "audit.log"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self._folder = folder
        self._configuration = folder / "rsyslog.conf"
        self._process: subprocess.Popen[bytes] | None = None
        server = self.authority.issue("collector.example")
        self._configuration.write_text(
            _documented()
            .replace('"ossl"', f'"{driver}"')
            .replace("/etc/scanwarden-collector/authorities.pem", str(self.authority.certificate))
            .replace("/etc/scanwarden-collector/collector.pem", str(server.certificate))
            .replace("/etc/scanwarden-collector/collector.key", str(server.private_key))
            .replace("/var/spool/rsyslog", str(folder))
            .replace("/var/log/scanwarden-audit.log", str(self.received))
            .replace('port="6514"', f'address="127.0.0.1" port="{self.port}"')
        )

    def collector(self, **values: object) -> Collector:
        """The settings with which we send to it."""
        facts = {"name": "archive", "host": "127.0.0.1", "port": self.port, "tls": self.client, "timeout": 5}
        return Collector.model_validate({**facts, **values})

    def start(self, seconds: float = 60) -> None:
        """Start it, as no system service, and wait until its port answers."""
        with (self._folder / "rsyslogd.log").open("ab") as log:
            command = [RSYSLOGD, "-n", "-f", str(self._configuration), "-i", str(self._folder / "pid")]
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self._process.poll() is not None:
                break
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                time.sleep(0.05)
            else:
                return
        self.stop()
        raise RuntimeError(f"rsyslogd did not start:\n{(self._folder / 'rsyslogd.log').read_text()[-2000:]}")

    def stop(self) -> None:
        """End it in order: it writes what it has read."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def lines(self) -> list[str]:
        """What it has written so far."""
        if not self.received.exists():
            return []
        return [line for line in self.received.read_text(encoding="utf-8").split("\n") if "IHE+RFC-3881" in line]

    def records(self) -> list[tuple[int, str]]:
        """Number and hash of the ledger records that it has written, in its order."""
        found = (_RECORD.search(line) for line in self.lines())
        return [(int(match[1]), b64decode(match[2]).decode()) for match in found if match]

    def sequence(self) -> list[int]:
        """The ledger's numbers of what it has written, in its order."""
        return [number for number, _ in self.records()]

    def eventually_has(self, last: int, seconds: float = 20) -> list[int]:
        """Its sequence as soon as it holds every number up to `last`; what it has after `seconds` otherwise."""
        end = time.monotonic() + seconds
        while True:
            got = self.sequence()
            if set(range(1, last + 1)) <= set(got) or time.monotonic() > end:
                return got
            time.sleep(0.1)


def _documented() -> str:
    match = re.search(r"```rsyslog\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    assert match is not None, f"{DOCUMENT} shows no configuration of rsyslog"
    return match[1]
