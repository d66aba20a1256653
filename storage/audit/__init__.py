"""The audit trail: what the ledger can record, and the ledger itself.

Signed checkpoints of the ledger's head get their place in checkpoints.py, PS3.15 A.5 messages and files for a collector
in export.py; `Ledger.verify` already takes a known head (`expected`) and a trusted one (`start`).
"""

from storage.audit.events import AuditEvent, AuditEventType, AuditOutcome, EventId, peer_actor, role_actor
from storage.audit.ledger import Break, BreakKind, Head, Ledger, LedgerRecord, Verification

__all__ = [
    "AuditEvent",
    "AuditEventType",
    "AuditOutcome",
    "Break",
    "BreakKind",
    "EventId",
    "Head",
    "Ledger",
    "LedgerRecord",
    "Verification",
    "peer_actor",
    "role_actor",
]
