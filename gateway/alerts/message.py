"""What an alert says, how it is signed, and how a receiver checks it.

The signature is HMAC-SHA256 over `TIMESTAMP.BODY` with the shared secret, so neither can be changed or reused alone.
A body holds what the ledger holds: UIDs, AE titles, counts and digests, never a patient's data (promise 7). The
record's place and hash go with it, so every alert that somebody keeps bears witness against a ledger that is rewritten.
"""

import hmac
import json
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any

from gateway.alerts.severity import AlertSeverity, severity_of
from storage import LedgerRecord

FORMAT = 1
TIMESTAMP, SIGNATURE = "X-Scanwarden-Timestamp", "X-Scanwarden-Signature"
TOLERANCE_SECONDS = 300
_SCHEME = "v1="
_REMEMBERED = 10_000


class ForgedAlert(Exception):
    """Not signed with our secret, altered on its way, or sent at another time than it says."""


class ReplayedAlert(Exception):
    """A genuine alert that was accepted before: a repeat by the sender, or by somebody who listened."""


@dataclass(frozen=True)
class Alert:
    """One security event. `seq` is its place in the ledger: the same number is the same event."""

    installation: str
    seq: int
    hash: str
    time: str
    event: str
    severity: str
    outcome: int
    actor: str
    study_uid: str | None
    subject: str | None
    details: Mapping[str, Any]
    format: int = FORMAT

    def body(self) -> bytes:
        """The JSON that is sent; the same alert gives the same bytes."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":")).encode()


def alert_of(record: LedgerRecord, installation: str, minimum: AlertSeverity = AlertSeverity.WARNING) -> Alert | None:
    """The alert about a record; None where none is due."""
    severity = severity_of(record.event, record.outcome)
    if severity is None or severity < minimum:
        return None
    return Alert(
        installation=installation,
        seq=record.seq,
        hash=record.hash,
        time=record.time,
        event=record.event,
        severity=severity.name.lower(),
        outcome=record.outcome,
        actor=record.actor,
        study_uid=record.study_uid,
        subject=record.subject,
        details=json.loads(record.details),
    )


def signed_headers(body: bytes, secret: bytes, at: float | None = None) -> dict[str, str]:
    """The headers that go with a body; each attempt has a timestamp of its own."""
    stamp = str(int(time.time() if at is None else at))
    return {"Content-Type": "application/json", TIMESTAMP: stamp, SIGNATURE: _SCHEME + _mac(secret, stamp, body)}


class AlertCheck:
    """Decides for a receiver which requests are alerts of ours, and which of them are new."""

    def __init__(
        self, secret: bytes, *, tolerance: float = TOLERANCE_SECONDS, clock: Callable[[], float] = time.time
    ) -> None:
        self._secret = secret
        self._tolerance = tolerance
        self._clock = clock
        self._seen: OrderedDict[tuple[str, int], None] = OrderedDict()

    def accept(self, headers: Mapping[str, str], body: bytes) -> Alert:
        """The alert of a request. Raises ForgedAlert, or ReplayedAlert, which a receiver answers with success."""
        given = {name.lower(): value for name, value in headers.items()}
        stamp, signature = given.get(TIMESTAMP.lower(), ""), given.get(SIGNATURE.lower(), "")
        expected = _SCHEME + _mac(self._secret, stamp, body)
        if not hmac.compare_digest(expected.encode(), signature.encode("utf-8", "replace")):
            raise ForgedAlert("the signature does not fit the timestamp and the body")
        # Only now: before, the timestamp is anybody's.
        if abs(self._clock() - int(stamp)) > self._tolerance:
            raise ForgedAlert(f"the timestamp is more than {self._tolerance:g} s away from this clock")
        alert = Alert(**json.loads(body))
        key = (alert.installation, alert.seq)
        if key in self._seen:
            raise ReplayedAlert(f"event {alert.seq} was accepted before")
        self._seen[key] = None
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        return alert


def _mac(secret: bytes, stamp: str, body: bytes) -> str:
    return hmac.new(secret, stamp.encode("utf-8", "replace") + b"." + body, sha256).hexdigest()
