"""Every table, and the constraints that hold our promises when the code does not.

All times are UTC and aware. Paths are relative to the store's root. No column holds patient data: UIDs, AE titles,
addresses and accession digests only (promise 7).
"""

from storage.tables.columns import (
    AnalysisState,
    CircuitState,
    CloseReason,
    CommitmentState,
    DeliveryState,
    ForwardState,
    InstanceKind,
    InstanceState,
    NoticeState,
    Priority,
    PriorState,
    RequestState,
    RevisionState,
    SearchState,
    Table,
    UtcDateTime,
    VerificationState,
)
from storage.tables.commitment import Commitment, CommitmentRequest
from storage.tables.forwarding import Forward, ForwardCursor
from storage.tables.ledger import CheckpointRow, LedgerNode, LedgerRow, Segment, SpoolCursor
from storage.tables.priors import Prior, PriorSearch, StudyPatient
from storage.tables.proof import DeviceBaseline, FirstSeen, Lesson, Root, Verification
from storage.tables.sending import Circuit, Notice
from storage.tables.service import Lease, Process
from storage.tables.studies import Analysis, Delivery, Evidence, Instance, Revision, Study

__all__ = [
    "Analysis",
    "AnalysisState",
    "CheckpointRow",
    "Circuit",
    "CircuitState",
    "CloseReason",
    "Commitment",
    "CommitmentRequest",
    "CommitmentState",
    "Delivery",
    "DeliveryState",
    "DeviceBaseline",
    "Evidence",
    "FirstSeen",
    "Forward",
    "ForwardCursor",
    "ForwardState",
    "Instance",
    "InstanceKind",
    "InstanceState",
    "Lease",
    "LedgerNode",
    "LedgerRow",
    "Lesson",
    "Notice",
    "NoticeState",
    "Prior",
    "PriorSearch",
    "PriorState",
    "Priority",
    "Process",
    "RequestState",
    "Revision",
    "RevisionState",
    "Root",
    "SearchState",
    "Segment",
    "SpoolCursor",
    "Study",
    "StudyPatient",
    "Table",
    "UtcDateTime",
    "Verification",
    "VerificationState",
]
