"""Audit messages: each record of the ledger as the XML of DICOM PS3.15 A.5, success and failure alike.

Every message ends with one more participant object, the ledger record itself: its number, its hash, the hash before it
and the canonical bytes that the hash covers. A collector's copy is thereby a copy of the chain: a gap, a repeat and a
forgery can be told apart by what stands in the messages alone.

Nothing in a record can break out of its place: text is freed of every character that does not print, attributes are
escaped, and values of details are base64 (A.5.1). A patient is named in no message (promise 7); where A.5.3 asks for
one, the object is there and says that its number is withheld.
"""

import json
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any
from xml.etree.ElementTree import Element, SubElement, tostring

from storage.audit import coding
from storage.audit.coding import Code
from storage.audit.events import AuditEventType, EventId
from storage.audit.ledger import LedgerRecord, canonical

AUDIT_LOG = "scanwarden:ledger"
WITHHELD = "withheld"
MAX_TEXT = 512  # characters of a name or description
MAX_VALUE = 2048  # bytes of a detail
MAX_STUDIES = 40  # of one list that was looked at
MAX_DETAILS = 8000  # bytes of all of them, and
MAX_CANONICAL = 12_000  # of the canonical record: in base64 a message stays below 32 KiB


@dataclass(frozen=True, slots=True)
class AuditSource:
    """Who reports (AuditSourceIdentification), and how we are called on the DICOM network."""

    source_id: str = "scanwarden"
    site_id: str | None = None
    ae_title: str = "SCANWARDEN"
    host: str | None = None


def as_xml(record: LedgerRecord, source: AuditSource = AuditSource()) -> bytes:
    """The audit message of a record: UTF-8 on one line, the same bytes for the same record and source.

    Takes every record, one that somebody falsified too: what cannot be read is sent as unreadable.
    """
    facts = _Facts(record, source)
    message = Element("AuditMessage")
    _event(message, facts)
    for participant in _participants(facts):
        participant.under(message)
    reporter = {"AuditSourceID": clean(source.source_id)}
    if source.site_id:
        reporter["AuditEnterpriseSiteID"] = clean(source.site_id)
    SubElement(SubElement(message, "AuditSourceIdentification", reporter), "AuditSourceTypeCode", {"csd-code": "4"})
    _objects(message, facts)
    return b'<?xml version="1.0" encoding="UTF-8"?>' + bytes(tostring(message, "utf-8", xml_declaration=False))


def clean(text: object, longest: int = MAX_TEXT) -> str:
    """Text that prints: no control characters, line ends, bidirectional overrides or lone surrogates."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(text)[:longest])


class _Facts:
    """A record, read with the suspicion that its row may have been written by somebody else."""

    def __init__(self, record: LedgerRecord, source: AuditSource) -> None:
        self.record = record
        self.source = source
        self.event = record.event
        self.words = clean(record.event, 64) or "unknown"
        self.family = coding.event_id(record.event)
        self.details = _details(record.details)

    @property
    def failed(self) -> bool:
        return self.record.outcome != 0

    @property
    def study_uid(self) -> str | None:
        return clean(self.record.study_uid, 64) if self.record.study_uid else None

    @property
    def instance_uid(self) -> str | None:
        """The subject where it is an instance: a UID has digits and points only."""
        subject = self.record.subject or ""
        return subject if subject and set(subject) <= set("0123456789.") and len(subject) <= 64 else None

    @property
    def listed(self) -> list[str]:
        """The studies that somebody was shown a list of."""
        studies = self.details.get("studies") if self.event == AuditEventType.STUDIES_LISTED else None
        return [clean(uid, 64) for uid in studies[:MAX_STUDIES]] if isinstance(studies, list) else []

    def text(self, *names: str) -> str | None:
        """The first of these details that says something."""
        for name in names:
            if self.details.get(name):
                return clean(self.details[name])
        return None


def _details(text: str) -> dict[str, Any]:
    try:
        details = json.loads(text)
    except (ValueError, RecursionError):
        return {"unreadable": text}
    return details if isinstance(details, dict) else {"unreadable": text}


def _event(message: Element, facts: _Facts) -> None:
    record = facts.record
    outcome = record.outcome if record.outcome in (0, 4, 8, 12) else 12
    attributes = {
        "EventActionCode": coding.action(facts.event),
        "EventDateTime": moment(record).isoformat(),
        "EventOutcomeIndicator": str(outcome),
    }
    event = SubElement(message, "EventIdentification", attributes)
    Code(facts.family.value, coding.EVENT_NAMES[facts.family]).under(event, "EventID")
    for code in coding.event_types(facts.event, facts.words):
        code.under(event, "EventTypeCode")
    if facts.failed:
        why = facts.text("reason", "failure", "comment", "text") or facts.words.replace("-", " ")
        SubElement(event, "EventOutcomeDescription").text = why


def moment(record: LedgerRecord) -> datetime:
    """When it happened; the epoch when the row's time is none, which only a falsified row has."""
    try:
        found = datetime.fromisoformat(record.time)
    except ValueError:
        return datetime.fromtimestamp(0, UTC)
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found


@dataclass(frozen=True, slots=True)
class _Participant:
    """One ActiveParticipant (A.5.2)."""

    user_id: str
    requestor: bool
    roles: Sequence[Code] = ()
    ae_title: str | None = None
    address: str | None = None
    media: Code | None = None

    def under(self, message: Element) -> None:
        attributes = {"UserID": self.user_id or "unknown", "UserIsRequestor": "true" if self.requestor else "false"}
        if self.ae_title:
            attributes["AlternativeUserID"] = f"AETITLES={self.ae_title}"  # A.5.2.2
        if self.address:
            attributes["NetworkAccessPointID"] = self.address
            attributes["NetworkAccessPointTypeCode"] = "2" if _is_address(self.address) else "1"
        element = SubElement(message, "ActiveParticipant", attributes)
        for role in self.roles:
            role.under(element, "RoleIDCode")
        if self.media is not None:
            self.media.under(SubElement(element, "MediaIdentifier"), "MediaType")


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _actor(facts: _Facts, requestor: bool, *roles: Code) -> _Participant:
    actor = clean(facts.record.actor, 128)
    if actor.startswith("scanwarden:"):
        return _us(facts, requestor, *roles)
    if actor.startswith("user:"):
        # A.5.2.1: a person is loginName@domain-name.
        name = actor.removeprefix("user:")
        address = facts.text("address") or facts.source.host
        if "@" not in name and facts.source.host:
            name = f"{name}@{clean(facts.source.host)}"
        return _Participant(name, requestor, roles, address=address)
    title, _, address = actor.rpartition("@")
    return _Participant(title or actor, requestor, roles, ae_title=title or None, address=address if title else None)


def _us(facts: _Facts, requestor: bool, *roles: Code) -> _Participant:
    actor = clean(facts.record.actor, 128)
    name = actor if actor.startswith("scanwarden:") else "scanwarden"
    host = clean(facts.source.host) if facts.source.host else None
    return _Participant(name, requestor, roles, ae_title=clean(facts.source.ae_title, 16), address=host)


def _participants(facts: _Facts) -> list[_Participant]:
    """Who took part, as A.5.3 says for each family; at most one of them is the requestor (A.5.2)."""
    ours = facts.record.actor.startswith("scanwarden:")
    person = facts.record.actor.startswith("user:")
    family = facts.family
    if family is EventId.APPLICATION_ACTIVITY:
        launcher = [_actor(facts, True, coding.LAUNCHER)] if not ours else []
        return [_us(facts, ours, coding.APPLICATION), *launcher]
    if family is EventId.NETWORK_ENTRY:
        return [_actor(facts, False)]
    if family is EventId.SECURITY_ALERT:
        # The one who reports, then the one who did it, who is never the requestor (A.5.3.11).
        return [_us(facts, True)] if ours else [_us(facts, True), _actor(facts, False)]
    if family is EventId.USER_AUTHENTICATION:
        return [_actor(facts, True), _us(facts, False)]
    if family in (EventId.EXPORT, EventId.IMPORT):
        out = family is EventId.EXPORT
        media = coding.DESTINATION_MEDIA if out else coding.SOURCE_MEDIA
        place = facts.text("target", "path", "destination", "source") or clean(facts.record.subject or "file")
        return [
            _actor(facts, True, coding.SOURCE if out else coding.DESTINATION),
            _Participant(place, False, (media,), media=coding.MEDIA_URI),
        ]
    if family in _TRANSFERS:
        if not (ours or person):
            return [_actor(facts, True, coding.SOURCE), _us(facts, False, coding.DESTINATION)]
        here = _us if ours else _actor
        fetched = facts.text("source")
        if fetched:
            peer = _Participant(fetched, False, (coding.SOURCE,))
            return [peer, here(facts, True, coding.DESTINATION)]
        there = facts.text("destination", "archive") or "unknown"
        return [here(facts, True, coding.SOURCE), _Participant(there, False, (coding.DESTINATION,))]
    return [_actor(facts, True)]


_TRANSFERS = (EventId.DICOM_INSTANCES_TRANSFERRED, EventId.BEGIN_TRANSFERRING_DICOM_INSTANCES, EventId.QUERY)
_WITH_PATIENT = (
    EventId.BEGIN_TRANSFERRING_DICOM_INSTANCES,
    EventId.DICOM_INSTANCES_ACCESSED,
    EventId.DICOM_INSTANCES_TRANSFERRED,
    EventId.DICOM_STUDY_DELETED,
)


def _objects(message: Element, facts: _Facts) -> None:
    """What it happened to; the details stand with the first object, and in the ledger record, which comes last."""
    details = facts.details
    study_uid = facts.study_uid or ("unknown" if facts.family in _WITH_PATIENT else None)
    if facts.family is EventId.SECURITY_ALERT:
        _alert(message, facts)
    elif facts.family is EventId.AUDIT_LOG_USED:
        _object(message, coding.URI, AUDIT_LOG, "13", "Security Audit Log", details)
        details = {}
    elif facts.family is EventId.QUERY:
        _query(message, facts)
        details = {}
    if facts.listed:
        for uid in facts.listed:
            _object(message, coding.STUDY_UID, uid, "3", "Study", {})
    elif study_uid is not None and facts.family is not EventId.SECURITY_ALERT:
        study = _object(message, coding.STUDY_UID, study_uid, "3", "Study", details)
        _instances(study, facts)
    if facts.family in _WITH_PATIENT:
        _object(message, coding.PATIENT_NUMBER, WITHHELD, "1", WITHHELD, {}, kind="1")
    _record(message, facts.record)


def _alert(message: Element, facts: _Facts) -> None:
    what = facts.words.replace("-", " ")
    why = facts.text("reason", "text", "rule", "failure")
    details = {"Alert Description": f"{what}: {why}" if why else what, **facts.details}  # A.5.3.11
    title, _, address = clean(facts.record.actor, 128).rpartition("@")
    if facts.study_uid is not None:
        subject = _object(message, coding.STUDY_UID, facts.study_uid, "13", "Study", details)
        _instances(subject, facts)
    elif title:
        _object(message, coding.NODE_ID, address, "13", title, details)
    else:
        _object(message, coding.URI, AUDIT_LOG, "13", "Security Audit Log", details)


def _query(message: Element, facts: _Facts) -> None:
    asked = {"study_uid": facts.study_uid, **facts.details}
    query = json.dumps(asked, sort_keys=True).encode()[:MAX_VALUE]
    attributes = {"ParticipantObjectID": facts.text("sop_class_uid") or "unknown", **_kind("2", "3")}
    element = SubElement(message, "ParticipantObjectIdentification", attributes)
    coding.SOP_CLASS_UID.under(element, "ParticipantObjectIDTypeCode")
    SubElement(element, "ParticipantObjectQuery").text = b64encode(query).decode()


def _instances(study: Element, facts: _Facts) -> None:
    """SOP class and instance of a study object (A.5.2); UIDs of the class only where the event knows it."""
    count = facts.details.get("count", facts.details.get("instances"))
    count = count if isinstance(count, int) and not isinstance(count, bool) and count >= 0 else None
    if facts.instance_uid is None and count is None:
        return
    description = SubElement(study, "ParticipantObjectDescription")
    attributes = {"NumberOfInstances": str(1 if facts.instance_uid else count)}
    sop_class = facts.text("sop_class_uid")
    if sop_class:
        attributes["UID"] = sop_class
    element = SubElement(description, "SOPClass", attributes)
    if facts.instance_uid:
        SubElement(element, "Instance", {"UID": facts.instance_uid})


def _record(message: Element, record: LedgerRecord) -> None:
    chain = {"hash": record.hash, "previous-hash": record.previous_hash}
    element = _object(message, coding.LEDGER_RECORD, record.seq, "13", "Ledger record", chain)
    try:
        covered = canonical(record)
    except ValueError:  # lone surrogates in a falsified row
        return
    if len(covered) <= MAX_CANONICAL:
        _detail(element, "canonical", covered)


def _kind(kind: str, role: str) -> dict[str, str]:
    return {"ParticipantObjectTypeCode": kind, "ParticipantObjectTypeCodeRole": role}


def _object(
    message: Element,
    id_type: Code,
    identifier: object,
    role: str,
    name: str,
    details: dict[str, Any],
    *,
    kind: str = "2",
) -> Element:
    attributes = {"ParticipantObjectID": clean(identifier, 128), **_kind(kind, role)}
    element = SubElement(message, "ParticipantObjectIdentification", attributes)
    id_type.under(element, "ParticipantObjectIDTypeCode")
    SubElement(element, "ParticipantObjectName").text = clean(name)
    room = MAX_DETAILS
    for key, value in details.items():
        if value is None:
            continue
        text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
        content = text.encode(errors="replace")
        room -= len(key) + min(len(content), MAX_VALUE) + 64
        if room < 0:
            _detail(element, "left-out", b"more details stand in the ledger")
            break
        _detail(element, clean(key, 64), content[:MAX_VALUE])
    return element


def _detail(element: Element, name: str, value: bytes) -> None:
    SubElement(element, "ParticipantObjectDetail", {"type": name, "value": b64encode(value).decode()})
