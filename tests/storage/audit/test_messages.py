"""Every event of the ledger leaves as an audit message that PS3.15 A.5 describes."""

import json
from hashlib import sha256
from itertools import product
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage import AuditEvent, AuditEventType, AuditOutcome, Database, Ledger, LedgerRecord, peer_actor
from storage.audit import coding, messages
from storage.audit.coding import EVENT_NAMES
from storage.audit.events import EventId
from storage.audit.ledger import verify_chain
from storage.audit.messages import AuditSource, as_xml
from tests.audit_messages import Message

SOURCE = AuditSource("gateway-1", "hospital", "SCANWARDEN", "gateway.example")
STUDY, INSTANCE, MR = "1.2.3", "1.2.3.4", "1.2.840.10008.5.1.4.1.1.4"
PEER = peer_actor("MR1", "10.1.2.3")
DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "audit-messages.md"


def record(
    event: AuditEventType | str,
    actor: str = "scanwarden:receive",
    outcome: int = 0,
    *,
    study_uid: str | None = STUDY,
    subject: str | None = INSTANCE,
    time: str = "2026-11-20T09:00:00.123456+00:00",
    details: str = "{}",
    **facts: object,
) -> LedgerRecord:
    text = json.dumps(facts) if facts else details
    return LedgerRecord(7, time, str(event), outcome, actor, study_uid, subject, text, "a" * 64, "b" * 64)


@pytest.mark.parametrize("event", list(AuditEventType))
def test_every_event_becomes_a_message_of_the_schema(event: AuditEventType) -> None:
    actors = ("scanwarden:receive", PEER, "user:operator")
    for outcome, actor, study_uid in product(AuditOutcome, actors, (STUDY, None)):
        subject = INSTANCE if study_uid else None
        message = Message(as_xml(record(event, actor, outcome, study_uid=study_uid, subject=subject, count=3), SOURCE))
        assert message.event == event.event_id.value
        assert message.types[-1] == event.value
        assert message.outcome == str(int(outcome))
        assert message.all("AuditSourceIdentification/@AuditSourceID") == ["gateway-1"]
        assert message.all("AuditSourceIdentification/@AuditEnterpriseSiteID") == ["hospital"]
        assert len(message.all("ActiveParticipant[@UserIsRequestor='true']/@UserID")) <= 1


def test_the_documentation_names_every_event_beside_its_message() -> None:
    rows = [line for line in DOCUMENT.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    for event in AuditEventType:
        if event.event_id is not EventId.APPLICATION_ACTIVITY:
            told = [row for row in rows if f"`{event.value}`" in row.split("|")[1]]
            assert len(told) == 1, event
            assert event.event_id.value in told[0], event
            assert f"| {coding.action(event)} |" in told[0], event


def test_every_family_of_the_standard_has_a_name() -> None:
    assert set(EVENT_NAMES) == set(EventId)


def test_a_list_that_was_looked_at_names_each_of_its_studies() -> None:
    studies = [f"1.2.{number}" for number in range(60)]
    shown = record("studies-listed", "user:rob", study_uid=None, subject=None, command="status", studies=studies)
    message = Message(as_xml(shown, SOURCE))
    found = "ParticipantObjectIdentification[ParticipantObjectIDTypeCode/@csd-code='110180']/@ParticipantObjectID"
    assert message.all(found) == studies[:40]
    assert message.all("ActiveParticipant/@UserID") == ["rob@gateway.example"]


def test_a_stored_instance_names_source_destination_study_class_and_instance() -> None:
    message = Message(as_xml(record("instance-stored", PEER, sop_class_uid=MR, file_sha256="c" * 64), SOURCE))
    assert message.all("EventIdentification/@EventActionCode") == ["C"]
    source = "ActiveParticipant[RoleIDCode/@csd-code='110153']"
    assert message.all(f"{source}/@UserID") == ["MR1"]
    assert message.all(f"{source}/@AlternativeUserID") == ["AETITLES=MR1"]
    assert message.all(f"{source}/@NetworkAccessPointID") == ["10.1.2.3"]
    assert message.all(f"{source}/@NetworkAccessPointTypeCode") == ["2"]
    destination = "ActiveParticipant[RoleIDCode/@csd-code='110152']"
    assert message.all(f"{destination}/@AlternativeUserID") == ["AETITLES=SCANWARDEN"]
    study = "ParticipantObjectIdentification[ParticipantObjectIDTypeCode/@csd-code='110180']"
    assert message.all(f"{study}/@ParticipantObjectID") == [STUDY]
    assert message.all(f"{study}/ParticipantObjectDescription/SOPClass/@UID") == [MR]
    assert message.all(f"{study}//SOPClass/@NumberOfInstances") == ["1"]
    assert message.all(f"{study}//Instance/@UID") == [INSTANCE]
    assert message.details("110180")["file_sha256"] == b"c" * 64


def test_a_delivery_goes_from_us_to_the_destination_and_its_failure_says_why() -> None:
    failed = record("delivery-failed", "scanwarden:deliver", 4, destination="pacs", failure="nobody answers")
    message = Message(as_xml(failed, SOURCE))
    assert message.all("ActiveParticipant[RoleIDCode/@csd-code='110152']/@UserID") == ["pacs"]
    assert message.all("ActiveParticipant[RoleIDCode/@csd-code='110153']/@UserID") == ["scanwarden:deliver"]
    assert message.all("EventIdentification/EventOutcomeDescription/text()") == ["nobody answers"]


def test_a_start_and_a_stop_have_the_types_of_the_standard() -> None:
    for event, code in (("application-started", "110120"), ("application-stopped", "110121")):
        message = Message(as_xml(record(event, "scanwarden:supervisor", study_uid=None, subject=None), SOURCE))
        assert message.types == [code, event]
        assert message.all("ActiveParticipant/RoleIDCode/@csd-code") == ["110150"]


def test_an_alert_describes_itself_and_names_the_node_that_caused_it() -> None:
    refused = record("association-refused", PEER, 4, study_uid=None, subject=None, reason="calling AE title unknown")
    message = Message(as_xml(refused, SOURCE))
    assert message.types[0] == "110126"
    assert message.all("ActiveParticipant[@UserIsRequestor='true']/@UserID") == ["scanwarden"]
    assert message.all("ActiveParticipant[@UserIsRequestor='false']/@UserID") == ["MR1"]
    node = "ParticipantObjectIdentification[ParticipantObjectIDTypeCode/@csd-code='110182']"
    assert message.all(f"{node}/@ParticipantObjectID") == ["10.1.2.3"]
    assert message.details("110182")["Alert Description"] == b"association refused: calling AE title unknown"


def test_looking_at_the_ledger_names_the_person_and_the_log() -> None:
    message = Message(as_xml(record("audit-log-used", "user:operator", study_uid=None, subject=None), SOURCE))
    assert message.all("ActiveParticipant/@UserID") == ["operator@gateway.example"]
    log = "ParticipantObjectIdentification[ParticipantObjectName='Security Audit Log']"
    assert message.all(f"{log}/@ParticipantObjectTypeCodeRole") == ["13"]


def test_a_query_carries_what_was_asked() -> None:
    message = Message(as_xml(record("archive-queried", "scanwarden:timetable", subject=None, archive="pacs"), SOURCE))
    assert message.event == "110112"
    assert len(message.all("ParticipantObjectIdentification/ParticipantObjectQuery/text()")) == 1
    assert message.all("ActiveParticipant[RoleIDCode/@csd-code='110152']/@UserID") == ["pacs"]


def test_no_message_names_a_patient_and_the_object_says_so() -> None:
    message = Message(as_xml(record("study-accessed", "user:operator"), SOURCE))
    patient = "ParticipantObjectIdentification[@ParticipantObjectTypeCode='1']"
    assert message.all(f"{patient}/@ParticipantObjectID") == [messages.WITHHELD]
    assert message.all(f"{patient}/ParticipantObjectName/text()") == [messages.WITHHELD]


def test_the_ledger_can_be_rebuilt_and_verified_from_the_messages_alone(database: Database) -> None:
    ledger = Ledger(database)
    for number in range(20):
        ledger.record(AuditEvent(AuditEventType.INSTANCE_STORED, PEER, study_uid=STUDY, details={"n": number}))
    received = [Message(as_xml(each)).record for each in ledger.records()]
    assert received == list(ledger.records())
    found = verify_chain(iter(received))
    assert found.intact
    assert found.head == ledger.head()
    first = Message(as_xml(received[0])).details("ledger-record")
    assert sha256(bytes(32) + first["canonical"]).hexdigest() == received[0].hash


def test_the_same_record_gives_the_same_bytes() -> None:
    assert as_xml(record("instance-stored", PEER), SOURCE) == as_xml(record("instance-stored", PEER), SOURCE)


def test_a_message_is_one_line_within_what_a_collector_must_take() -> None:
    large = record("analysis-finished", details=json.dumps({f"k{n}": "y" * 5000 for n in range(100)}))
    nearly = record("analysis-finished", reasons=["x" * 1000] * 11)
    assert "canonical" in Message(as_xml(nearly, SOURCE)).details("ledger-record")
    assert len(as_xml(nearly, SOURCE)) < 32 * 1024
    xml = as_xml(large, SOURCE)
    Message(xml)
    assert len(xml) < 32 * 1024
    assert b"\n" not in xml
    small = as_xml(record("instance-stored", PEER, sop_class_uid=MR, transfer_syntax="1.2", size=3), SOURCE)
    assert len(small) < 4096


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(), st.text(), st.text(), st.text(), st.text(), st.text(), st.integers(-(2**40), 2**40))
def test_whatever_a_row_holds_the_message_is_well_formed(
    event: str, actor: str, study_uid: str, subject: str, details: str, time: str, outcome: int
) -> None:
    made = record(event, actor, outcome, study_uid=study_uid, subject=subject, time=time, details=details)
    xml = as_xml(made, SOURCE)
    Message(xml)
    assert b"\n" not in xml
    assert b"\r" not in xml
