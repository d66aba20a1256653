"""From a study's last C-STORE response to its report in a real Orthanc, and the memory that the whole service takes.

`python -m benchmarks.turnaround [--json] [--quick]`: the service as `scanwarden serve` runs it, DCMTK storescu as the
modality, a real study of 55 slices of 256×256 (a generated one of the same size where the data are absent).
"""

import argparse
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml
from pydicom import dcmread, dcmwrite
from pydicom.uid import generate_uid
from rich.console import Console
from rich.table import Table

from tests.faults.modality import make_study, send
from tests.peers import Orthanc, running_orthanc

SLICES = 55
QUIET_PERIOD = 5.0
LONGEST = 300.0
TARGET_SECONDS = 30.0
TARGET_BYTES = 2.5e9
REPOSITORY = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("SCANWARDEN_DATA", REPOSITORY.parent / "shared" / "data"))


@dataclass(frozen=True)
class Turnaround:
    """One study: seconds from the last response to the report, the quiet period not counted."""

    seconds: float
    slices: int


class Memory(threading.Thread):
    """Watches what the service's processes take together; shared pages are counted once (PSS)."""

    def __init__(self, process: psutil.Process) -> None:
        super().__init__(daemon=True)
        self._process = process
        self._ended = threading.Event()
        self.peak_pss = self.peak_rss = 0

    def run(self) -> None:
        while not self._ended.wait(0.25):
            pss = rss = 0
            with suppress(psutil.Error):
                for each in (self._process, *self._process.children(recursive=True)):
                    with suppress(psutil.Error):
                        full = each.memory_full_info()
                        pss, rss = pss + full.pss, rss + full.rss
            self.peak_pss, self.peak_rss = max(self.peak_pss, pss), max(self.peak_rss, rss)

    def stop(self) -> None:
        self._ended.set()
        self.join()


def real_study() -> list[Path]:
    """The files of a real study of 55 slices, if the data are here."""
    for folder in sorted((DATA / "dicom" / "flair-glioma").glob("*")):
        files = sorted(folder.glob("*.dcm"))
        if len(files) == SLICES:
            return files
    return []


def under_new_uids(files: Sequence[Path], folder: Path) -> tuple[str, list[Path]]:
    """The same images as another study, so that each run is a study of its own."""
    study_uid, series_uid = generate_uid(), generate_uid()
    made = []
    for index, file in enumerate(files):
        dataset = dcmread(file)
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPInstanceUID = (
            study_uid,
            series_uid,
            generate_uid(),
        )
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        path = folder / f"{study_uid}-{index}.dcm"
        dcmwrite(path, dataset)
        made.append(path)
    return study_uid, made


@contextmanager
def service(folder: Path, orthanc: Orthanc) -> Iterator[tuple[int, psutil.Process]]:
    """The service with its defaults, but a port and folder of its own and a short quiet period."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        web_port = int(probe.getsockname()[1])
    destination = {"name": "orthanc", "ae_title": "ORTHANC", "host": orthanc.host, "port": orthanc.dicom_port}
    settings = {
        "dicom": {"host": "127.0.0.1", "port": port},
        "web": {"port": web_port},
        "store": {"root": str(folder / "var")},
        "revisions": {"quiet_period": QUIET_PERIOD},
        "destinations": [destination],
    }
    file = folder / "scanwarden.yaml"
    file.write_text(yaml.safe_dump(settings))
    log = folder / "service.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", "from gateway.cli import main; main()", "serve", "--config", str(file)],
            stdout=output,
            stderr=output,
        )
    try:
        end = time.monotonic() + 60
        while b"analysing" not in log.read_bytes() or b"listening" not in log.read_bytes():
            if process.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"the service does not start:\n{log.read_text(errors='replace')[-3000:]}")
            time.sleep(0.1)
        yield port, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(60)


def turnaround(port: int, orthanc: Orthanc, study_uid: str, files: Sequence[Path]) -> Turnaround:
    """Send one study and wait for its report."""
    acknowledged = send(files, port)
    last_response = time.monotonic()
    if len(acknowledged) != len(files):
        raise SystemExit(f"{len(acknowledged)} of {len(files)} instances were acknowledged")
    while not orthanc.instances(study_uid, "SR"):
        if time.monotonic() - last_response > LONGEST:
            raise SystemExit(f"no report within {LONGEST:.0f} s")
        time.sleep(0.05)
    return Turnaround(time.monotonic() - last_response - QUIET_PERIOD, len(files))


def measure(studies: int) -> tuple[list[Turnaround], Memory, str]:
    """Send `studies` studies, one after the other."""
    source = real_study()
    folder = Path(tempfile.mkdtemp(prefix="scanwarden-turnaround-"))
    try:
        if not source:
            source = list(make_study(folder, edited=True, slices=SLICES, matrix=256).files)
            kind = "generated"
        else:
            kind = "real FLAIR"
        with running_orthanc() as orthanc, service(folder, orthanc) as (port, process):
            memory = Memory(process)
            memory.start()
            found = [turnaround(port, orthanc, *under_new_uids(source, folder)) for _ in range(studies)]
            memory.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return found, memory, kind


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--quick", action="store_true", help="one study instead of five")
    chosen = parser.parse_args()
    found, memory, kind = measure(1 if chosen.quick else 5)
    seconds = sorted(each.seconds for each in found)
    case = f"{kind} study, {SLICES} slices of 256×256"
    rows = [
        row(f"{case}: first", found[0].seconds, "s", TARGET_SECONDS),
        row(f"{case}: median of {len(seconds)}", seconds[len(seconds) // 2], "s", TARGET_SECONDS),
        row("memory of all processes at their peak, PSS", memory.peak_pss / 1e9, "GB", TARGET_BYTES / 1e9),
        row("memory of all processes at their peak, RSS", memory.peak_rss / 1e9, "GB", TARGET_BYTES / 1e9),
    ]
    machine = f"{platform.machine()}, {os.cpu_count()} cores, {psutil.virtual_memory().total / 2**30:.0f} GiB"
    if chosen.json:
        print(json.dumps({"name": "turnaround", "machine": machine, "rows": rows}, indent=2))
        return
    table = Table(title=f"Last C-STORE response to report in Orthanc, quiet period not counted ({machine})")
    for column in ("case", "ours", "target", "share of target"):
        table.add_column(column, justify="left" if column == "case" else "right")
    for each in rows:
        unit = each["unit"]
        table.add_row(
            each["case"], f"{each['ours']:.2f} {unit}", f"{each['peer_value']:g} {unit}", f"{each['ratio']:.2f}"
        )
    Console().print(table)


def row(case: str, ours: float, unit: str, target: float) -> dict[str, Any]:
    """A line of the result; the peer is what the project set itself as its limit."""
    return {
        "case": case,
        "ours": round(ours, 3),
        "peer": "target",
        "peer_value": target,
        "ratio": round(ours / target, 3),
        "unit": unit,
    }


if __name__ == "__main__":
    main()
