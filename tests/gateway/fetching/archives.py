"""Archives to fetch from: a real Orthanc by C-GET, C-MOVE and DICOMweb, a real dcmqrscp, and a patient's studies."""

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydicom import dcmread

from config.settings import Destination
from gateway.dicom.scu import SendError, echo, send
from tests.faults.harness import wait_for
from tests.gateway.dicom.conftest import free_port
from tests.remembered import phantom

DCMQRSCP = Path("/usr/bin/dcmqrscp")
MOVE_AE_TITLE, MOVE_PORT = "FETCHMOVE", free_port()


def study(folder: Path, seed: int, *, slices: int = 2, **elements: str) -> list[Path]:
    """A small study of MR brain whose header says what `elements` say."""
    files = phantom(folder, seed, slices=slices, matrix=32)
    values = {"PatientID": "P-1", "PatientBirthDate": "19600102", "PatientName": "Secret^Person", **elements}
    for file in files:
        dataset = dcmread(file)
        for name, value in values.items():
            setattr(dataset, name, value)
        dataset.save_as(file, enforce_file_format=True)
    return files


def uid_of(files: Sequence[Path]) -> str:
    return str(dcmread(files[0], stop_before_pixels=True).StudyInstanceUID)


def instances_of(files: Sequence[Path]) -> set[str]:
    return {str(dcmread(each, stop_before_pixels=True).SOPInstanceUID) for each in files}


def destination(port: int, **values: Any) -> dict[str, Any]:
    return {"name": "pacs", "ae_title": "ARCHIVE", "host": "127.0.0.1", "port": port, "timeout": 20, **values}


def put(port: int, files: Sequence[Path]) -> None:
    """Store files in an archive."""
    to = Destination.model_validate(destination(port))
    assert all(each.stored for each in send(files, to, "MODALITY"))


@contextmanager
def running_dcmqrscp(folder: Path) -> Iterator[int]:
    """DCMTK's archive, for as long as the block runs; its port."""
    port = free_port()
    (folder / "ARCHIVE").mkdir(parents=True)
    configuration = folder / "dcmqrscp.cfg"
    configuration.write_text(
        f"NetworkTCPPort = {port}\nMaxPDUSize = 16384\nMaxAssociations = 16\n"
        "HostTable BEGIN\nHostTable END\nVendorTable BEGIN\nVendorTable END\n"
        f"AETable BEGIN\nARCHIVE {folder}/ARCHIVE RW (200, 1024mb) ANY\nAETable END\n"
    )
    # DCMTK finds its dictionary where the distribution put it; nothing of ours is in its way.
    process = subprocess.Popen(
        [DCMQRSCP, "-c", configuration],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "TMPDIR": str(folder)},
    )
    try:
        wait_for(lambda: _answers(port), 20, "dcmqrscp answers")
        yield port
    finally:
        process.terminate()
        process.wait(10)


def _answers(port: int) -> bool:
    try:
        return echo(Destination.model_validate(destination(port)), "TEST") >= 0
    except SendError:
        return False
