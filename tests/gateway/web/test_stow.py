"""STOW-RS (PS3.18 10.5): what is answered as stored is stored as over C-STORE; what is not has a reason."""

import http.client
import json
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.dicom.scp import StorageService
from storage import AuditEventType
from tests.faults.harness import wait_for
from tests.gateway.dicom.conftest import mr_image
from tests.gateway.dicom.test_tls import Authority
from tests.gateway.web.conftest import HOST, Start, Web, multipart, part10
from tests.peers import running_orthanc

TYPE = 'multipart/related; type="application/dicom"; boundary=XX'


def test_what_is_answered_as_stored_is_durable_indexed_and_in_the_ledger(store: Web) -> None:
    images = [mr_image() for _ in range(3)]
    answer = store.stow(*map(part10, images))
    assert (answer.status, answer.headers["content-type"]) == (200, "application/dicom+json")
    assert answer.stored == [image.SOPInstanceUID for image in images]
    rows = store.instances()
    assert [row.sop_instance_uid for row in rows] == answer.stored
    assert all(store.app.store.locate(row.path).stat().st_size == row.size for row in rows)
    events = store.events(AuditEventType.INSTANCE_STORED)
    assert [(event.subject, event.actor) for event in events] == [(uid, "STOW-RS@127.0.0.1") for uid in answer.stored]
    assert len(store.files()) == 3


def test_the_same_instance_over_http_again_is_a_repeat(store: Web) -> None:
    image = part10(mr_image())
    for _ in range(2):
        assert store.stow(image).status == 200
    assert [row.repeats for row in store.instances()] == [1]
    assert len(store.files()) == 1


def test_one_that_is_refused_does_not_cost_the_others(store: Web) -> None:
    good, short = mr_image(), mr_image(Rows=4000)
    answer = store.stow(part10(short), b"no DICOM at all", part10(good))
    assert (answer.status, answer.stored, answer.failed) == (202, [good.SOPInstanceUID], [0xC000, 0xC000])
    refusals = [json.loads(event.details)["reason"] for event in store.events(AuditEventType.INSTANCE_REFUSED)]
    assert sorted(refusals) == ["data_set_malformed", "pixel_data_too_short"]
    assert len(store.files()) == 1


def test_an_instance_of_another_study_is_refused(store: Web) -> None:
    image = mr_image()
    answer = store.stow(part10(image), path="/dicom-web/studies/1.2.3")
    assert (answer.status, answer.failed) == (409, [0xA900])
    assert store.files() == []
    assert store.stow(part10(image), path=f"/dicom-web/studies/{image.StudyInstanceUID}").status == 200
    assert store.stow(part10(image), path="/dicom-web/studies/no-uid").status == 400


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        ("application/dicom", b"x", 415),
        ("multipart/related; boundary=XX; type=application/dicom+json", b"x", 415),
        ('multipart/related; type="application/dicom"', b"x", 400),
        (TYPE, b"", 400),
        (TYPE, b"--XX--\r\n", 400),
        (TYPE, b"--YY\r\n\r\nx\r\n--YY--\r\n", 400),
        (TYPE, b"--XX\r\nbad header\r\n\r\nx\r\n--XX--\r\n", 400),
        (TYPE, b"--XX\r\nA: " + b"a" * 100_000 + b"\r\n\r\n--XX--\r\n", 400),
        (f"multipart/related; type=application/dicom; boundary={'b' * 300}", b"x", 400),
        (TYPE, b"--XX\r\nContent-Type: text/html\r\n\r\nx\r\n--XX--\r\n", 409),
        (TYPE, b"--XX\r\n\r\n" + bytes(132) + b"\r\n--XX--\r\n", 409),
        (TYPE, b"--XX\r\n\r\n" + bytes(128) + b"DICM\x02\0\0\0UL\x04\0\xff\xff\xff\x7f" + b"\r\n--XX--\r\n", 409),
    ],
)
def test_a_body_that_is_no_dicom_is_told_so_and_leaves_nothing(
    store: Web, content_type: str, body: bytes, status: int
) -> None:
    assert store.ask("/dicom-web/studies", body, content_type=content_type).status == status
    assert store.files() == []


def test_a_body_that_ends_early_names_what_was_stored_before(store: Web) -> None:
    image = mr_image()
    whole = multipart(part10(image), part10(mr_image()))
    answer = store.ask("/dicom-web/studies", whole[:-200], content_type=TYPE)
    assert (answer.status, answer.stored, answer.failed) == (202, [image.SOPInstanceUID], [0xC000])
    assert len(store.files()) == 1


def test_a_boundary_may_lie_anywhere_in_the_pieces_that_arrive(store: Web) -> None:
    images = [mr_image(PixelData=b"\r\n--X\r\n--XY\r\n-" * 20) for _ in range(2)]
    body = multipart(*map(part10, images))
    for size in (1, 7, 64):
        pieces: Iterator[bytes] = (body[at : at + size] for at in range(0, len(body), size))
        assert store.ask("/dicom-web/studies", pieces, content_type=TYPE).status == 200
    assert [row.repeats for row in store.instances()] == [2, 2]


def test_what_no_association_would_have_negotiated_is_refused(store: Web) -> None:
    unknown = part10(mr_image()).replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.7\0")
    answer = store.stow(part10(mr_image(SOPClassUID="1.2.3.4")), unknown)
    assert (answer.status, answer.failed) == (409, [0x0122, 0xC122])


def test_an_instance_above_the_limit_is_too_large(start: Start) -> None:
    web = start({"dicom": {"max_instance_bytes": 4096}}, stow=True)
    assert web.stow(part10(mr_image(PixelData=bytes(10_000)))).status == 413
    assert web.stow(part10(mr_image(PixelData=bytes(10_000))), part10(mr_image())).status == 202
    assert len(web.files()) == 1


def test_a_full_disk_asks_to_come_again_later(start: Start) -> None:
    web = start({"store": {"root": "unused", "high_watermark": 0.0001, "low_watermark": 0.0001}}, stow=True)
    answer = web.stow(part10(mr_image()))
    assert (answer.status, answer.headers["retry-after"]) == (503, "30")


def test_a_service_that_drains_takes_nothing_new(store: Web) -> None:
    store.parts.draining.begin()
    assert store.stow(part10(mr_image())).status == 503
    assert store.instances() == []


def test_an_open_transfer_is_finished_and_acknowledged_while_the_service_drains(store: Web) -> None:
    image = mr_image()
    body = multipart(part10(image))

    def pieces() -> Iterator[bytes]:
        yield body[:-100]
        wait_for(lambda: len(store.files()) == 1, 10, "the transfer has begun")
        store.parts.draining.begin()
        store.server.should_exit = True
        time.sleep(0.3)
        yield body[-100:]

    assert store.ask("/dicom-web/studies", pieces(), content_type=TYPE).stored == [image.SOPInstanceUID]


def test_a_sender_that_leaves_within_an_instance_leaves_nothing_of_it(store: Web) -> None:
    first = mr_image()
    body = multipart(part10(first), part10(mr_image()))
    with socket.create_connection((HOST, store.port)) as sender:
        head = f"POST /dicom-web/studies HTTP/1.1\r\nHost: x\r\nContent-Type: {TYPE}\r\nContent-Length: {len(body)}\r\n"
        sender.sendall(head.encode() + b"\r\n" + body[:-100])
        wait_for(lambda: len(store.files()) == 2, 10, "the second is on its way")
    wait_for(lambda: len(store.files()) == 1, 10, "the second is forgotten")
    assert [row.sop_instance_uid for row in store.instances()] == [first.SOPInstanceUID]


def test_a_sender_that_stops_within_its_body_is_answered(start: Start) -> None:
    web = start({"dicom": {"dimse_timeout": 0.3}}, stow=True)
    with socket.create_connection((HOST, web.port), timeout=20) as sender:
        head = f"POST /dicom-web/studies HTTP/1.1\r\nHost: x\r\nContent-Type: {TYPE}\r\nContent-Length: 99999\r\n\r\n"
        sender.sendall(head.encode() + b"--XX\r\n\r\n")
        assert b" 400 " in sender.recv(1000).split(b"\r\n")[0]


def test_it_is_off_unless_it_is_switched_on(web: Web) -> None:
    assert web.stow(part10(mr_image())).status == 404


def test_a_sender_is_known_by_its_token_and_its_address(start: Start, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("a" * 32)
    web = start(
        stow=True,
        stow_sources=[
            {"ae_title": "SITE_A", "token_file": token, "addresses": ["127.0.0.2"], "priority": "stat"},
            {"ae_title": "SITE_B", "token_file": token, "addresses": ["127.0.0.3"]},
        ],
    )
    image = part10(mr_image())
    assert web.stow(image, source="127.0.0.2").status == 401
    assert web.stow(image, source="127.0.0.2", authorization="Bearer " + "b" * 32).status == 401
    assert web.stow(image, authorization="Bearer " + "a" * 32).status == 403
    assert web.instances() == []
    assert web.stow(image, source="127.0.0.3", authorization="Bearer " + "a" * 32).status == 200
    assert [row.source_ae for row in web.instances()] == ["SITE_B"]
    refused = (AuditEventType.LOGIN_REFUSED, AuditEventType.ACCESS_REFUSED)
    reasons = [json.loads(event.details)["reason"] for kind in refused for event in web.events(kind)]
    assert reasons == ["stow_token", "stow_address"]
    assert [event.actor for event in web.events(AuditEventType.LOGIN)] == ["SITE_B@127.0.0.3"]


def test_a_sender_is_known_by_its_certificate(start: Start, tmp_path: Path) -> None:
    hospital = Authority(tmp_path, "hospital")
    ours = hospital.issue("gateway")
    source = {"ae_title": "SITE_A", "certificate_subject": "site-a"}
    web = start(stow=True, tls={**ours, "require_client_certificate": True}, stow_sources=[source])
    image = part10(mr_image())
    answers = {}
    for name in ("site-a", "site-b"):
        context = ssl.create_default_context(cafile=ours["authorities"])
        context.check_hostname = False
        theirs = hospital.issue(name)
        context.load_cert_chain(theirs["certificate"], theirs["private_key"])
        answers[name] = web.stow(image, tls=context).status
    assert answers == {"site-a": 200, "site-b": 401}
    nobody = ssl.create_default_context(cafile=ours["authorities"])
    nobody.check_hostname = False
    with pytest.raises((ssl.SSLError, OSError)):
        web.stow(image, tls=nobody)


def test_a_fault_of_ours_is_an_answer_and_a_line_without_values(store: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("Secret^Patient")

    monkeypatch.setattr(StorageService, "store", fail)
    with capture_logs() as lines:
        answer = store.stow(part10(mr_image()))
    assert answer.status == 500
    assert [line["error"] for line in lines if line["event"] == "a request failed"] == ["RuntimeError"]
    assert "Secret" not in answer.body.decode() + str(lines)


def test_a_large_instance_is_never_held_in_memory(store: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is handed on at once stays small, whatever the size of the instance: 64 MiB here, 2 GB by hand."""
    import tracemalloc

    block = bytes(1 << 20)
    image = part10(mr_image(PixelData=None))

    def pieces() -> Iterator[bytes]:
        yield b"--XX\r\nContent-Type: application/dicom\r\n\r\n" + image
        yield b"\xe0\x7f\x10\x00OW\0\0" + (64 << 20).to_bytes(4, "little")
        for _ in range(64):
            yield block
        yield b"\r\n--XX--\r\n"

    tracemalloc.start()
    try:
        assert store.ask("/dicom-web/studies", pieces(), content_type=TYPE).status == 200
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16 << 20
    assert store.instances()[0].size > 64 << 20


@pytest.mark.peers
def test_orthanc_stores_a_study_here(store: Web, tmp_path: Path) -> None:
    images = [mr_image(StudyInstanceUID="1.2.3.4.5", SeriesInstanceUID="1.2.3.4.6") for _ in range(4)]
    server = {"Url": f"http://{HOST}:{store.port}/dicom-web/"}
    options = {"DicomWeb": {"Enable": True, "Servers": {"scanwarden": server}}}
    with running_orthanc(plugins=("libOrthancDicomWeb.so",), options=options) as orthanc:
        for image in images:
            with_http = http.client.HTTPConnection(HOST, orthanc.http_port, timeout=20)
            with_http.request("POST", "/instances", part10(image))
            assert with_http.getresponse().status == 200
            with_http.close()
        study = orthanc.get("/studies")
        done = orthanc.post("/dicom-web/servers/scanwarden/stow", {"Resources": study, "Synchronous": True})
    assert int(done["InstancesCount"]) == 4
    assert {row.sop_instance_uid for row in store.instances()} == {image.SOPInstanceUID for image in images}


@pytest.mark.peers
def test_curl_stores_an_instance_here(store: Web, tmp_path: Path) -> None:
    image = mr_image()
    body = tmp_path / "body"
    body.write_bytes(multipart(part10(image)))
    url = f"http://{HOST}:{store.port}/dicom-web/studies"
    command = ["curl", "-s", "-H", f"Content-Type: {TYPE}", "-H", "Expect: 100-continue", "-T", str(body)]
    done = subprocess.run([*command, "-X", "POST", url], capture_output=True, check=True, timeout=30)
    assert json.loads(done.stdout)["00081199"]["Value"][0]["00081155"]["Value"] == [image.SOPInstanceUID]
