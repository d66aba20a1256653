"""Well-formed senders: what arrives is kept as it is, known for what it is, and acknowledged only then."""

import subprocess
import threading
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.filereader import read_file_meta_info
from pydicom.sequence import Sequence
from pydicom.uid import ImplicitVRLittleEndian, generate_uid
from pynetdicom.dsutils import encode

from storage import AuditEventType, InstanceKind, InstanceState, Ledger, Priority
from tests.gateway.dicom.conftest import Gateway, Modality, Start, encoded, eventually, mr_image

# What DCMTK's storescu has to be told before it proposes the syntax of a file.
PROPOSALS = {
    "1.2.840.10008.1.2": "-xi",
    "1.2.840.10008.1.2.1": "-xe",
    "1.2.840.10008.1.2.2": "-xb",
    "1.2.840.10008.1.2.4.70": "-xs",
    "1.2.840.10008.1.2.4.80": "-xt",
    "1.2.840.10008.1.2.4.90": "-xv",
    "1.2.840.10008.1.2.5": "-xr",
}


def data_set_bytes(path: Path) -> bytes:
    """What stands after the file meta information."""
    whole = path.read_bytes()
    length = int.from_bytes(whole[140:144], "little")
    return whole[144 + length :]


def storescu(program: Callable[[str], str], gateway: Gateway, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program("/usr/bin/storescu"), "-v", "-aec", "SCANWARDEN", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={"TCP_NODELAY": "1"},
    )


@pytest.mark.peers
@pytest.mark.real_data
@pytest.mark.parametrize("number", range(1, 10))
def test_every_transfer_syntax_is_kept_byte_for_byte(
    gateway: Gateway, scanwarden_data: Path, program: Callable[[str], str], number: int
) -> None:
    sent = scanwarden_data / "dicom" / "transfer-syntaxes" / f"{number}.dcm"
    syntax = read_file_meta_info(sent).TransferSyntaxUID
    storescu(program, gateway, PROPOSALS[syntax], "127.0.0.1", str(gateway.port), str(sent)).check_returncode()
    (instance,) = gateway.instances()
    kept = gateway.store.locate(instance.path)
    assert data_set_bytes(kept) == data_set_bytes(sent)
    assert instance.transfer_syntax == syntax == read_file_meta_info(kept).TransferSyntaxUID
    assert instance.file_sha256 == sha256(kept.read_bytes()).hexdigest()
    assert instance.kind is InstanceKind.IMAGE
    (event,) = gateway.events(AuditEventType.INSTANCE_STORED)
    assert event.subject == instance.sop_instance_uid
    assert event.actor == "STORESCU@127.0.0.1"


@pytest.mark.peers
def test_echo_is_answered_and_noted_once(gateway: Gateway, program: Callable[[str], str]) -> None:
    command = [program("/usr/bin/echoscu"), "-aec", "SCANWARDEN", "--repeat", "3", "127.0.0.1", str(gateway.port)]
    subprocess.run(command, check=True, timeout=30)
    subprocess.run(command, check=True, timeout=30)
    assert len(gateway.events(AuditEventType.CONNECTION_TESTED)) == 1


def test_the_file_is_a_function_of_the_data_set_alone(start: Start) -> None:
    """Otherwise the same instance from another sender, or after an upgrade, would look like an incident."""
    image = mr_image()
    digests = []
    for _ in range(2):
        gateway = start()
        sender = Modality(gateway)
        assert sender.store(image)[0] == 0
        sender.close()
        digests.append(gateway.instances()[0].file_sha256)
    assert digests[0] == digests[1]


def test_the_same_bytes_again_are_acknowledged_and_not_kept_twice(gateway: Gateway, modality: Modality) -> None:
    image = mr_image()
    assert [modality.store(image)[0] for _ in range(3)] == [0, 0, 0]
    (instance,) = gateway.instances()
    assert instance.repeats == 2
    assert len(gateway.files()) == 1


def test_what_was_prepared_for_the_next_instance_goes_with_the_association(gateway: Gateway) -> None:
    sender = Modality(gateway)
    assert sender.store(mr_image())[0] == 0
    sender.close()
    assert eventually(lambda: gateway.receiver.open_associations == 0)
    assert list((gateway.store.root / "incoming").iterdir()) == []


def test_other_pixels_under_the_same_uid_are_kept_apart(gateway: Gateway, modality: Modality) -> None:
    image = mr_image()
    assert modality.store(image)[0] == 0
    image.PixelData = bytes(128)
    assert modality.store(image)[0] == 0
    first, second = gateway.instances()
    assert (first.state, second.state) == (InstanceState.STORED, InstanceState.CONTESTED)
    assert dcmread(gateway.store.locate(first.path)).PixelData == bytes(range(128))
    assert dcmread(gateway.store.locate(second.path)).PixelData == bytes(128)


def test_no_patient_data_is_in_the_index_or_the_ledger(gateway: Gateway, modality: Modality) -> None:
    image = mr_image(PatientName="Secret^Patient", PatientID="SECRET-1", AccessionNumber="SECRET-2")
    assert modality.store(image)[0] == 0
    assert modality.send(encoded(image)[:-5], str(image.SOPInstanceUID))[0] == 0xC000
    gateway.receiver.drain()
    database = b"".join(path.read_bytes() for path in gateway.store.root.glob("scanwarden.sqlite*"))
    assert b"secret" not in database.lower()
    assert sha256(b"SECRET-2").hexdigest().encode() in database


@pytest.mark.parametrize(
    ("sop_class", "values", "kind"),
    [
        ("1.2.840.10008.5.1.4.1.1.4", {}, "image"),
        ("1.2.840.10008.5.1.4.1.1.7", {}, "image"),
        ("1.2.840.10008.5.1.4.1.1.88.34", {"PixelData": None}, "other"),
        ("1.2.840.10008.5.1.4.1.1.88.34", {"PixelData": None, "Manufacturer": "Scanwarden"}, "evidence"),
        ("1.2.840.10008.5.1.4.1.1.66.4", {}, "other"),
        ("1.2.840.10008.5.1.4.1.1.66.4", {"Manufacturer": "Scanwarden"}, "evidence"),
        ("1.2.840.10008.5.1.4.1.1.104.1", {"PixelData": None, "Rows": None}, "other"),  # PDF
        ("1.2.840.10008.5.1.4.1.1.9.1.1", {"PixelData": None, "Rows": None}, "other"),  # 12-lead ECG
        ("1.2.840.10008.5.1.4.1.1.481.3", {"PixelData": None}, "other"),  # RT Structure Set
        ("1.2.840.10008.5.1.4.1.1.481.2", {}, "other"),  # RT Dose
        ("1.2.840.10008.5.1.4.1.1.11.1", {"PixelData": None, "Rows": None}, "other"),  # presentation state
    ],
)
def test_each_kind_of_object_is_kept_as_what_it_is(
    gateway: Gateway, sop_class: str, values: dict[str, str | None], kind: str
) -> None:
    sender = Modality(gateway, sop_class)
    assert sender.store(mr_image(SOPClassUID=sop_class, **values)) == (0, "")
    sender.close()
    assert gateway.instances()[0].kind.value == kind


def test_attack_an_image_that_claims_to_be_our_evidence_is_analysed(gateway: Gateway, modality: Modality) -> None:
    """Else a forger would only have to write our name into the header."""
    contribution = Dataset()
    contribution.Manufacturer = "Scanwarden"
    image = mr_image(Manufacturer="Scanwarden", ContributingEquipmentSequence=Sequence([contribution]))
    assert modality.store(image)[0] == 0
    assert gateway.instances()[0].kind is InstanceKind.IMAGE
    assert len(gateway.revisions()) == 1


def test_evidence_that_went_through_other_equipment_is_recognised(gateway: Gateway) -> None:
    contribution = Dataset()
    contribution.Manufacturer = "Scanwarden"
    segmentation = "1.2.840.10008.5.1.4.1.1.66.4"
    sender = Modality(gateway, segmentation)
    image = mr_image(SOPClassUID=segmentation, ContributingEquipmentSequence=Sequence([contribution]))
    assert sender.store(image)[0] == 0
    sender.close()
    assert gateway.instances()[0].kind is InstanceKind.EVIDENCE
    assert gateway.revisions() == []


def test_the_requests_priority_and_the_expected_count_reach_the_revision(gateway: Gateway, modality: Modality) -> None:
    image = mr_image(NumberOfStudyRelatedInstances=55)
    assert modality.store(image, priority=1)[0] == 0
    (revision,) = gateway.revisions()
    assert (revision.priority, revision.expected_instances) == (Priority.STAT, 55)


@pytest.mark.parametrize(("setting", "asked", "expected"), [("routine", 1, "routine"), ("stat", 2, "stat")])
def test_a_sources_priority_wins_over_the_requests(start: Start, setting: str, asked: int, expected: str) -> None:
    gateway = start(sources=[{"ae_title": "MODALITY", "priority": setting}])
    sender = Modality(gateway)
    assert sender.store(mr_image(), priority=asked)[0] == 0
    sender.close()
    assert gateway.revisions()[0].priority.value == expected


def test_many_senders_at_once_lose_nothing(gateway: Gateway) -> None:
    study = generate_uid()
    sent: list[str] = []

    def send() -> None:
        sender = Modality(gateway)
        for _ in range(12):
            image = mr_image(StudyInstanceUID=study)
            if sender.store(image)[0] == 0:
                sent.append(str(image.SOPInstanceUID))
        sender.close()

    threads = [threading.Thread(target=send) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(sent) == 72
    assert sorted(sent) == sorted(i.sop_instance_uid for i in gateway.instances())
    assert len(gateway.revisions()) == 1
    assert Ledger(gateway.database).verify().intact


@pytest.mark.peers
@pytest.mark.real_data
def test_a_real_study_arrives_whole(gateway: Gateway, scanwarden_data: Path, program: Callable[[str], str]) -> None:
    folder = scanwarden_data / "dicom" / "flair-glioma" / "HF0990"
    result = storescu(program, gateway, "+sd", "+r", "127.0.0.1", str(gateway.port), str(folder))
    assert result.returncode == 0, result.stderr
    sent = {image.SOPInstanceUID: image for image in map(dcmread, folder.rglob("*.dcm"))}
    kept = {i.sop_instance_uid: dcmread(gateway.store.locate(i.path)) for i in gateway.instances()}
    assert kept == sent


@pytest.mark.peers
def test_a_sop_class_that_is_not_storage_is_refused_and_noted(
    gateway: Gateway, program: Callable[[str], str], modality: Modality
) -> None:
    query = [program("/usr/bin/findscu"), "-S", "-v", "-aec", "SCANWARDEN", "-k", "QueryRetrieveLevel=STUDY"]
    result = subprocess.run(
        [*query, "127.0.0.1", str(gateway.port)], capture_output=True, text=True, timeout=30, check=False
    )
    assert "No Acceptable Presentation Contexts" in result.stderr + result.stdout
    (details,) = gateway.refused_associations()
    assert details["reason"] == "sop_class_not_offered"
    assert details["sop_classes"] == ["1.2.840.10008.5.1.4.1.2.2.1"]
    assert modality.store(mr_image())[0] == 0


def test_an_implicit_data_set_is_read_as_such(gateway: Gateway) -> None:
    sender = Modality(gateway, syntax=ImplicitVRLittleEndian)
    image = mr_image()
    data = encode(image, is_implicit_vr=True, is_little_endian=True)
    assert data is not None
    assert sender.send(data, str(image.SOPInstanceUID)) == (0, "")
    assert sender.send(data[:-1], str(image.SOPInstanceUID))[0] == 0xC000
    sender.close()
