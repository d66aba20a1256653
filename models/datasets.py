"""Reads the genuine images that training and evaluation start from; no tampered image is stored anywhere."""

import csv
import os
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from models.errors import MissingData
from models.splits import Split, split_of


@dataclass(frozen=True)
class Case:
    """One genuine series, or one set of single slices (`separate`: no slice continues another).

    `images` (slices, rows, columns) stored integers; `lesion` a mask of the same shape, `boxes` (row0, column0, row1,
    column1) for each slice, each None where the source has none; `spacing` in mm.
    """

    source: str
    patient: str
    series: str
    split: Split
    images: NDArray[Any]
    spacing: tuple[float, float, float] | None = None
    separate: bool = False
    lesion: NDArray[np.bool_] | None = field(default=None, repr=False)
    boxes: NDArray[np.int64] | None = field(default=None, repr=False)


def data_folder() -> Path:
    """Where the real images are: SCANWARDEN_DATA, or ../shared/data beside the repository."""
    return Path(os.environ.get("SCANWARDEN_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))


def load(folder: Path, cache: Path, sources: tuple[str, ...] = ()) -> list[Case]:
    """Every case of the wanted sources (all by default), decoded once into `cache`.

    Raises MissingData when a source's folder is absent.
    """
    unknown = set(sources) - set(SOURCES)
    if unknown:
        raise MissingData(f"unknown sources {', '.join(sorted(unknown))}; known: {', '.join(SOURCES)}")
    return [case for name in sources or SOURCES for case in SOURCES[name](folder, cache)]


def _brain_lgg(folder: Path, cache: Path) -> Iterator[Case]:
    for patient in sorted(path for path in _need(folder / "brain-lgg").iterdir() if path.is_dir()):
        for kind in ("flair", "post"):
            files = sorted(patient.glob(f"*-{kind}.webp"))
            if not files:
                continue

            def decode(files: list[Path] = files) -> NDArray[Any]:
                return np.stack([_grey(path) for path in files])

            def masks(files: list[Path] = files) -> NDArray[Any]:
                return np.stack([_mask(path.with_name(f"{path.name[:3]}-mask.png")) for path in files])

            name = f"{patient.name}-{kind}"
            yield Case(
                source=f"brain-lgg-{patient.name.split('_')[1].lower()}",
                patient=patient.name,
                series=name,
                split=split_of("brain-lgg", patient.name),
                images=_cached(cache / f"{name}.npy", decode),
                lesion=_cached(cache / f"{name}-lesion.npy", masks),
            )


def _mask(path: Path) -> NDArray[np.bool_]:
    if not path.is_file():
        return np.zeros((256, 256), dtype=np.bool_)
    return np.asarray(_grey(path) > 127)


def _grey(path: Path) -> NDArray[Any]:
    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise MissingData(f"{path} cannot be decoded; copy it again")
    return np.asarray(image)


def _brain_cheng(folder: Path, cache: Path) -> Iterator[Case]:
    root = _need(folder / "brain-cheng")
    boxes: dict[str, dict[str, list[float]]] = defaultdict(dict)
    with (root / "boxes.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            place = [float(row[key]) for key in ("x_centre", "y_centre", "width", "height")]
            boxes[row["fold"]].setdefault(row["image"], place)
    for fold, images in sorted(boxes.items()):
        names = sorted(images)

        def decode(names: list[str] = names) -> NDArray[Any]:
            return np.stack([_grey(root / "images" / name) for name in names])

        array = _cached(cache / f"cheng-fold{fold}.npy", decode)
        x, y, width, height = np.array([images[name] for name in names]).T
        rows, columns = array.shape[1:]
        corners = (
            (y - height / 2) * rows,
            (x - width / 2) * columns,
            (y + height / 2) * rows,
            (x + width / 2) * columns,
        )
        yield Case(
            source="brain-cheng",
            patient=f"fold{fold}",
            series=f"cheng-fold{fold}",
            split=split_of("brain-cheng", f"fold{fold}"),
            images=array,
            separate=True,
            boxes=np.stack([np.rint(corner).astype(np.int64) for corner in corners], axis=1),
        )


def _brain_ms(folder: Path, cache: Path) -> Iterator[Case]:
    import nibabel  # only training reads NIfTI

    for path in sorted(_need(folder / "brain-ms").glob("*/*.nii.gz")):
        image: Any = nibabel.load(path)

        def decode(image: Any = image) -> NDArray[Any]:
            return np.ascontiguousarray(np.asanyarray(image.dataobj).transpose(2, 1, 0))

        name = f"{path.parent.name}-{path.name.split('.')[0]}"
        x, y, z = (float(value) for value in image.header.get_zooms()[:3])
        yield Case(
            source="brain-ms",
            patient=path.parent.name,
            series=name,
            split=split_of("brain-ms", path.parent.name),
            images=_cached(cache / f"ms-{name}.npy", decode),
            spacing=(z, y, x),
        )


def _dicom(source: str) -> Callable[[Path, Path], Iterator[Case]]:
    def cases(folder: Path, cache: Path) -> Iterator[Case]:
        for patient in sorted(path for path in _need(folder / "dicom" / source).iterdir() if path.is_dir()):
            spacing, decode = _dicom_series(patient)
            yield Case(
                source=source,
                patient=patient.name,
                series=f"{source}-{patient.name}",
                split=split_of(source, patient.name),
                images=_cached(cache / f"{source}-{patient.name}.npy", decode),
                spacing=spacing,
            )

    return cases


def _dicom_series(folder: Path) -> tuple[tuple[float, float, float], Callable[[], NDArray[Any]]]:
    import pydicom

    found: list[tuple[float, Path]] = []
    first = None
    for path in sorted(folder.rglob("*.dcm")):
        header = pydicom.dcmread(path, stop_before_pixels=True)
        first = first or header
        orientation = np.asarray(header.ImageOrientationPatient, dtype=float)
        normal = np.cross(orientation[:3], orientation[3:])
        found.append((float(normal @ np.asarray(header.ImagePositionPatient, dtype=float)), path))
    if first is None:
        raise MissingData(f"no DICOM file in {folder}; see the README of the data folder")
    found.sort()
    step = float(np.median(np.diff([position for position, _ in found]))) if len(found) > 1 else 0.0
    rows, columns = (float(value) for value in first.PixelSpacing)

    def decode() -> NDArray[Any]:
        return np.stack([pydicom.dcmread(path).pixel_array for _, path in found])

    return (step, rows, columns), decode


def _need(folder: Path) -> Path:
    if not folder.is_dir():
        raise MissingData(f"real images are absent: {folder}; set SCANWARDEN_DATA to the folder that holds them")
    return folder


def _cached(path: Path, decode: Callable[[], NDArray[Any]]) -> NDArray[Any]:
    """The decoded array as a read-only memory map; renamed into place, so that a broken run leaves no half."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.partial")
        with partial.open("wb") as file:
            np.save(file, decode())
        partial.replace(path)
    return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))


SOURCES: dict[str, Callable[[Path, Path], Iterator[Case]]] = {
    "brain-lgg": _brain_lgg,
    "brain-cheng": _brain_cheng,
    "brain-ms": _brain_ms,
    "flair-glioma": _dicom("flair-glioma"),
    "t1-healthy": _dicom("t1-healthy"),
}
