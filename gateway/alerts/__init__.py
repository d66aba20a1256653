"""Alerts: security events of the ledger, sent to a webhook at once, signed, in order, at least once.

The ledger is the queue: `AlertSender` goes on after the last record that the receiver confirmed. `AlertCheck` is the
receiver's half, for whoever writes one in Python; docs/signatures-and-access.md says the same in words.
"""

from gateway.alerts.message import Alert, AlertCheck, ForgedAlert, ReplayedAlert, alert_of, signed_headers
from gateway.alerts.sender import AlertSender, alert_sender
from gateway.alerts.severity import AlertSeverity, severity_of
from gateway.alerts.webhook import NotDelivered, Webhook

__all__ = [
    "Alert",
    "AlertCheck",
    "AlertSender",
    "AlertSeverity",
    "ForgedAlert",
    "NotDelivered",
    "ReplayedAlert",
    "Webhook",
    "alert_of",
    "alert_sender",
    "severity_of",
    "signed_headers",
]
