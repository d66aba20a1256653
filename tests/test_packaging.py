"""The unit and the image agree with the program: what they wait for, what they open, what they let it do."""

import re
import shutil
import subprocess
from pathlib import Path

from config.settings import Settings
from gateway import processes

REPOSITORY = Path(__file__).resolve().parent.parent
UNIT = REPOSITORY / "packaging" / "scanwarden.service"
LONGEST_DRAIN = processes.DRAIN_SECONDS + 5  # after which the supervisor kills


def settings_of_the_unit() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in UNIT.read_text(encoding="utf-8").splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(key, []).append(value)
    return found


def test_systemd_waits_longer_than_a_drain_takes_and_leaves_the_order_to_the_supervisor() -> None:
    unit = settings_of_the_unit()
    assert float(unit["TimeoutStopSec"][0]) > LONGEST_DRAIN
    assert unit["Type"] == ["notify"]
    assert unit["KillMode"] == ["mixed"]
    assert unit["RestartPreventExitStatus"] == [str(processes.Exit.FAULT.value)]


def test_systemd_understands_every_line(tmp_path: Path) -> None:
    """Where systemd is installed; its program need not run for this. The service's own programs stand in as `true`."""
    analyse = shutil.which("systemd-analyze")
    text = re.sub(r"/opt/scanwarden/bin/scanwarden", shutil.which("true") or "/bin/true", UNIT.read_text())
    (tmp_path / UNIT.name).write_text(text)
    if analyse is not None:
        done = subprocess.run([analyse, "verify", tmp_path / UNIT.name], capture_output=True, text=True, check=False)
        assert (done.returncode, [line for line in done.stderr.splitlines() if UNIT.name in line]) == (0, [])


def test_the_image_opens_the_ports_of_the_defaults() -> None:
    text = (REPOSITORY / "Dockerfile").read_text(encoding="utf-8")
    exposed = {int(port) for line in re.findall(r"^EXPOSE (.*)$", text, re.MULTILINE) for port in line.split()}
    assert exposed == {Settings().dicom.port, Settings().web.port}
    assert float(re.search(r"docker stop --time (\d+)", text)[1]) > LONGEST_DRAIN  # type: ignore[index]
