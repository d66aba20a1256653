"""Where two copies of an image differ: decoded frame by frame, never all at once."""

from dataclasses import dataclass
from hashlib import sha256
from itertools import zip_longest

import numpy as np
from pydicom import Dataset

from storage.digests import decoded_frames


@dataclass(frozen=True, slots=True)
class Region:
    """Where the pixels differ. `box` is [row0, column0, row1, column1], half-open, around all differing pixels."""

    box: tuple[int, int, int, int]
    frames: tuple[int, ...]
    """Frame numbers, from 1."""
    pixels: int
    largest: float
    """Largest difference of stored values."""


@dataclass(frozen=True, slots=True)
class Difference:
    """What a comparison of decoded pixels shows. Neither `region` nor `note`: the pixels are the same."""

    region: Region | None = None
    note: str = ""

    @property
    def same(self) -> bool:
        return self.region is None and not self.note


def difference(first: Dataset, other: Dataset) -> Difference:
    """Compare the decoded pixels of two data sets. Raises what a decoder raises."""
    box: list[int] = []
    frames, pixels, largest = [], 0, 0.0
    for number, (one, two) in enumerate(zip_longest(decoded_frames(first), decoded_frames(other)), 1):
        if one is None or two is None:
            return Difference(note="another number of frames")
        if one[0].shape != two[0].shape:
            return Difference(note=f"another matrix: {_matrix(two[0].shape)} in place of {_matrix(one[0].shape)}")
        differs = one[0] != two[0]
        if differs.ndim == 3:
            differs = differs.any(axis=2)
        rows, columns = np.flatnonzero(differs.any(axis=1)), np.flatnonzero(differs.any(axis=0))
        if not rows.size:
            continue
        here = [int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1]
        box = here if not box else [*map(min, box[:2], here[:2]), *map(max, box[2:], here[2:])]
        frames.append(number)
        pixels += int(np.count_nonzero(differs))
        largest = max(largest, float(np.abs(one[0].astype(np.float64) - two[0].astype(np.float64)).max()))
    if not box:
        return Difference()
    return Difference(Region((box[0], box[1], box[2], box[3]), tuple(frames), pixels, largest))


def picture(dataset: Dataset) -> str:
    """SHA-256 of the decoded pixels alone, wherever they lie: tells whose pixels an instance shows."""
    digest = sha256()
    for frame, _ in decoded_frames(dataset):
        digest.update(str(frame.shape).encode())
        digest.update(np.ascontiguousarray(frame).data)
    return digest.hexdigest()


def _matrix(shape: tuple[int, ...]) -> str:
    return "×".join(str(each) for each in shape[:2])
