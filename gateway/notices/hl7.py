"""HL7 v2.5.1 ORU^R01 over MLLP: one message a connection, taken when its acknowledgement says AA (or CA).

Written by hand: a message has five kinds of segment and six characters to escape (v2.5.1 2.7), and MLLP is three bytes
around it; docs/decisions/0003 says more. `parse_answer` reads what receivers really send, not only what they should.
"""

import socket
import ssl
from datetime import UTC, datetime
from typing import NamedTuple

from gateway.notices.channel import NotTaken
from gateway.notices.message import Message, Patient

START, END = b"\x0b", b"\x1c\r"
_MOST_ANSWER = 1 << 16
_ESCAPES = {"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\", "\r": "\\.br\\", "\n": "\\.br\\"}
# PS3.3 C.12.1.1: letters of Patient's Sex that HL7 table 0001 knows, too.
_SEXES = {"M": "M", "F": "F", "O": "O"}


class Answer(NamedTuple):
    """MSA of an acknowledgement (v2.5.1 2.14.8): the code, and which message it is about."""

    code: str
    control_id: str


class Hl7Channel:
    """One receiver, such as the hospital's integration engine."""

    name = "hl7"

    def __init__(
        self,
        host: str,
        port: int,
        *,
        timeout: float,
        tls: ssl.SSLContext | None = None,
        facilities: tuple[str, str, str] = ("", "", ""),
        include_patient: bool = False,
    ) -> None:
        """`facilities`: sending facility, receiving application, receiving facility (MSH-4 to MSH-6)."""
        self._address = host, port
        self._timeout = timeout
        self._tls = tls
        self._facilities = facilities
        self.include_patient = include_patient

    def tell(self, message: Message) -> None:
        content = oru(message, self._facilities, datetime.now(UTC)).encode()
        name = f"{self._address[0]}:{self._address[1]}"
        try:
            with socket.create_connection(self._address, self._timeout) as raw:
                if self._tls is None:
                    said = _exchange(raw, content)
                else:
                    with self._tls.wrap_socket(raw, server_hostname=self._address[0]) as secured:
                        said = _exchange(secured, content)
        except ssl.SSLError as fault:
            raise NotTaken(f"{name}: TLS fails: {fault.reason or fault}") from fault
        except OSError as fault:
            raise NotTaken(f"{name}: {fault.strerror or type(fault).__name__}") from fault
        answer = parse_answer(said)
        if answer is None:
            raise NotTaken(f"{name}: answers with something that is no acknowledgement", refused=True)
        if answer.control_id != message.identifier:
            raise NotTaken(f"{name}: acknowledges another message than ours", refused=True)
        if answer.code not in ("AA", "CA"):
            raise NotTaken(f"{name}: acknowledgement {answer.code[:2]}", refused=True)


def oru(message: Message, facilities: tuple[str, str, str], now: datetime) -> str:
    """The message, segments ended by carriage returns."""
    patient, sending = message.patient, _escaped(message.installation)
    suspect = "A" if message.verdict in ("SUSPECT", "REVIEW") else "N"
    study = "110180^Study Instance UID^DCM"
    segments = [
        ["MSH", "^~\\&", sending, *(_escaped(each) for each in facilities), _time(now), "", "ORU^R01^ORU_R01",
         message.identifier, "P", "2.5.1", "", "", "", "", "", "UNICODE UTF-8"],
        _pid(patient),
        ["OBR", "1", _escaped(patient.accession_number) if patient else "", message.identifier,
         "INTEGRITY^Image integrity check^99SCANWARDEN", "", "", _ledger_time(message.time),
         *[""] * 14, _ledger_time(message.time), "", "", "P"],
        _obx(1, "ST", study, _escaped(message.study_uid)),
        _obx(2, "NM", "REVISION^Revision of the study^99SCANWARDEN", str(message.revision)),
        _obx(3, "CWE", "VERDICT^Verdict^99SCANWARDEN", f"{message.verdict}^{message.verdict}^99SCANWARDEN", suspect),
        _obx(4, "NM", "SCORE^Probability of manipulation^99SCANWARDEN",
             "" if message.score is None else f"{message.score:.4f}"),
        _obx(5, "NM", "FINDINGS^Regions^99SCANWARDEN", str(message.findings)),
    ]  # fmt: skip
    for reason in (*message.reasons, "Software result; not a diagnosis."):
        segments.append(_obx(len(segments) - 2, "TX", "REASON^Reason^99SCANWARDEN", _escaped(reason)))
    return "".join("|".join(fields).rstrip("|") + "\r" for fields in segments)


def parse_answer(content: bytes) -> Answer | None:
    """The MSA segment of an acknowledgement; None when there is none."""
    text = content.decode("utf-8", "replace").lstrip("\x0b").replace("\r\n", "\r").replace("\n", "\r")
    if not text.startswith("MSH") or len(text) < 4:
        return None
    for segment in text.split("\r"):
        fields = segment.split(text[3])
        if fields[0] == "MSA" and len(fields) > 2:
            return Answer(fields[1].strip().upper(), fields[2].strip())
    return None


def _exchange(connection: socket.socket, content: bytes) -> bytes:
    """Send one message and read up to the end of the answer. Raises OSError."""
    connection.sendall(START + content + END)
    said = b""
    while END[:1] not in said:
        more = connection.recv(4096)
        if not more:
            raise ConnectionResetError(0, "closed the connection without an acknowledgement")
        said += more
        if len(said) > _MOST_ANSWER:
            raise ConnectionAbortedError(0, "an acknowledgement without an end")
    return said.partition(END[:1])[0].lstrip(START)


def _pid(patient: Patient | None) -> list[str]:
    """PID-3 is required: without a patient it says that it is withheld, and who withholds it."""
    if patient is None:
        return ["PID", "1", "", "WITHHELD^^^SCANWARDEN"]
    # A person name of DICOM (PS3.5 6.2): family, given, middle, prefix, suffix; HL7's XPN has suffix before prefix.
    parts = [*patient.name.partition("=")[0].split("^"), "", "", "", "", ""][:5]
    family, given, middle, prefix, suffix = (_escaped(part) for part in parts)
    name = "^".join((family, given, middle, suffix, prefix)).rstrip("^")
    identifier = f"{_escaped(patient.identifier)}^^^{_escaped(patient.issuer)}".rstrip("^")
    sex = _SEXES.get(patient.sex.upper(), "U")
    return ["PID", "1", "", identifier, "", name, "", _digits(patient.birth_date), sex]


# Preliminary, as the reports are: nobody has verified them (HL7 tables 0085 and 0123).
def _obx(number: int, kind: str, what: str, value: str, flag: str = "") -> list[str]:
    return ["OBX", str(number), kind, what, "", value, "", "", flag, "", "", "P"]


def _escaped(text: str) -> str:
    return "".join(_ESCAPES.get(each, each) for each in text if each in "\r\n" or each.isprintable())


def _digits(text: str) -> str:
    return text if text.isdigit() and len(text) == 8 else ""


def _time(moment: datetime) -> str:
    return moment.strftime("%Y%m%d%H%M%S%z")


def _ledger_time(text: str) -> str:
    try:
        return _time(datetime.fromisoformat(text))
    except ValueError:
        return ""
