"""The webhook: a signed POST in the form of an alert, so that one receiver and one check serve both."""

import json
from dataclasses import asdict
from typing import Any

from gateway.alerts import Alert, NotDelivered, Webhook, signed_headers
from gateway.notices.channel import NotTaken
from gateway.notices.message import Message

SEVERITY = "notice"


class WebhookChannel:
    """Posts to one address; what is not a 2xx was not taken."""

    name = "webhook"

    def __init__(self, webhook: Webhook, secret: bytes, *, include_patient: bool) -> None:
        self._webhook = webhook
        self._secret = secret
        self.include_patient = include_patient

    def tell(self, message: Message) -> None:
        body = alert_of(message).body()
        try:
            self._webhook.post(body, signed_headers(body, self._secret))
        except NotDelivered as fault:
            raise NotTaken(str(fault), refused=fault.status is not None and 400 <= fault.status < 500) from fault


def alert_of(message: Message) -> Alert:
    """The message as an alert of the event `analysis-finished`."""
    details: dict[str, Any] = {
        "revision": message.revision,
        "verdict": message.verdict,
        "score": message.score,
        "findings": message.findings,
        "reasons": list(message.reasons),
    }
    if message.patient is not None:
        details["patient"] = asdict(message.patient)
    return Alert(
        installation=message.installation,
        seq=message.seq,
        hash=message.record_hash,
        time=message.time,
        event="analysis-finished",
        severity=SEVERITY,
        outcome=0,
        actor="scanwarden:analyse",
        study_uid=message.study_uid,
        subject=None,
        details=json.loads(json.dumps(details)),
    )
