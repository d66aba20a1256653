"""Evidence objects of a CT series of 200 slices of 512×512, for each profile, on one core; targets 2 s and 500 MB.

`python -m benchmarks.encoding [--json] [--quick]`. Each figure is from a process of its own that has loaded its
libraries: seconds from the kept analysis to files on disk (fsync included, headers of all sources read), the seconds
of them that it kept its core busy (what a machine with other work is fairly measured by), and the most memory that it
had. The peer is highdicom's plain way to the SEG alone, with its own settings, on the same masks. The size of the SEG
is held against its masks as bare bits, one frame for each segment and slice that has any.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset, FileDataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, SegmentationStorage
from rich.console import Console
from rich.table import Table

from gateway.results import PROFILES, RevisionContext, build_evidence
from inference.findings import Finding, FindingClass, ModelUsed, SeriesAnalysis, StudyAnalysis, Verdict, classes_of

SLICES, MATRIX = 200, 512
TARGET_SECONDS, TARGET_BYTES, TARGET_RATIO = 2.0, 500e6, 1.2
STUDY = "1.2.826.0.1.3680043.8.498.200"
PLAIN = "highdicom"
CASES = {"3 regions": 3, "20 regions": 20}


def ct_study(folder: Path) -> list[Path]:
    """Slices with a disc in noise, as a scanner writes them."""
    random = np.random.default_rng(1)
    y, x = np.mgrid[:MATRIX, :MATRIX] - MATRIX / 2
    body = np.where(x**2 + y**2 < (0.4 * MATRIX) ** 2, 1040, 24).astype(np.int16)
    files = []
    for index in range(SLICES):
        dataset = FileDataset("", Dataset(), file_meta=FileMetaDataset())
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, f"{STUDY}.1.{index + 1}"
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = STUDY, f"{STUDY}.1"
        dataset.FrameOfReferenceUID, dataset.Modality = f"{STUDY}.2", "CT"
        dataset.PatientName, dataset.PatientID, dataset.PatientSex = "Phantom^Benchmark", "PHANTOM", "O"
        dataset.PatientBirthDate, dataset.AccessionNumber, dataset.StudyID = "", "", ""
        dataset.StudyDate, dataset.StudyTime, dataset.Manufacturer = "20260301", "090000", "Phantom"
        dataset.SeriesNumber, dataset.InstanceNumber = 1, index + 1
        dataset.ImageOrientationPatient, dataset.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, index]
        dataset.PixelSpacing, dataset.SliceThickness = [0.7, 0.7], 1
        dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType = 1, -1024, "HU"
        dataset.WindowCenter, dataset.WindowWidth = 40, 400
        pixels = body + random.normal(0, 12, body.shape).astype(np.int16)
        dataset.set_pixel_data(pixels.astype(np.int16), "MONOCHROME2", 16, generate_instance_uid=False)
        files.append(folder / f"{index:03d}.dcm")
        dataset.save_as(files[-1], enforce_file_format=True)
    return files


def analysis_of(files: list[Path], regions: int) -> StudyAnalysis:
    """Round regions of 20 to 40 slices, side by side."""
    labels = np.zeros((SLICES, MATRIX, MATRIX), np.uint16)
    y, x = np.mgrid[:MATRIX, :MATRIX]
    findings = []
    for number in range(regions):
        row, column, radius = 110 + 60 * (number % 5), 110 + 60 * (number // 5), 18
        first = (number * 37) % (SLICES - 45)
        last = first + 19 + number % 21
        inside = (y - row) ** 2 + (x - column) ** 2 < radius**2
        labels[first : last + 1, inside] = number + 1
        box = (row - radius + 1, column - radius + 1, row + radius, column + radius)
        kind = (FindingClass.ADDED_TUMOUR, FindingClass.REMOVED_TUMOUR)[number % 2]
        score = 0.97 - 0.01 * number
        findings.append(Finding(kind, score, f"{STUDY}.1", (first, last), first + 9, box, 9000.0, number + 1))
    series = SeriesAnalysis(
        series_uid=f"{STUDY}.1",
        sop_instance_uids=tuple(f"{STUDY}.1.{index + 1}" for index in range(SLICES)),
        frame_numbers=(None,) * SLICES,
        source_files=tuple(files),
        slice_scores=(0.5,) * SLICES,
        labels=labels,
        classes=classes_of(labels, findings),
    )
    models = (ModelUsed("edit-unet", "1.0", "ab" * 32),)
    reasons = ("regions look edited",)
    return StudyAnalysis(STUDY, Verdict.SUSPECT, 0.97, reasons, tuple(findings), (series,), models=models)


def ours(name: str, files: list[Path], regions: int, out: Path) -> tuple[float, float, float]:
    """Seconds and processor seconds to the objects of a profile on disk, and bytes of its SEG (0: none)."""
    analysis = analysis_of(files, regions)
    context = RevisionContext(STUDY, 1, "cd" * 32, tuple(files), datetime(2026, 11, 20, 9, 8, 7))  # noqa: DTZ001
    started = time.perf_counter(), time.process_time()
    made = build_evidence(analysis, context, PROFILES[name], out)
    seconds, busy = time.perf_counter() - started[0], time.process_time() - started[1]
    return seconds, busy, sum(each.path.stat().st_size for each in made if each.sop_class_uid == SegmentationStorage)


def plain(files: list[Path], regions: int, out: Path) -> tuple[float, float, float]:
    """The same for highdicom's own way: read the sources, give it the whole mask, write what comes back."""
    import highdicom
    from pydicom.sr.codedict import codes

    (series,) = analysis_of(files, regions).series
    mask = series.labels.astype(np.uint8)
    started = time.perf_counter(), time.process_time()
    sources = [dcmread(file, stop_before_pixels=True) for file in files]
    descriptions = [
        highdicom.seg.SegmentDescription(
            segment_number=number,
            segment_label=f"Region {number}",
            segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
            segmented_property_type=codes.SCT.Neoplasm,
            algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.MANUAL,
        )
        for number in range(1, regions + 1)
    ]
    dataset = highdicom.seg.Segmentation(
        source_images=sources,
        pixel_array=mask,
        segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=descriptions,
        series_instance_uid=f"{STUDY}.9",
        series_number=9,
        sop_instance_uid=f"{STUDY}.9.1",
        instance_number=1,
        manufacturer="Peer",
        manufacturer_model_name="Peer",
        software_versions="1",
        device_serial_number="1",
    )
    out.mkdir(parents=True, exist_ok=True)
    dataset.save_as(out / "seg.dcm")
    seconds, busy = time.perf_counter() - started[0], time.process_time() - started[1]
    return seconds, busy, (out / "seg.dcm").stat().st_size


def child(name: str, regions: int, folder: Path) -> None:
    """One measurement, in a process that has loaded its libraries before."""
    import highdicom  # noqa: F401

    import gateway.results.build  # noqa: F401

    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    warnings.simplefilter("ignore")
    files = sorted(folder.glob("*.dcm"))
    with tempfile.TemporaryDirectory() as out:
        measured = plain(files, regions, Path(out)) if name == PLAIN else ours(name, files, regions, Path(out))
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps([*measured, most]))


def measured(name: str, regions: int, folder: Path, rounds: int) -> tuple[float, float, float, float]:
    """Median seconds, processor seconds, SEG bytes and most memory of some processes."""
    command = [sys.executable, "-m", "benchmarks.encoding", "--child", name, str(regions), str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    found = [
        json.loads(subprocess.run(command, capture_output=True, check=True, env=environment).stdout.splitlines()[-1])
        for _ in range(rounds)
    ]
    seconds, busy, size, memory = (statistics.median(values) for values in zip(*found, strict=True))
    return seconds, busy, size, memory


def smallest(files: list[Path], regions: int) -> int:
    """Bytes of the masks as bare bits: a frame for each segment and slice that has any pixel, and no header at all."""
    (series,) = analysis_of(files, regions).series
    frames = sum(len(np.unique(labels[labels > 0])) for labels in series.labels)
    return frames * MATRIX * MATRIX // 8


def rows_of(folder: Path, cases: dict[str, int], rounds: int) -> list[dict[str, Any]]:
    """Rows of seconds, memory and size."""
    files = ct_study(folder)
    rows: list[dict[str, Any]] = []

    def add(case: str, ours: float, peer: str, value: float, unit: str) -> None:
        ratio = round(ours / value, 3)
        rows.append(
            {"case": case, "ours": round(ours, 3), "peer": peer, "peer_value": round(value, 3), "ratio": ratio,
             "unit": unit}
        )  # fmt: skip

    for words, regions in cases.items():
        peer_seconds, peer_busy, peer_size, peer_memory = measured(PLAIN, regions, folder, rounds)
        least = smallest(files, regions)
        add(f"{words}: highdicom's SEG", peer_size / 1e6, "bare bits", least / 1e6, "MB")
        for name in PROFILES:
            seconds, busy, size, memory = measured(name, regions, folder, rounds)
            case = f"{words}: {name} ({', '.join(PROFILES[name].objects)})"
            add(f"{case}, time", seconds, "highdicom, SEG alone", peer_seconds, "s")
            add(f"{case}, processor", busy, "highdicom, SEG alone", peer_busy, "s")
            add(f"{case}, memory", memory / 1e6, "highdicom, SEG alone", peer_memory / 1e6, "MB")
            if name == "orthanc":
                add(f"{words}: our SEG", size / 1e6, "bare bits", least / 1e6, "MB")
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--quick", action="store_true", help="one round of the smaller case")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child:
        child(chosen.child[0], int(chosen.child[1]), Path(chosen.child[2]))
        return
    cases = dict([next(iter(CASES.items()))]) if chosen.quick else CASES
    with tempfile.TemporaryDirectory(prefix="scanwarden-benchmark-") as folder:
        rows = rows_of(Path(folder), cases, 1 if chosen.quick else 3)
    if chosen.json:
        print(json.dumps({"name": "encoding", "machine": platform.platform(), "rows": rows}))
        return
    targets = f"targets {TARGET_SECONDS:g} s, {TARGET_BYTES / 1e6:g} MB, {TARGET_RATIO:g} of the bare bits"
    table = Table("case", "ours", "peer", "peer's", "ratio", "unit", title=f"Evidence of {SLICES} slices ({targets})")
    for row in rows:
        table.add_row(*(str(row[key]) for key in ("case", "ours", "peer", "peer_value", "ratio", "unit")))
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
