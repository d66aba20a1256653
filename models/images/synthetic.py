"""Images that our generators made, as `scanwarden generators sample` leaves them: KIND/SOURCE/SPLIT/*.png and an index.

An image made from a genuine one names the patient of that image and stays in the patient's split.
"""

import csv
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from models.errors import MissingData
from models.images.organs import Organ
from models.splits import Split

INDEX: Final = "index.csv"
FIELDS: Final = ("path", "kind", "source", "organ", "split", "patient", "instance", "seed")


@dataclass(frozen=True, eq=False)
class SyntheticImage:
    """One image that no scanner made; `pixels` (rows, columns), 8 bit.

    `source` is the genuine source that the generator learned from. `patient` is empty for a free sample. `instance`
    tells apart generators of one kind that were trained with other seeds.
    """

    kind: str
    organ: Organ
    source: str
    split: Split
    patient: str
    instance: str
    pixels: NDArray[np.uint8]


def load_synthetic(
    folder: Path, *, kinds: Collection[str] = (), splits: Collection[Split] = ()
) -> list[SyntheticImage]:
    """The synthetic images of the wanted kinds and splits (all by default), in the order of the index.

    Raises MissingData when the folder has no index, the index is not one of ours, a wanted kind is not in it, or an
    image that it names is absent.
    """
    rows = list(_rows(folder))
    if unknown := set(kinds) - {row["kind"] for row in rows}:
        there = ", ".join(sorted({row["kind"] for row in rows}))
        raise MissingData(f"{folder} holds no images of {', '.join(sorted(unknown))}, only of: {there or 'nothing'}")
    wanted = [row for row in rows if not kinds or row["kind"] in kinds]
    return [_read(folder, row) for row in wanted if not splits or row["split"] in splits]


def _rows(folder: Path) -> Iterator[dict[str, str]]:
    path = folder / INDEX
    if not path.is_file():
        raise MissingData(
            f"no synthetic images in {folder}: {INDEX} is absent; make them with `scanwarden generators train all` "
            "and `scanwarden generators sample`"
        )
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != FIELDS:
            raise MissingData(f"{path} does not begin with {','.join(FIELDS)}; sample the images again")
        yield from reader


def _read(folder: Path, row: dict[str, str]) -> SyntheticImage:
    path = folder / row["path"]
    pixels = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) if path.is_file() else None
    if pixels is None:
        raise MissingData(f"{path} stands in the index and cannot be read; sample the images again")
    try:
        organ, split = Organ(row["organ"]), Split(row["split"])
    except ValueError as fault:
        raise MissingData(f"{folder / INDEX}, {row['path']}: {fault}; sample the images again") from fault
    return SyntheticImage(
        row["kind"], organ, row["source"], split, row["patient"], row["instance"], np.asarray(pixels, dtype=np.uint8)
    )
