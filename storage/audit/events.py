"""What the ledger can record: our events, each with the DICOM audit message (PS3.15 A.5) that it becomes.

An event carries UIDs, AE titles, addresses, counts and digests; never a patient's data (promise 7).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import IntEnum, StrEnum

Scalar = str | int | float | bool | None
Detail = Scalar | Sequence[Scalar] | Mapping[str, Scalar]


class AuditOutcome(IntEnum):
    """EventOutcomeIndicator of PS3.15 A.5.2."""

    SUCCESS = 0
    MINOR_FAILURE = 4
    SERIOUS_FAILURE = 8
    MAJOR_FAILURE = 12


class EventId(StrEnum):
    """Event identifiers of PS3.16 CID 400 (coding scheme DCM)."""

    APPLICATION_ACTIVITY = "110100"
    AUDIT_LOG_USED = "110101"
    BEGIN_TRANSFERRING_DICOM_INSTANCES = "110102"
    DICOM_INSTANCES_ACCESSED = "110103"
    DICOM_INSTANCES_TRANSFERRED = "110104"
    DICOM_STUDY_DELETED = "110105"
    EXPORT = "110106"
    IMPORT = "110107"
    NETWORK_ENTRY = "110108"
    QUERY = "110112"
    SECURITY_ALERT = "110113"
    USER_AUTHENTICATION = "110114"


class AuditEventType(StrEnum):
    """What happened. The value stands in the ledger: it never changes its meaning."""

    APPLICATION_STARTED = "application-started"
    APPLICATION_STOPPED = "application-stopped"
    PROCESS_DIED = "process-died"
    WEIGHTS_REFUSED = "weights-refused"
    ASSOCIATION_REFUSED = "association-refused"
    CONNECTION_TESTED = "connection-tested"
    INSTANCE_STORED = "instance-stored"
    INSTANCE_REPEATED = "instance-repeated"
    INSTANCE_CONTESTED = "instance-contested"
    INSTANCE_REFUSED = "instance-refused"
    INSTANCE_DUPLICATE = "instance-duplicate"
    INSTANCE_QUARANTINED = "instance-quarantined"
    INSTANCES_DELETED = "instances-deleted"
    EVIDENCE_DELETED = "evidence-deleted"
    FILES_SWEPT = "files-swept"
    REVISION_CLOSED = "revision-closed"
    REVISION_FAILED = "revision-failed"
    REVISION_RETRIED = "revision-retried"
    REVISION_DONE = "revision-done"
    REVISION_PASSED_OVER = "revision-passed-over"
    ANALYSIS_STARTED = "analysis-started"
    ANALYSIS_FINISHED = "analysis-finished"
    ANALYSIS_FAILED = "analysis-failed"
    EVIDENCE_CREATED = "evidence-created"
    EVIDENCE_DELIVERED = "evidence-delivered"
    DELIVERY_FAILED = "delivery-failed"
    DELIVERY_DEAD = "delivery-dead"
    DELIVERY_RETRIED = "delivery-retried"
    DESTINATION_LOST = "destination-lost"
    DESTINATION_BACK = "destination-back"
    NOTICE_SENT = "notice-sent"
    NOTICE_FAILED = "notice-failed"
    NOTICE_DEAD = "notice-dead"
    NOTICE_RETRIED = "notice-retried"
    INCIDENT_OBSERVED = "incident-observed"
    STUDY_ACCESSED = "study-accessed"
    STUDIES_LISTED = "studies-listed"
    DIGESTS_RECORDED = "digests-recorded"
    ARCHIVE_QUERIED = "archive-queried"
    STUDY_FETCHED = "study-fetched"
    STUDY_EXPORTED = "study-exported"
    VERIFICATION_PASSED = "verification-passed"
    VERIFICATION_DIFFERS = "verification-differs"
    VERIFICATION_FAILED = "verification-failed"
    INSTANCE_DAMAGED = "instance-damaged"
    PIXELS_REPEATED = "pixels-repeated"
    COMMITMENT_ASKED = "commitment-asked"
    COMMITMENT_REFUSED = "commitment-refused"
    COMMITMENT_ANSWERED = "commitment-answered"
    COMMITMENT_REPORTED = "commitment-reported"
    COMMITMENT_DEAD = "commitment-dead"
    COMMITMENT_REQUESTED = "commitment-requested"
    COMMITMENT_CONFIRMED = "commitment-confirmed"
    COMMITMENT_DENIED = "commitment-denied"
    INSTANCES_FORWARDED = "instances-forwarded"
    FORWARD_DEAD = "forward-dead"
    FORWARDS_RETRIED = "forwards-retried"
    FORWARDING_STALLED = "forwarding-stalled"
    FORWARDING_BACK = "forwarding-back"
    LEDGER_VERIFIED = "ledger-verified"
    LEDGER_BROKEN = "ledger-broken"
    AUDIT_LOG_USED = "audit-log-used"
    ACCESS_REFUSED = "access-refused"
    LOGIN = "login"
    LOGIN_REFUSED = "login-refused"
    BASELINE_FORGOTTEN = "baseline-forgotten"
    ALERTS_LOST = "alerts-lost"
    ALERTS_BACK = "alerts-back"
    COLLECTOR_LOST = "collector-lost"
    COLLECTOR_REFUSED = "collector-refused"
    COLLECTOR_BACK = "collector-back"
    LEDGER_KEY_PUBLISHED = "ledger-key-published"
    LEDGER_CHECKPOINTED = "ledger-checkpointed"
    LEDGER_ANCHORED = "ledger-anchored"
    LEDGER_EXPORTED = "ledger-exported"
    LEDGER_SEALED = "ledger-sealed"
    LEDGER_SHORTENED = "ledger-shortened"

    @property
    def event_id(self) -> EventId:
        """The audit message of PS3.15 A.5.3 that this event is sent as."""
        return _MESSAGES.get(self, EventId.APPLICATION_ACTIVITY)


_MESSAGES = {
    AuditEventType.ASSOCIATION_REFUSED: EventId.SECURITY_ALERT,
    AuditEventType.CONNECTION_TESTED: EventId.NETWORK_ENTRY,
    AuditEventType.INSTANCE_STORED: EventId.DICOM_INSTANCES_TRANSFERRED,
    AuditEventType.INSTANCE_REPEATED: EventId.DICOM_INSTANCES_TRANSFERRED,
    AuditEventType.INSTANCE_CONTESTED: EventId.DICOM_INSTANCES_TRANSFERRED,
    AuditEventType.INSTANCE_REFUSED: EventId.DICOM_INSTANCES_TRANSFERRED,
    AuditEventType.INSTANCE_DUPLICATE: EventId.DICOM_INSTANCES_ACCESSED,
    AuditEventType.INSTANCE_QUARANTINED: EventId.SECURITY_ALERT,
    AuditEventType.INSTANCES_DELETED: EventId.DICOM_STUDY_DELETED,
    AuditEventType.EVIDENCE_DELETED: EventId.DICOM_STUDY_DELETED,
    AuditEventType.ANALYSIS_STARTED: EventId.DICOM_INSTANCES_ACCESSED,
    AuditEventType.ANALYSIS_FINISHED: EventId.DICOM_INSTANCES_ACCESSED,
    AuditEventType.ANALYSIS_FAILED: EventId.DICOM_INSTANCES_ACCESSED,
    AuditEventType.EVIDENCE_CREATED: EventId.DICOM_INSTANCES_ACCESSED,
    AuditEventType.EVIDENCE_DELIVERED: EventId.DICOM_INSTANCES_TRANSFERRED,
    AuditEventType.DELIVERY_FAILED: EventId.DICOM_INSTANCES_TRANSFERRED,
    AuditEventType.DELIVERY_DEAD: EventId.DICOM_INSTANCES_TRANSFERRED,
    AuditEventType.INCIDENT_OBSERVED: EventId.SECURITY_ALERT,
    AuditEventType.STUDY_ACCESSED: EventId.DICOM_INSTANCES_ACCESSED,
    AuditEventType.STUDIES_LISTED: EventId.DICOM_INSTANCES_ACCESSED,
    AuditEventType.DIGESTS_RECORDED: EventId.DICOM_INSTANCES_ACCESSED,
    AuditEventType.ARCHIVE_QUERIED: EventId.QUERY,
    AuditEventType.STUDY_FETCHED: EventId.DICOM_INSTANCES_TRANSFERRED,
    AuditEventType.STUDY_EXPORTED: EventId.EXPORT,
    AuditEventType.VERIFICATION_PASSED: EventId.DICOM_INSTANCES_ACCESSED,
    AuditEventType.VERIFICATION_DIFFERS: EventId.SECURITY_ALERT,
    AuditEventType.VERIFICATION_FAILED: EventId.DICOM_INSTANCES_ACCESSED,
    AuditEventType.INSTANCE_DAMAGED: EventId.SECURITY_ALERT,
    AuditEventType.PIXELS_REPEATED: EventId.DICOM_INSTANCES_ACCESSED,
    AuditEventType.COMMITMENT_ANSWERED: EventId.DICOM_INSTANCES_ACCESSED,
    AuditEventType.INSTANCES_FORWARDED: EventId.DICOM_INSTANCES_TRANSFERRED,
    AuditEventType.FORWARD_DEAD: EventId.DICOM_INSTANCES_TRANSFERRED,
    AuditEventType.LEDGER_VERIFIED: EventId.AUDIT_LOG_USED,
    AuditEventType.LEDGER_BROKEN: EventId.SECURITY_ALERT,
    AuditEventType.AUDIT_LOG_USED: EventId.AUDIT_LOG_USED,
    AuditEventType.ACCESS_REFUSED: EventId.SECURITY_ALERT,
    AuditEventType.LOGIN: EventId.USER_AUTHENTICATION,
    AuditEventType.LOGIN_REFUSED: EventId.USER_AUTHENTICATION,
    AuditEventType.BASELINE_FORGOTTEN: EventId.SECURITY_ALERT,
    AuditEventType.COLLECTOR_REFUSED: EventId.SECURITY_ALERT,
    AuditEventType.WEIGHTS_REFUSED: EventId.SECURITY_ALERT,
    AuditEventType.LEDGER_KEY_PUBLISHED: EventId.SECURITY_ALERT,
    AuditEventType.LEDGER_CHECKPOINTED: EventId.AUDIT_LOG_USED,
    AuditEventType.LEDGER_ANCHORED: EventId.AUDIT_LOG_USED,
    AuditEventType.LEDGER_EXPORTED: EventId.EXPORT,
    AuditEventType.LEDGER_SEALED: EventId.AUDIT_LOG_USED,
    AuditEventType.LEDGER_SHORTENED: EventId.SECURITY_ALERT,
}


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """Something that happened, before it has a place in the ledger.

    `actor`: who did it, `AE@address` for a peer (see `peer_actor`), `scanwarden:ROLE` for us, `user:NAME` for a person.
    `subject`: the one object it happened to (an instance's UID, a destination, a process); `details`: JSON values.
    """

    event: AuditEventType
    actor: str
    outcome: AuditOutcome = AuditOutcome.SUCCESS
    study_uid: str | None = None
    subject: str | None = None
    details: Mapping[str, Detail] = field(default_factory=dict)
    time: datetime = field(default_factory=lambda: datetime.now(UTC))


def peer_actor(ae_title: str, address: str) -> str:
    """How the ledger names a peer on the DICOM network."""
    return f"{ae_title}@{address}"


def role_actor(role: str) -> str:
    """How the ledger names one of our own roles."""
    return f"scanwarden:{role}"
