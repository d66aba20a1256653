"""The trial: real studies and tampered copies sent at once by DCMTK, the real weights, a real Orthanc as the PACS."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from pydicom import dcmread

from models.tampering.generators.study import synthesise_study
from models.tampering.generators.training import load
from models.tampering.study import tamper_study
from tests.faults.harness import free_port, wait_for
from tests.peers import Orthanc, running_orthanc

pytestmark = [pytest.mark.peers, pytest.mark.real_data, pytest.mark.timeout(600)]

STUDIES = ("HF0990", "HF1058", "HF1097", "HF1139")
TAMPERED = (("HF1097", "crossfade"), ("HF1139", "telea"))
EVIDENCE = ("SR", "SEG")
SCANWARDEN = (sys.executable, "-m", "gateway.cli")
REPOSITORY = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True)
class Trial:
    """What was sent, and where to look for what came back."""

    config: Path
    orthanc: Orthanc
    sent: dict[str, Path]  # Study Instance UID → folder
    tampered: frozenset[str]
    generated: frozenset[str]

    @property
    def genuine(self) -> frozenset[str]:
        return frozenset(self.sent) - self.tampered - self.generated

    def command(self, *arguments: str) -> Any:
        """What a command prints with --json."""
        done = subprocess.run(
            [*SCANWARDEN, *arguments, "--config", str(self.config), "--json"],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=True,
        )
        return json.loads(done.stdout)


@contextmanager
def service(config: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*SCANWARDEN, "serve", "--config", str(config)], cwd=REPOSITORY, stdout=output, stderr=output
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


def study_uid(folder: Path) -> str:
    return str(dcmread(next(folder.glob("*.dcm")), stop_before_pixels=True).StudyInstanceUID)


def _generated(folder: Path, data: Path) -> list[Path]:
    """A study of which a generator made every slice, from each kind of generator that is trained here; mostly none."""
    kinds = ("autoencoder-1", "translation-1")
    trained = [
        kind for kind in kinds if (REPOSITORY / "runs" / "generators" / kind / "generator.safetensors").is_file()
    ]
    for kind in trained:
        network, _ = load(REPOSITORY / "runs" / "generators" / kind / "generator.safetensors")
        synthesise_study(
            folder / kind, network.eval(), 5, template=data / "dicom" / "flair-glioma" / "HF1097", slices=16
        )
    return [folder / kind for kind in trained]


@pytest.fixture(scope="module")
def trial(
    scanwarden_data: Path, program: Callable[[str, str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Trial]:
    """Four genuine studies, tampered copies and generated ones, sent side by side; waits until all are done."""
    storescu, echoscu = program("/usr/bin/storescu", "dcmtk"), program("/usr/bin/echoscu", "dcmtk")
    program("/usr/sbin/Orthanc", "orthanc")
    folder = tmp_path_factory.mktemp("trial")
    folders = [scanwarden_data / "dicom" / "flair-glioma" / name for name in STUDIES]
    tampered = []
    for name, family in TAMPERED:
        copy = folder / f"{name}-{family}"
        tamper_study(
            scanwarden_data / "dicom" / "flair-glioma" / name, copy, family, np.random.default_rng(5), new_uids=True
        )
        tampered.append(copy)
    generated = _generated(folder, scanwarden_data)
    port = free_port()
    with running_orthanc() as orthanc:
        config = folder / "scanwarden.yaml"
        config.write_text(
            yaml.safe_dump(
                {
                    "dicom": {"host": "127.0.0.1", "port": port},
                    "web": {"port": free_port()},
                    "store": {"root": str(folder / "var"), "high_watermark": 0.99, "low_watermark": 0.98},
                    "revisions": {"quiet_period": 4},
                    "destinations": [
                        {"name": "pacs", "ae_title": "ORTHANC", "host": "127.0.0.1", "port": orthanc.dicom_port}
                    ],
                }
            )
        )
        with service(config, folder / "service.log"):
            echo = [echoscu, "-aec", "SCANWARDEN", "127.0.0.1", str(port)]
            wait_for(lambda: not subprocess.run(echo, capture_output=True, check=False).returncode, 90, "C-ECHO")
            senders = [
                subprocess.Popen([storescu, "-aec", "SCANWARDEN", "+sd", "127.0.0.1", str(port), str(each)])
                for each in (*folders, *tampered, *generated)
            ]
            assert [sender.wait(120) for sender in senders] == [0] * len(senders)
            sent = {study_uid(each): each for each in (*folders, *tampered, *generated)}
            made = Trial(config, orthanc, sent, *(frozenset(map(study_uid, each)) for each in (tampered, generated)))
            end = time.monotonic() + 400
            while made.command("status")["revisions"] != {"DONE": len(sent)}:
                assert time.monotonic() < end, (folder / "service.log").read_text()[-3000:]
                time.sleep(2)
            yield made


def test_every_study_has_one_report_and_regions_where_there_is_a_finding(trial: Trial) -> None:
    for uid in trial.sent:
        revision = trial.command("study", uid)["revisions"]
        assert len(revision) == 1
        findings = revision[0]["analyses"][0]["findings"]
        assert len(trial.orthanc.instances(uid, "SR")) == 1
        assert len(trial.orthanc.instances(uid, "SEG")) == (1 if findings else 0)


def test_nothing_was_lost(trial: Trial) -> None:
    status = trial.command("status")
    assert status["instances"]["stored"] == sum(len(list(folder.glob("*.dcm"))) for folder in trial.sent.values())
    assert status["deliveries"] == {"DELIVERED": sum(len(trial.orthanc.instances(uid)) for uid in trial.sent)}


def test_a_tampered_copy_does_not_pass_as_clear_and_no_genuine_study_is_suspect(trial: Trial) -> None:
    verdicts = {uid: trial.command("study", uid)["revisions"][0]["analyses"][0]["verdict"] for uid in trial.sent}
    assert {verdicts[uid] for uid in trial.tampered} <= {"SUSPECT", "REVIEW"}, verdicts
    assert "SUSPECT" not in {verdicts[uid] for uid in trial.genuine}, verdicts


def test_a_study_of_generated_slices_comes_back_flagged_with_its_coded_concept(
    trial: Trial, program: Callable[[str, str], str], tmp_path: Path
) -> None:
    if not trial.generated:
        pytest.skip(
            "no generator is trained here, and their weights are never shipped: scanwarden generators train all"
        )
    for uid in trial.generated:
        (analysis,) = trial.command("study", uid)["revisions"][0]["analyses"]
        assert analysis["verdict"] == "SUSPECT"
        assert any("the whole images look generated" in reason for reason in analysis["reasons"])
        assert "(SW-401,99SCANWARDEN" in _dumped_report(trial, uid, program, tmp_path)


def test_no_genuine_study_is_called_generated(trial: Trial, program: Callable[[str, str], str], tmp_path: Path) -> None:
    for uid in trial.genuine:
        report = _dumped_report(trial, uid, program, tmp_path)
        assert "(SW-403,99SCANWARDEN" in report
        assert "SW-401" not in report
        assert "SW-402" not in report


def _dumped_report(trial: Trial, uid: str, program: Callable[[str, str], str], folder: Path) -> str:
    """What DCMTK reads in the SR that the PACS has of a study."""
    (instance,) = trial.orthanc.instances(uid, "SR")
    file = folder / f"{instance}.dcm"
    file.write_bytes(trial.orthanc.file(instance))
    command = [program("/usr/bin/dsrdump", "dcmtk"), "+Pc", str(file)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_the_evidence_objects_are_valid_dicom(trial: Trial, program: Callable[[str, str], str], tmp_path: Path) -> None:
    dciodvfy = program("/usr/bin/dciodvfy", "dicom3tools")
    for uid in trial.sent:
        for instance in (*trial.orthanc.instances(uid, "SR"), *trial.orthanc.instances(uid, "SEG")):
            file = tmp_path / f"{instance}.dcm"
            file.write_bytes(trial.orthanc.file(instance))
            found = subprocess.run([dciodvfy, "-new", str(file)], capture_output=True, text=True, check=False)
            assert not [line for line in (found.stdout + found.stderr).splitlines() if line.startswith("Error")]


def test_the_ledger_tells_every_step_and_verifies(trial: Trial) -> None:
    assert trial.command("audit", "verify")["intact"]
    for uid, folder in trial.sent.items():
        records = trial.command("audit", "list", "--study", uid, "--limit", "1000")
        events = [record["event"] for record in records]
        sent = sorted(str(dcmread(file, stop_before_pixels=True).SOPInstanceUID) for file in folder.glob("*.dcm"))
        stored = [record["subject"] for record in records if record["event"] == "instance-stored"]
        assert sorted(each for each in stored if each in sent) == sent  # beside them, what came back from the archive
        steps = ("revision-closed", "analysis-started", "analysis-finished", "evidence-created", "evidence-delivered")
        assert all(step in events for step in steps), events


def test_our_evidence_that_comes_back_is_recognised_and_not_analysed(trial: Trial, tmp_path: Path) -> None:
    uid = next(iter(trial.sent))
    before = trial.command("status")
    for instance in trial.orthanc.instances(uid, "SR"):
        (tmp_path / f"{instance}.dcm").write_bytes(trial.orthanc.file(instance))
    assert all(row["status"] == 0 for row in trial.command("send", str(tmp_path)))
    after = trial.command("status")
    assert after["revisions"] == before["revisions"]
    assert after["instances"]["stored"] == before["instances"]["stored"] + 1


def test_no_patient_name_or_number_stands_in_the_ledger_or_the_log(trial: Trial) -> None:
    records = json.dumps(trial.command("audit", "list", "--limit", "5000"))
    log = (trial.config.parent / "service.log").read_text(errors="replace")
    for folder in trial.sent.values():
        header = dcmread(next(folder.glob("*.dcm")), stop_before_pixels=True)
        for secret in (str(header.PatientName), str(header.PatientID).strip(), str(header.AccessionNumber)):
            assert f'"{secret}"' not in records
            assert secret not in log.replace(os.fspath(trial.config.parent), "")
