"""How often each provenance rule speaks: on genuine studies (a false alarm), and on the manipulation that it is for.

`python -m benchmarks.provenance [--quick] [--json]`. Genuine: the DICOM studies of the data folder, and as arrays for
the pixel rules MR volumes of two more sources. Tampered: copies of the genuine studies, made here and by the tampering
lab. Each rate comes with the upper end of its 95 % interval (Clopper-Pearson), because there are few genuine studies.
"""

import argparse
import json
import os
import platform
import shutil
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import nibabel
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.uid import UID, ExplicitVRLittleEndian
from rich.console import Console
from rich.table import Table
from scipy.stats import beta

from inference.findings import Observation
from inference.instances import read_instance
from inference.provenance import Baseline, StudyFacts, by_device, observe, observe_pixels
from inference.volume import group_series, load_volume
from models.errors import ModelsError
from models.tampering import touchup
from models.tampering.compose import tamper_volume
from models.tampering.material import Material

REPOSITORY = Path(__file__).resolve().parent.parent
_LEARNT = 8  # studies that a device's baseline is made of; the same study again stands for its next ones


@dataclass
class Counts:
    """Of how many units (studies or volumes) a rule spoke in how many."""

    units: int = 0
    fired: Counter[str] = field(default_factory=Counter)
    severities: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    def add(self, observations: list[Observation]) -> None:
        self.units += 1
        self.fired.update({each.rule for each in observations})
        self.severities.update({each.rule: each.severity.value for each in observations})


def upper(hits: int, of: int) -> float:
    """The upper end of the two-sided 95 % interval."""
    return 1.0 if hits >= of else float(beta.ppf(0.975, hits + 1, of - hits))


def look(files: list[Path], baselines: dict[str, Baseline] | None = None, *, pixels: bool = True) -> list[Observation]:
    """Everything that the rules say about a study, without any model."""
    instances = [read_instance(file) for file in files]
    stacks = tuple(stack for series in group_series(instances) for stack in series.stacks())
    found = list(observe(StudyFacts(tuple(instances), stacks, baselines or {})))
    if pixels:
        for stack in stacks:
            volume = load_volume(stack, max_voxels=1 << 28).volume
            if volume is not None:
                found += observe_pixels(volume)
    return found


def baselines_of(files: list[Path]) -> dict[str, Baseline]:
    devices = by_device([read_instance(file) for file in files])
    learnt = {}
    for device, members in devices.items():
        baseline = Baseline()
        for _ in range(_LEARNT):
            baseline = baseline.update(members)
        learnt[device] = baseline
    return learnt


def genuine_studies(data: Path) -> Iterator[tuple[str, list[Path]]]:
    """Whole studies as they were published; the seven syntaxes of one image are a study each."""
    for folder in sorted((data / "dicom" / "flair-glioma").iterdir()):
        yield "flair-glioma", sorted(folder.glob("*.dcm"))
    yield "t1-healthy", sorted((data / "dicom" / "t1-healthy").rglob("*.dcm"))
    for file in sorted((data / "dicom" / "transfer-syntaxes").rglob("*")):
        if file.is_file() and pydicom.misc.is_dicom(file):
            yield "transfer-syntaxes", [file]


def genuine_volumes(data: Path, limit: int | None) -> Iterator[tuple[str, NDArray[Any]]]:
    """(slices, rows, columns) stored integers that never were DICOM here: for the pixel rules only."""
    for file in sorted((data / "brain-ms").rglob("*.nii.gz"))[:limit]:
        image: Any = nibabel.load(file)
        yield "brain-ms", np.ascontiguousarray(np.moveaxis(np.asanyarray(image.dataobj), 2, 0)).astype(np.uint16)
    for folder in sorted((data / "brain-lgg").glob("TCGA*"))[:limit]:
        planes = [cv2.imread(str(file), cv2.IMREAD_GRAYSCALE) for file in sorted(folder.glob("*-flair.webp"))]
        yield "brain-lgg", np.stack([plane for plane in planes if plane is not None])


def as_study(volume: NDArray[Any], template: Path, folder: Path) -> list[Path]:
    """A volume in the header of a real slice, so that it goes through the same door."""
    files = []
    for index, plane in enumerate(volume):
        dataset = pydicom.dcmread(template)
        dataset.Rows, dataset.Columns = plane.shape
        dataset.BitsAllocated = dataset.BitsStored = 8 * plane.dtype.itemsize
        dataset.HighBit, dataset.PixelRepresentation = dataset.BitsStored - 1, 0
        dataset.InstanceNumber, dataset.SliceLocation = index + 1, 3.0 * index
        dataset.ImagePositionPatient = [-100, -100, 3.0 * index]
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        dataset.SOPInstanceUID = f"{dataset.SeriesInstanceUID}.{index + 1}"[-64:]
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.PixelData = np.ascontiguousarray(plane).tobytes()
        dataset["PixelData"].VR = "OB" if plane.dtype.itemsize == 1 else "OW"
        files.append(folder / f"{index:04d}.dcm")
        dataset.save_as(files[-1], enforce_file_format=True)
    return files


# ruff: noqa: ARG001  every manipulation has the same signature
Edit = Callable[[list[Path], np.random.Generator], list[Path]]


def _each(files: list[Path], change: Callable[[pydicom.FileDataset, int], None]) -> list[Path]:
    for index, file in enumerate(files):
        dataset = pydicom.dcmread(file)
        change(dataset, index)
        dataset.save_as(file)
    return files


def _pixels(files: list[Path], change: Callable[[NDArray[Any]], NDArray[Any]]) -> list[Path]:
    """Edit the volume and leave every header as it is."""
    ordered = sorted(files, key=lambda file: float(pydicom.dcmread(file, stop_before_pixels=True).SliceLocation))
    datasets = [pydicom.dcmread(file) for file in ordered]
    volume = np.stack([dataset.pixel_array for dataset in datasets])
    for file, dataset, plane in zip(ordered, datasets, change(volume), strict=True):
        dataset.PixelData = np.ascontiguousarray(plane.astype(volume.dtype)).tobytes()
        dataset["PixelData"].VR = "OW"
        if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
            dataset["PixelData"].is_undefined_length = False
            dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.save_as(file)
    return files


def deleted(files: list[Path], rng: np.random.Generator) -> list[Path]:
    chosen = int(rng.integers(4, len(files) - 4))
    return files[:chosen] + files[chosen + 1 :]


def inserted_twice(files: list[Path], rng: np.random.Generator) -> list[Path]:
    """A slice again under a new UID, between two others."""
    chosen = files[int(rng.integers(4, len(files) - 4))]
    dataset = pydicom.dcmread(chosen)
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = UID(f"{dataset.SOPInstanceUID[:-2]}99")
    position = [float(value) for value in dataset.ImagePositionPatient]
    other = [float(v) for v in pydicom.dcmread(files[files.index(chosen) + 1]).ImagePositionPatient]
    dataset.ImagePositionPatient = [round((a + b) / 2, 4) for a, b in zip(position, other, strict=True)]
    added = chosen.with_name("inserted.dcm")
    dataset.save_as(added)
    return [*files, added]


def reordered(files: list[Path], rng: np.random.Generator) -> list[Path]:
    """Two slices change places; Instance Number and Slice Location stay with the pixels."""
    one, other = (int(value) for value in rng.choice(len(files), 2, replace=False))
    first, second = pydicom.dcmread(files[one]), pydicom.dcmread(files[other])
    first.ImagePositionPatient, second.ImagePositionPatient = second.ImagePositionPatient, first.ImagePositionPatient
    first.save_as(files[one])
    second.save_as(files[other])
    return files


def patient_swapped(files: list[Path], rng: np.random.Generator) -> list[Path]:
    chosen = int(rng.integers(len(files)))

    def change(dataset: pydicom.FileDataset, index: int) -> None:
        if index == chosen:
            dataset.PatientID = "ANOTHER"

    return _each(files, change)


def times_contradict(files: list[Path], rng: np.random.Generator) -> list[Path]:
    def change(dataset: pydicom.FileDataset, _: int) -> None:
        dataset.StudyDate = dataset.AcquisitionDate = dataset.ContentDate = "20200102"
        dataset.StudyTime, dataset.AcquisitionTime, dataset.ContentTime = "100000", "103000", "095500"

    return _each(files, change)


def private_stripped(files: list[Path], rng: np.random.Generator) -> list[Path]:
    return _each(files, lambda dataset, _: dataset.remove_private_tags())


def rewritten(files: list[Path], rng: np.random.Generator) -> list[Path]:
    chosen = int(rng.integers(len(files)))

    def change(dataset: pydicom.FileDataset, index: int) -> None:
        if index == chosen:
            dataset.file_meta.ImplementationClassUID = UID("1.2.826.0.1.3680043.8.498.1")

    return _each(files, change)


def jpeg_flagged_lossless(files: list[Path], rng: np.random.Generator, quality: int = 80) -> list[Path]:
    def through(volume: NDArray[Any]) -> NDArray[Any]:
        top = float(np.percentile(volume, 99.8))
        planes = []
        for plane in volume:
            grey = np.clip(plane / top * 255.0, 0, 255).astype(np.uint8)
            _, code = cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, quality])
            planes.append(np.rint(np.asarray(cv2.imdecode(code, cv2.IMREAD_GRAYSCALE), float) / 255.0 * top))
        return np.stack(planes)

    return _pixels(files, through)


def windowed(files: list[Path], rng: np.random.Generator) -> list[Path]:
    """Saved through an 8-bit window and stretched back to the range it had."""

    def through(volume: NDArray[Any]) -> NDArray[Any]:
        low, high = (float(value) for value in np.percentile(volume, (1, 99.5)))
        grey = np.rint(np.clip((volume - low) / (high - low), 0, 1) * 255.0)
        return np.rint(grey / 255.0 * 1.7 * (high - low) + low)

    return _pixels(files, through)


def lab(
    family: str,
    files: list[Path],
    rng: np.random.Generator,
    *,
    noise: bool,
    radius: tuple[float, float] | None,
) -> list[Path]:
    """An edit of the tampering lab; with `noise` always touched up by noise that is copied from the scan."""

    def through(volume: NDArray[Any]) -> NDArray[Any]:
        for _ in range(40):
            region = _region(volume, rng, radius) if radius else None
            try:
                if not noise:
                    return tamper_volume(volume, family, rng, region=region, touched_up=False).volume
                return _noised(volume, family, rng, region)
            except ModelsError:
                continue
        raise RuntimeError("no place to edit")

    return _pixels(files, through)


def _noised(
    volume: NDArray[Any], family: str, rng: np.random.Generator, region: NDArray[np.bool_] | None
) -> NDArray[Any]:
    """Smooth edit, then the residual of another place of the scan on top (Mirsky 2019), in the lab's own words."""
    edit = tamper_volume(volume, family, rng, region=region, touched_up=False)
    work = volume.astype(np.float32)
    noise = touchup.copied_residual(work, edit.mask, Material.of(work), rng)
    result = np.where(edit.mask, np.rint(edit.volume + 0.9 * noise), volume)
    return np.clip(result, volume.min(), volume.max())


def _region(volume: NDArray[Any], rng: np.random.Generator, radius: tuple[float, float]) -> NDArray[np.bool_]:
    """A round region of so many pixels' radius, in tissue, over a few slices."""
    size = float(rng.uniform(*radius))
    blurred = np.stack([cv2.blur(plane.astype(np.float32), (9, 9)) for plane in volume])
    middle = int(rng.integers(len(volume) // 3, 2 * len(volume) // 3))
    inside = blurred[middle] > 0.5 * np.percentile(blurred[middle], 90)
    edge = int(size) + 2
    inside[:edge], inside[-edge:], inside[:, :edge], inside[:, -edge:] = False, False, False, False
    rows, columns = np.nonzero(inside)
    chosen = int(rng.integers(len(rows)))
    z, y, x = np.ogrid[: volume.shape[0], : volume.shape[1], : volume.shape[2]]
    return np.asarray(
        ((z - middle) / 2.0) ** 2 + ((y - rows[chosen]) / size) ** 2 + ((x - columns[chosen]) / size) ** 2 < 1
    )


MANIPULATIONS: dict[str, tuple[tuple[str, ...], Edit]] = {
    "slice deleted": (("missing-slices",), deleted),
    "slice inserted twice": (("instance-number-twice",), inserted_twice),
    "slices reordered, numbers kept": (("instance-number-order", "slice-location-differs"), reordered),
    "patient swapped in one file": (("patient-differs",), patient_swapped),
    "content before acquisition": (("content-before-acquisition",), times_contradict),
    "private blocks stripped": (("private-block-missing",), private_stripped),
    "one file rewritten": (("several-writers",), rewritten),
    "through JPEG 80, flagged lossless": (("jpeg-grid",), jpeg_flagged_lossless),
    "through JPEG 95, flagged lossless": (("jpeg-grid",), partial(jpeg_flagged_lossless, quality=95)),
    "through an 8-bit window, stretched": (("comb",), windowed),
    **{
        f"{family} + copied noise, radius {low}-{high}": (
            ("copied-noise",),
            partial(lab, family, noise=True, radius=(low, high)),
        )
        for low, high in ((8, 12), (12, 16), (16, 24))
        for family in ("telea", "bottleneck", "painted")
    },
    "copy_move, radius 16-24": (("copied-noise",), partial(lab, "copy_move", noise=False, radius=(16, 24))),
}


def measure(data: Path, quick: bool) -> tuple[dict[str, Counts], list[dict[str, Any]]]:
    genuine: dict[str, Counts] = defaultdict(Counts)
    studies = list(genuine_studies(data))
    for source, files in studies:
        started = time.process_time()
        genuine[source].add(look(files, baselines_of(files)))
        genuine[source].seconds += time.process_time() - started
    template = studies[0][1][0]
    for source, volume in genuine_volumes(data, 3 if quick else None):
        with tempfile.TemporaryDirectory() as folder:
            files = as_study(volume, template, Path(folder))
            started = time.process_time()
            # Only what pixels give away: the header is another study's.
            names = {"pixel-range-differs", "comb", "comb-in-part", "jpeg-grid", "copied-noise", "rule-failed"}
            genuine[source].add([each for each in look(files) if each.rule in names])
            genuine[source].seconds += time.process_time() - started
    rows: list[dict[str, Any]] = []
    whole = [(source, files) for source, files in studies if len(files) > 8]
    for name, (rules, edit) in MANIPULATIONS.items():
        hits = trials = 0
        for seed in range(1 if quick else 2):
            for _, files in whole[:: 2 if quick else 1]:
                with tempfile.TemporaryDirectory() as folder:
                    copies = [
                        Path(shutil.copyfile(file, Path(folder) / f"{i:04d}.dcm")) for i, file in enumerate(files)
                    ]
                    learnt = baselines_of(copies)
                    tampered = edit(copies, np.random.default_rng([seed, len(rows), trials]))
                    spoke = {each.rule for each in look(tampered, learnt)}
                trials += 1
                hits += bool(spoke & set(rules))
        rows.append({"manipulation": name, "rules": list(rules), "trials": trials, "detected": hits})
    return genuine, rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer volumes and one trial of each manipulation")
    parser.add_argument("--json", action="store_true", help="one object for scripts")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    data = Path(os.environ.get("SCANWARDEN_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (data / "README.md").is_file():
        parser.exit(2, f"real images are absent: {data} (set SCANWARDEN_DATA)\n")
    genuine, rows = measure(data, options.quick)
    alarms: list[dict[str, Any]] = [
        {
            "rule": rule,
            "severity": counts.severities[rule],
            "source": source,
            "units": counts.units,
            "spoke": counts.fired[rule],
            "upper_95": round(upper(counts.fired[rule], counts.units), 3),
        }
        for source, counts in genuine.items()
        for rule in sorted(counts.fired)
    ]
    if options.json:
        timing = {source: round(counts.seconds / counts.units, 2) for source, counts in genuine.items()}
        print(
            json.dumps(
                {
                    "name": "provenance",
                    "machine": platform.platform(),
                    "genuine": alarms,
                    "units": {source: counts.units for source, counts in genuine.items()},
                    "cpu_seconds": timing,
                    "tampered": rows,
                },
                indent=1,
            )
        )
        return
    console = Console(width=120)
    table = Table("rule", "severity", "source", "spoke on", "upper 95 %", title="On genuine studies (none: not listed)")
    for each in alarms:
        table.add_row(
            each["rule"],
            each["severity"],
            each["source"],
            f"{each['spoke']} of {each['units']}",
            f"{each['upper_95']:.0%}",
        )
    console.print(table)
    units = Table("source", "studies or volumes", "a silent rule's upper 95 %", "CPU s each")
    for source, counts in genuine.items():
        units.add_row(
            source, str(counts.units), f"{upper(0, counts.units):.0%}", f"{counts.seconds / counts.units:.2f}"
        )
    console.print(units)
    table = Table("manipulation", "rule", "detected", title="On tampered copies of the genuine studies")
    for row in rows:
        table.add_row(row["manipulation"], " or ".join(row["rules"]), f"{row['detected']} of {row['trials']}")
    console.print(table)


if __name__ == "__main__":
    main()
