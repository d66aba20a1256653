"""The whole service once: no patient's value in what it says of itself, and a drain that loses nothing."""

import http.client
import json
import os
import re
import socket
import time
from pathlib import Path
from typing import Any, cast

from pydicom import dcmread
from pynetdicom.dimse_primitives import C_STORE

from config.settings import Role
from gateway.metrics import Stage
from tests.faults.harness import Archive, Gateway, listens, settled, wait_for
from tests.faults.modality import make_study, send
from tests.gateway.dicom.conftest import Gateway as Receiving
from tests.gateway.dicom.conftest import Modality, mr_image
from tests.gateway.web.conftest import multipart, part10
from tests.gateway.web.test_metrics import samples

PATIENT = {
    "PatientName": "Geheimnis^Zacharias",
    "PatientID": "PID-77-4711-X",
    "PatientBirthDate": "19430217",
    "AccessionNumber": "ACC-998877",
    "PatientAddress": "Verborgene Gasse 7",
    "PatientComments": "tells nobody of zebrafinches",
    "StudyDescription": "Unaussprechlich",
    "ReferringPhysicianName": "Doktor^Quacksalber",
    "InstitutionName": "Spital zum Schweigen",
}
TRACES = [part for value in PATIENT.values() for part in re.split(r"[\^]", value)]


def ask(port: int, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request("GET" if body is None else "POST", path, body, named)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_the_service_says_nothing_of_a_patient_and_drains_in_order(tmp_path: Path) -> None:
    study = make_study(tmp_path / "sent", edited=True)
    for file in study.files:
        image = dcmread(file)
        for keyword, value in PATIENT.items():
            setattr(image, keyword, value)
        image.save_as(file)
    shown: list[str] = []
    with Archive().running() as archive, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as init:
        init.bind(str(tmp_path / "notify"))
        init.settimeout(60)
        gateway = Gateway(tmp_path, [archive], log={"level": "debug"}, web={"stow": True})
        web = gateway.settings.web.port
        gateway._environment["NOTIFY_SOCKET"] = str(tmp_path / "notify")
        try:
            gateway.start()
            assert init.recv(1000).decode().startswith("READY=1\nSTATUS=running: receive")
            assert listens(gateway.port)
            assert listens(web)
            wait_for(lambda: ask(web, "/readyz")[0] == 200, 60, "the service is ready")

            assert len(send(study.files, gateway.port)) == len(study.files)
            shown += misbehave(web)
            wait_for(lambda: settled(gateway, 1), 60, "the study is done")
            wait_for(lambda: counted_stages(web) == set(Stage), 20, "what the roles timed is on the page")
            shown += [ask(web, path)[1].decode() for path in ("/metrics", "/readyz", "/healthz")]
            page = samples(shown[-3])
            assert page["scanwarden_instances_total{kind=image,outcome=stored,source=other}"] >= len(study.files)
            assert page["scanwarden_instances_refused_total{reason=pixel_data_too_short}"] == 1
            assert page["scanwarden_database_write_wait_seconds_count"] > 0
            processes = {name for name in page if name.startswith("scanwarden_process_resident_bytes")}
            assert len(processes) > len(Role)  # several of them may receive; the supervisor is one more

            sender, late = Modality(cast(Receiving, gateway)), mr_image(**PATIENT)  # it asks for a port
            *parts, last = sender.parts(late)
            for part in parts:
                sender.association.dul.send_pdu(part)
            wait_for(lambda: any((gateway.settings.store.root / "incoming").iterdir()), 10, "a transfer is open")
            os.kill(gateway.pid, 15)
            assert init.recv(1000).decode().startswith("STOPPING=1\n")
            wait_for(lambda: not listens(gateway.port), 10, "no new association is taken")
            wait_for(lambda: ask(web, "/readyz")[0] == 503, 10, "the web role was told, too")
            assert "draining" in json.loads(ask(web, "/readyz")[1])["checks"]
            assert ask(web, "/healthz")[0] == 200
            sender.association._reactor_checkpoint.clear()
            while not sender.association._is_paused:
                time.sleep(0.001)
            sender.association.dul.send_pdu(last)
            _, response = sender.association.dimse.get_msg(block=True)
            assert isinstance(response, C_STORE)
            assert response.Status == 0x0000
            sender.association._reactor_checkpoint.set()
            sender.close()
            assert gateway._process is not None
            assert gateway._process.wait(60) == 0
        finally:
            gateway.kill()
        with gateway.app() as app:
            ledger = "".join(f"{record}" for record in app.ledger.list(limit=None))
        assert str(late.SOPInstanceUID) in ledger
        for what, text in (("log", gateway.log()), ("ledger", ledger), ("answers", "".join(shown))):
            assert [trace for trace in TRACES if trace in text] == [], what
        assert str(late.SOPInstanceUID) in gateway.log()  # it was at its most talkative


def misbehave(port: int) -> list[str]:
    """Instances that are refused and requests that name a patient; what was answered."""
    bad: list[Any] = [mr_image(**PATIENT, Rows=4000), mr_image(**PATIENT | {"StudyInstanceUID": None})]
    bodies = [part10(image) for image in bad]
    bodies.append(part10(mr_image(**PATIENT))[:-60])
    kind = 'multipart/related; type="application/dicom"; boundary=XX'
    answers = [ask(port, "/dicom-web/studies", multipart(*bodies), content_type=kind)[1]]
    answers.append(ask(port, "/dicom-web/studies", multipart(bodies[0])[:-300], content_type=kind)[1])
    names = PATIENT["PatientID"], PATIENT["AccessionNumber"]
    ask(port, f"/dicom-web/studies/{names[0]}", multipart(bodies[0]), content_type=kind)
    for name in names:
        ask(port, f"/metrics?PatientID={name}")
        ask(port, f"/{name}", user_agent=name)
    return [answer.decode() for answer in answers]


def counted_stages(port: int) -> set[str]:
    """The stages of which at least one passage is on the page."""
    found = samples(ask(port, "/metrics")[1])
    pattern = re.compile(r"scanwarden_stage_seconds_count\{stage=(\w+)\}")
    return {match[1] for name, value in found.items() if value and (match := pattern.fullmatch(name))}
