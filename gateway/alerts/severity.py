"""How grave an event of the ledger is for the security team."""

from enum import IntEnum

from storage.audit.events import AuditEventType, AuditOutcome, EventId


class AlertSeverity(IntEnum):
    """An incident says that something was altered or taken away; a warning, that somebody should have a look."""

    WARNING = 1
    INCIDENT = 2


_SEVERITIES = {
    AuditEventType.INSTANCE_QUARANTINED: AlertSeverity.INCIDENT,
    AuditEventType.INCIDENT_OBSERVED: AlertSeverity.INCIDENT,
    AuditEventType.LEDGER_BROKEN: AlertSeverity.INCIDENT,
    AuditEventType.ACCESS_REFUSED: AlertSeverity.WARNING,
    AuditEventType.LOGIN_REFUSED: AlertSeverity.WARNING,
    AuditEventType.ASSOCIATION_REFUSED: AlertSeverity.WARNING,
    AuditEventType.PROCESS_DIED: AlertSeverity.WARNING,
    AuditEventType.REVISION_FAILED: AlertSeverity.WARNING,
    AuditEventType.DELIVERY_DEAD: AlertSeverity.WARNING,
    AuditEventType.DESTINATION_LOST: AlertSeverity.WARNING,
    AuditEventType.NOTICE_DEAD: AlertSeverity.WARNING,
    AuditEventType.INSTANCE_DAMAGED: AlertSeverity.INCIDENT,
    AuditEventType.PIXELS_REPEATED: AlertSeverity.WARNING,
    AuditEventType.COMMITMENT_REFUSED: AlertSeverity.WARNING,
    AuditEventType.COMMITMENT_DEAD: AlertSeverity.WARNING,
    AuditEventType.FORWARD_DEAD: AlertSeverity.WARNING,
    AuditEventType.FORWARDING_STALLED: AlertSeverity.WARNING,
}


def severity_of(event: str, outcome: int) -> AlertSeverity | None:
    """The severity of a record; None for what no alert is sent about.

    A security alert of PS3.15 A.5.3.11 that is not named here is an incident when it ends in a serious failure.
    """
    try:
        kind = AuditEventType(event)
    except ValueError:
        # A newer version, or somebody else, wrote it: better one look too many.
        return AlertSeverity.WARNING
    if kind is AuditEventType.PIXELS_REPEATED and outcome == AuditOutcome.SUCCESS:
        return None  # within one study: series are sent again under new UIDs every day
    if kind in _SEVERITIES:
        return _SEVERITIES[kind]
    if kind.event_id is not EventId.SECURITY_ALERT:
        return None
    return AlertSeverity.INCIDENT if outcome >= AuditOutcome.SERIOUS_FAILURE else AlertSeverity.WARNING
