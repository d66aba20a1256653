"""The check of a CT study of 200 slices of 512×512 against what was first seen, once it is fetched; target 1 s.

`python -m benchmarks.verification [--json] [--quick]`: fetched files as the archive gives them, in three forms: the
bytes that were first seen, the same in another uncompressed transfer syntax, and compressed without loss. Beside it
coreutils' sha256sum on the same files: what hashing alone costs on this machine.
"""

import argparse
import json
import platform
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset, FileDataset, dcmread, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    generate_uid,
)
from rich.console import Console
from rich.table import Table

from gateway.app import App
from gateway.verification.checking import known_study
from gateway.verification.compare import Found, compare_study
from tests.remembered import gateway, remember

SLICES, MATRIX = 200, 512
TARGET_SECONDS = 1.0


def ct_study(folder: Path, slices: int) -> list[Path]:
    """A series of noise around a disc, in Hounsfield units: no compressor finds it easy."""
    random = np.random.default_rng(1)
    y, x = np.mgrid[:MATRIX, :MATRIX] - MATRIX / 2
    body = np.where(x**2 + y**2 < (0.4 * MATRIX) ** 2, 1040, 24).astype(np.int16)
    study_uid, series_uid, frame_uid = generate_uid(), generate_uid(), generate_uid()
    files = []
    for index in range(slices):
        dataset = FileDataset("", Dataset(), file_meta=FileMetaDataset())
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, generate_uid()
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study_uid, series_uid
        dataset.FrameOfReferenceUID, dataset.Modality = frame_uid, "CT"
        dataset.PatientName, dataset.PatientID = "Phantom^Benchmark", "PHANTOM"
        dataset.StudyDate, dataset.StudyTime, dataset.Manufacturer = "20260301", "090000", "Phantom"
        dataset.SeriesNumber, dataset.InstanceNumber, dataset.KVP = 1, index + 1, 120
        dataset.ImageOrientationPatient, dataset.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, index]
        dataset.PixelSpacing, dataset.SliceThickness = [0.7, 0.7], 1
        dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
        pixels = body + random.normal(0, 12, body.shape).astype(np.int16)
        dataset.set_pixel_data(pixels.astype(np.int16), "MONOCHROME2", 16, generate_instance_uid=False)
        files.append(folder / f"{index:03d}.dcm")
        dataset.save_as(files[-1], enforce_file_format=True)
    return files


def recoded(files: list[Path], folder: Path, syntax: UID) -> list[Path]:
    """Copies in another transfer syntax."""
    folder.mkdir()
    made = []
    for file in files:
        dataset = dcmread(file)
        if syntax == JPEGLSLossless:
            dataset.compress(syntax, generate_instance_uid=False)
        else:
            dataset.file_meta.TransferSyntaxUID = syntax
        made.append(folder / file.name)
        dcmwrite(made[-1], dataset, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=True)
    return made


def check(app: App, study_uid: str, files: list[Path], expected: str) -> float:
    """Seconds from fetched files to the answer; ends the benchmark when the answer is wrong."""
    found = Found({str(dcmread(file, stop_before_pixels=True).SOPInstanceUID): [file] for file in files})
    started = time.perf_counter()
    comparison = compare_study(known_study(app, study_uid, None), found, app.store)
    seconds = time.perf_counter() - started
    if comparison.counts != {expected: len(files)}:
        raise SystemExit(f"wrong answer: {comparison.counts}")
    return seconds


def sha256sum(files: list[Path]) -> float:
    """Seconds of coreutils' sha256sum on the same files."""
    started = time.perf_counter()
    subprocess.run(["sha256sum", *map(str, files)], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def best(measure: Callable[[], float], rounds: int) -> float:
    """The fastest of some rounds: what the machine's other work does not disturb."""
    return min(measure() for _ in range(rounds))


def measure(slices: int, rounds: int) -> list[dict[str, Any]]:
    """A row for each form of the study."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="scanwarden-benchmark-") as name, gateway(Path(name)) as app:
        folder = Path(name)
        (folder / "sent").mkdir()
        files = ct_study(folder / "sent", slices)
        study_uid = remember(app, files)
        forms = [
            ("the bytes first seen", files, "as-first-seen"),
            ("re-encoded, implicit VR", recoded(files, folder / "implicit", ImplicitVRLittleEndian), "re-encoded"),
            ("re-encoded, JPEG-LS lossless", recoded(files, folder / "jpegls", JPEGLSLossless), "re-encoded"),
        ]
        for case, held, expected in forms:
            ours = best(lambda held=held, expected=expected: check(app, study_uid, held, expected), rounds)  # type: ignore[misc]
            peer = best(lambda held=held: sha256sum(held), rounds)  # type: ignore[misc]
            rows.append(
                {
                    "case": f"{case}, {slices} slices of {MATRIX}×{MATRIX}",
                    "ours": round(ours, 3),
                    "peer": "sha256sum (hashing alone)",
                    "peer_value": round(peer, 3),
                    "ratio": round(ours / peer, 2),
                    "unit": "s",
                }
            )
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--quick", action="store_true", help="one round")
    chosen = parser.parse_args()
    rows = measure(SLICES, 1 if chosen.quick else 3)
    if chosen.json:
        print(json.dumps({"name": "verification", "machine": platform.platform(), "rows": rows}))
        return
    table = Table("case", "ours, s", "sha256sum, s", title=f"Verification (target {TARGET_SECONDS:g} s)")
    for row in rows:
        table.add_row(row["case"], f"{row['ours']:.3f}", f"{row['peer_value']:.3f}")
    Console().print(table)


if __name__ == "__main__":
    main()
