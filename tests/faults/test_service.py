"""The service as processes: a role that dies costs nobody but itself, and a start that cannot be says why."""

import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from sqlalchemy import select

from config.settings import Role
from storage.tables import LedgerRow
from tests.faults.harness import REPOSITORY, Archive, Gateway, compare, settled, wait_for
from tests.faults.modality import STORESCU, make_study, send

pytestmark = [
    pytest.mark.peers,
    pytest.mark.skipif(not Path(STORESCU).exists(), reason="storescu is not installed (apt-get install dcmtk)"),
]


def test_a_study_that_kills_its_analysis_is_abstained_from_and_costs_no_other_study(tmp_path: Path) -> None:
    archive = Archive()
    poison, sound = make_study(tmp_path, edited=True), make_study(tmp_path, edited=True, seed=1)
    with archive.running():
        gateway = Gateway(tmp_path, [archive], analysis={"attempts": 2})
        gateway.start(poison=poison.study_uid)
        assert len(send(poison.files, gateway.port)) == 5
        receiver = gateway.role("receive")
        wait_for(lambda: "process died" in gateway.log(), 60, "the analysis dies")
        assert len(send(sound.files, gateway.port)) == 5  # the port is open all the while
        wait_for(lambda: settled(gateway, 2), 90, "both studies are done")
        assert receiver == gateway.role("receive")
        assert gateway.stop() == 0
        findings = compare(gateway, [archive], {*poison.instance_uids, *sound.instance_uids})
    assert not findings.lost
    assert not findings.faults
    assert (len(archive.of(poison.study_uid, "SR")), len(archive.of(poison.study_uid, "SEG"))) == (1, 0)
    assert (len(archive.of(sound.study_uid, "SR")), len(archive.of(sound.study_uid, "SEG"))) == (1, 1)
    with gateway.app() as app, app.database.reading() as session:
        deaths = session.scalars(select(LedgerRow.details).where(LedgerRow.event == "process-died")).all()
    assert len(deaths) == 2
    assert all("SIGSEGV" in death for death in deaths)


def test_a_role_that_dies_is_started_again_and_the_others_do_not_notice(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path)
    gateway.start()
    wait_for(lambda: all(gateway.role(name) for name in Role), 30, "every role runs")
    for victim in Role:
        before = {name: gateway.role(name) for name in Role}
        dying = before[victim]
        assert dying is not None
        dying.kill()
        wait_for(lambda: gateway.role(victim) not in (None, dying), 30, f"{victim} is started again")  # noqa: B023
        assert {name for name in Role if before[name] != gateway.role(name)} == {victim}
    wait_for(lambda: gateway.listens, 30, "the port is open")
    assert gateway.stop() == 0


def test_a_port_in_use_stops_the_start_and_says_so(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path)
    with socket.socket() as other:
        other.bind(("127.0.0.1", gateway.port))
        other.listen()
        gateway.start(wait=False)
        wait_for(lambda: not gateway.runs, 30, "the service ends")
    assert gateway.stop() == 2
    assert "dicom.port: cannot listen" in gateway.log()
    assert "Traceback" not in gateway.log()


def test_a_store_that_cannot_be_written_stops_the_start_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "var").write_text("a file where the store should be")
    gateway = Gateway(tmp_path)
    gateway.start(wait=False)
    wait_for(lambda: not gateway.runs, 30, "the service ends")
    assert gateway.stop() == 2
    assert "var" in gateway.log()
    assert "Traceback" not in gateway.log()


def test_a_second_service_on_the_same_store_does_not_start(tmp_path: Path) -> None:
    first = Gateway(tmp_path)
    first.start()
    wait_for(lambda: "analysing" in first.log(), 30, "the first one analyses")
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.service", "serve", str(tmp_path / "scanwarden.yaml"), "analyse"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "another analyse process" in done.stderr
    assert first.stop() == 0


def test_nothing_of_a_killed_service_stays_alive(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path)
    gateway.start()
    children = psutil.Process(gateway.pid).children(recursive=True)
    assert len(children) >= 4
    gateway.kill()
    wait_for(lambda: not any(_lives(child) for child in children), 10, "every role ends")
    assert not gateway.listens


def test_a_second_signal_ends_the_drain(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path)
    gateway.start()
    analysing = gateway.role("analyse")
    assert analysing is not None
    analysing.suspend()  # it will not answer SIGTERM
    process = psutil.Process(gateway.pid)
    process.send_signal(signal.SIGTERM)
    wait_for(lambda: "stopping" in gateway.log(), 20, "the drain begins")
    process.send_signal(signal.SIGTERM)
    wait_for(lambda: not gateway.runs, 20, "the service ends")
    assert gateway.stop() == 1


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
