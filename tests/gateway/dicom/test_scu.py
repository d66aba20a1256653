"""Sending to real peers: byte for byte in each object's own syntax, and a plain reason where it does not work."""

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, evt

from config.settings import Destination
from gateway.dicom.contexts import MAX_CONTEXTS, STORAGE_CLASSES, TRANSFER_SYNTAXES, propose
from gateway.dicom.scu import ConnectionBroken, Refused, Rejected, Unreachable, echo, send
from storage import AuditEventType
from tests.gateway.dicom.conftest import MR_IMAGE, Gateway, Modality, Start, eventually, free_port, mr_image
from tests.gateway.dicom.test_receiving import data_set_bytes


def destination(port: int, **values: object) -> Destination:
    return Destination.model_validate(
        {"name": "pacs", "ae_title": "SCANWARDEN", "host": "127.0.0.1", "port": port, "timeout": 5, **values}
    )


def written(folder: Path, name: str = "image.dcm", **values: object) -> Path:
    """A file with a small MR image."""
    image = mr_image(**values)
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.save_as(folder / name, enforce_file_format=True)
    return folder / name


@pytest.fixture
def storescp(tmp_path: Path, program: Callable[[str], str]) -> Iterator[tuple[int, Path]]:
    """DCMTK's storescp on every syntax, writing what arrives bit by bit; its port and folder."""
    folder = tmp_path / "pacs"
    folder.mkdir()
    port = free_port()
    peer = subprocess.Popen(
        [program("/usr/bin/storescp"), "+xa", "+B", "-od", str(folder), "-aet", "PACS", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert eventually(lambda: _answers(port))
        yield port, folder
    finally:
        peer.terminate()
        peer.wait(timeout=10)


def _answers(port: int) -> bool:
    try:
        echo(destination(port), "TEST")
    except Unreachable:
        return False
    return True


@contextmanager
def pacs(store: Callable[[evt.Event], int], syntax: str = ExplicitVRLittleEndian) -> Iterator[int]:
    """A PACS that takes MR images in one syntax and answers as `store` says; its port."""
    ae = AE(ae_title="PACS")
    ae.add_supported_context(MR_IMAGE, syntax)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    assert server is not None
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()


@pytest.mark.peers
@pytest.mark.real_data
def test_objects_of_many_syntaxes_go_in_one_association_byte_for_byte(
    storescp: tuple[int, Path], scanwarden_data: Path
) -> None:
    port, folder = storescp
    files = sorted((scanwarden_data / "dicom" / "transfer-syntaxes").glob("*.dcm"))
    outcomes = list(send(files, destination(port), "SCANWARDEN"))
    assert [(o.path, o.status, o.comment, o.stored) for o in outcomes] == [(f, 0, "", True) for f in files]
    assert {data_set_bytes(f) for f in folder.iterdir()} == {data_set_bytes(f) for f in files}


@pytest.mark.real_data
def test_what_we_send_we_also_receive(gateway: Gateway, scanwarden_data: Path) -> None:
    files = sorted((scanwarden_data / "dicom" / "transfer-syntaxes").glob("*.dcm"))
    assert all(o.stored for o in send(files, destination(gateway.port), "SENDER"))
    assert {data_set_bytes(gateway.store.locate(i.path)) for i in gateway.instances()} == {
        data_set_bytes(f) for f in files
    }


def test_a_file_that_is_no_dicom_is_told_and_the_rest_is_sent(gateway: Gateway, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no DICOM")
    good = written(tmp_path)
    outcomes = list(send([tmp_path / "notes.txt", tmp_path / "absent", good], destination(gateway.port), "SENDER"))
    assert [o.stored for o in outcomes] == [False, False, True]
    assert outcomes[0].comment == "not a DICOM file (PS3.10): no file meta information"
    with pytest.raises(Refused, match="not sent"):
        outcomes[0].raise_for_status()


def test_nothing_to_send_opens_no_association() -> None:
    assert list(send([], destination(free_port()), "SENDER")) == []


def test_a_refused_object_does_not_keep_the_next_from_going(gateway: Gateway, tmp_path: Path) -> None:
    bad, good = written(tmp_path, "bad.dcm", PixelData=bytes(2)), written(tmp_path, "good.dcm")
    first, second = send([bad, good], destination(gateway.port), "SENDER")
    assert (first.stored, first.status) == (False, 0xC000)
    assert first.comment == "pixel data has 2 bytes, needs 128; resend it"
    assert second.stored
    with pytest.raises(Refused, match="0xC000") as refused:
        first.raise_for_status()
    assert not refused.value.transient
    second.raise_for_status()


@pytest.mark.parametrize(
    ("status", "stored", "transient"),
    [(0xB000, True, None), (0xB006, True, None), (0xA700, False, True), (0x0124, False, False)],
)
def test_a_status_of_the_peer_is_taken_for_what_it_means(
    tmp_path: Path, status: int, stored: bool, transient: bool | None
) -> None:
    with pacs(lambda _: status) as port:
        (outcome,) = send([written(tmp_path)], destination(port), "SENDER")
    assert (outcome.stored, outcome.status) == (stored, status)
    assert outcome.comment
    if transient is not None:
        with pytest.raises(Refused) as refused:
            outcome.raise_for_status()
        assert refused.value.transient is transient


def test_a_peer_that_knows_only_implicit_gets_the_same_values(tmp_path: Path) -> None:
    received = []

    def store(event: evt.Event) -> int:
        received.append(event.dataset)
        return 0

    file = written(tmp_path)
    with pacs(store, "1.2.840.10008.1.2") as port:
        (outcome,) = send([file], destination(port), "SENDER")
    assert outcome.stored
    assert received == [dcmread(file)]


@pytest.mark.real_data
def test_a_syntax_that_the_peer_does_not_take_is_said(scanwarden_data: Path) -> None:
    folder = scanwarden_data / "dicom" / "transfer-syntaxes"
    with pacs(lambda _: 0) as port:
        plain, jpeg = send([folder / "1.dcm", folder / "5.dcm"], destination(port), "SENDER")
    assert plain.stored
    assert jpeg.status is None
    assert "1.2.840.10008.1.2.4.70" in jpeg.comment


def test_nobody_there_is_unreachable() -> None:
    with pytest.raises(Unreachable, match=r"pacs \(SCANWARDEN at 127.0.0.1:\d+\): no connection: Connection refused"):
        echo(destination(free_port()), "SENDER")


def test_a_name_without_an_address_is_unreachable() -> None:
    with pytest.raises(Unreachable, match="pacs"):
        echo(destination(104, host="does-not-exist.invalid"), "SENDER")


def test_a_wrong_title_is_rejected_for_good_and_a_full_house_for_now(start: Start) -> None:
    gateway = start(max_associations=1)
    with pytest.raises(Rejected, match="for good: called AE title not recognised") as rejected:
        echo(destination(gateway.port, ae_title="OTHER"), "SENDER")
    assert not rejected.value.transient
    held = Modality(gateway)
    with pytest.raises(Rejected, match="for now: local limit exceeded") as rejected:
        echo(destination(gateway.port), "SENDER")
    assert rejected.value.transient
    held.close()


def test_the_destinations_own_calling_title_wins(start: Start) -> None:
    gateway = start(sources=[{"ae_title": "SPECIAL"}])
    assert echo(destination(gateway.port, calling_ae_title="SPECIAL"), "SENDER") > 0
    assert gateway.events(AuditEventType.CONNECTION_TESTED)[0].actor == "SPECIAL@127.0.0.1"


def test_a_peer_that_leaves_in_between_is_told_as_broken(tmp_path: Path) -> None:
    def store(event: evt.Event) -> int:
        event.assoc.abort()
        return 0

    with pacs(store) as port, pytest.raises(ConnectionBroken, match="pacs"):
        list(send([written(tmp_path)], destination(port), "SENDER"))


def test_a_peer_that_never_answers_is_waited_for_no_longer_than_its_timeout(tmp_path: Path) -> None:
    def store(_: evt.Event) -> int:
        time.sleep(2)
        return 0

    with pacs(store) as port, pytest.raises(ConnectionBroken, match=r"no answer within 0.3 s"):
        list(send([written(tmp_path)], destination(port, timeout=0.3), "SENDER"))


def test_who_stops_listening_to_outcomes_releases_the_association(gateway: Gateway, tmp_path: Path) -> None:
    outcomes = send([written(tmp_path, f"{n}.dcm") for n in range(3)], destination(gateway.port), "SENDER")
    assert next(outcomes).stored
    outcomes.close()  # type: ignore[attr-defined]
    assert eventually(lambda: gateway.receiver.open_associations == 0)
    assert len(gateway.instances()) == 1


def test_more_kinds_than_one_association_can_propose_are_spread() -> None:
    objects = [(sop_class, syntax) for sop_class in sorted(STORAGE_CLASSES) for syntax in sorted(TRANSFER_SYNTAXES)[:2]]
    groups = list(propose(objects))
    assert len(groups) > 1
    assert all(len(group) <= MAX_CONTEXTS for group in groups)
    proposed = [(str(c.abstract_syntax), str(c.transfer_syntax[0])) for group in groups for c in group]
    assert set(objects) <= set(proposed)
    assert len(proposed) == len(set(proposed))
