"""The codes of an audit message: PS3.16 CID 400 to 405 (scheme DCM), and our own events (scheme 99SCANWARDEN)."""

from collections.abc import Mapping
from dataclasses import dataclass
from xml.etree.ElementTree import Element, SubElement

from storage.audit.events import AuditEventType, EventId

OWN_SCHEME = "99SCANWARDEN"  # PS3.16 section 8: schemes of one's own begin with 99


@dataclass(frozen=True, slots=True)
class Code:
    """A coded value of PS3.15 A.5.1; `meaning` becomes originalText."""

    value: str
    meaning: str
    scheme: str = "DCM"

    def under(self, parent: Element, name: str) -> None:
        """Add this code as an element `name` of `parent`."""
        attributes = {"csd-code": self.value, "codeSystemName": self.scheme, "originalText": self.meaning}
        SubElement(parent, name, attributes)


EVENT_NAMES: Mapping[EventId, str] = {
    EventId.APPLICATION_ACTIVITY: "Application Activity",
    EventId.AUDIT_LOG_USED: "Audit Log Used",
    EventId.BEGIN_TRANSFERRING_DICOM_INSTANCES: "Begin Transferring DICOM Instances",
    EventId.DICOM_INSTANCES_ACCESSED: "DICOM Instances Accessed",
    EventId.DICOM_INSTANCES_TRANSFERRED: "DICOM Instances Transferred",
    EventId.DICOM_STUDY_DELETED: "DICOM Study Deleted",
    EventId.EXPORT: "Export",
    EventId.IMPORT: "Import",
    EventId.NETWORK_ENTRY: "Network Entry",
    EventId.QUERY: "Query",
    EventId.SECURITY_ALERT: "Security Alert",
    EventId.USER_AUTHENTICATION: "User Authentication",
}

# Roles of participants (CID 402).
APPLICATION = Code("110150", "Application")
LAUNCHER = Code("110151", "Application Launcher")
DESTINATION = Code("110152", "Destination Role ID")
SOURCE = Code("110153", "Source Role ID")
DESTINATION_MEDIA = Code("110154", "Destination Media")
SOURCE_MEDIA = Code("110155", "Source Media")

# Types of media (CID 405) and of identifiers of objects (CID 404, and A.5.1.2.4 for URI and patient number).
MEDIA_URI = Code("110037", "URI")
STUDY_UID = Code("110180", "Study Instance UID")
SOP_CLASS_UID = Code("110181", "SOP Class UID")
NODE_ID = Code("110182", "Node ID")
URI = Code("12", "URI", "RFC-3881")
PATIENT_NUMBER = Code("2", "Patient Number", "RFC-3881")
LEDGER_RECORD = Code("ledger-record", "Ledger record", OWN_SCHEME)

_LOGIN = Code("110122", "Login")
_LOGOUT = Code("110123", "Logout")
_ATTACH = Code("110124", "Attach")
_NODE_AUTHENTICATION = Code("110126", "Node Authentication")

# Types within a family (CID 401, and CID 403 for alerts) beside our own, where the standard has one.
_TYPES: Mapping[str, Code] = {
    AuditEventType.APPLICATION_STARTED: Code("110120", "Application Start"),
    AuditEventType.APPLICATION_STOPPED: Code("110121", "Application Stop"),
    AuditEventType.ASSOCIATION_REFUSED: _NODE_AUTHENTICATION,
    AuditEventType.COLLECTOR_REFUSED: _NODE_AUTHENTICATION,
    AuditEventType.BASELINE_FORGOTTEN: Code("110129", "Security Configuration"),
    "access-refused": Code("110132", "Use of Restricted Function"),
}


def event_id(event: str) -> EventId:
    """The message family of an event as the ledger names it; of one that this program does not know as well."""
    try:
        return AuditEventType(event).event_id
    except ValueError:
        return EventId.APPLICATION_ACTIVITY


def event_types(event: str, words: str) -> list[Code]:
    """The EventTypeCodes of an event: the standard's where it has one, then our own; `words` is the cleaned name."""
    standard = _TYPES.get(event)
    family = event_id(event)
    if standard is None and family is EventId.NETWORK_ENTRY:
        standard = _ATTACH
    if standard is None and family is EventId.USER_AUTHENTICATION:
        standard = _LOGOUT if "logout" in event else _LOGIN
    own = Code(words, words.replace("-", " "), OWN_SCHEME)
    return [own] if standard is None else [standard, own]


_ACTIONS: Mapping[EventId, str] = {
    EventId.AUDIT_LOG_USED: "R",
    EventId.DICOM_INSTANCES_ACCESSED: "R",
    EventId.DICOM_INSTANCES_TRANSFERRED: "R",  # the sender does not know whether the receiver held them
    EventId.DICOM_STUDY_DELETED: "D",
    EventId.EXPORT: "R",
    EventId.IMPORT: "C",
}
_ACTIONS_OF_EVENTS: Mapping[str, str] = {
    AuditEventType.INSTANCE_STORED: "C",
    AuditEventType.INSTANCE_CONTESTED: "C",  # kept beside the first copy, which is not altered
    AuditEventType.INSTANCE_REFUSED: "C",
    AuditEventType.EVIDENCE_CREATED: "C",
}


def action(event: str) -> str:
    """The EventActionCode of an event: create, read, update, delete or execute."""
    return _ACTIONS_OF_EVENTS.get(event) or _ACTIONS.get(event_id(event), "E")
