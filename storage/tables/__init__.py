"""Every table, and the constraints that hold our promises when the code does not.

All times are UTC and aware. Paths are relative to the store's root. No column holds patient data: UIDs, AE titles,
addresses and accession digests only (promise 7).
"""

from storage.tables.columns import (
    AnalysisState,
    CloseReason,
    DeliveryState,
    InstanceKind,
    InstanceState,
    Priority,
    RevisionState,
    Table,
    UtcDateTime,
    VerificationState,
)
from storage.tables.ledger import CheckpointRow, LedgerNode, LedgerRow, Segment, SpoolCursor
from storage.tables.proof import DeviceBaseline, FirstSeen, Lesson, Root, Verification
from storage.tables.service import Lease, Process
from storage.tables.studies import Analysis, Delivery, Evidence, Instance, Revision, Study

__all__ = [
    "Analysis",
    "AnalysisState",
    "CheckpointRow",
    "CloseReason",
    "Delivery",
    "DeliveryState",
    "DeviceBaseline",
    "Evidence",
    "FirstSeen",
    "Instance",
    "InstanceKind",
    "InstanceState",
    "Lease",
    "LedgerNode",
    "LedgerRow",
    "Lesson",
    "Priority",
    "Process",
    "Revision",
    "RevisionState",
    "Root",
    "Segment",
    "SpoolCursor",
    "Study",
    "Table",
    "UtcDateTime",
    "Verification",
    "VerificationState",
]
