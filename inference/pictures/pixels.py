"""The pixels of a plain file, as the reading side hands them to the judging side."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.pictures.kinds import Kind


@dataclass(frozen=True)
class Placement:
    """How slices were cut from the array of a NIfTI file, so that a mask finds its way back.

    Axis n of the voxels (slices, rows, columns) is axis `axes[n]` of the file's array, run backwards where
    `backwards[n]`; `shape` and `affine` (4×4, row by row, to RAS in mm) are the file's.
    """

    axes: tuple[int, int, int]
    backwards: tuple[bool, bool, bool]
    shape: tuple[int, int, int]
    affine: tuple[float, ...]

    def back(self, voxels: NDArray[Any]) -> NDArray[Any]:
        """An array (slices, rows, columns) on the file's own axes."""
        unflipped = voxels[tuple(slice(None, None, -1 if flip else 1) for flip in self.backwards)]
        return np.ascontiguousarray(unflipped.transpose(np.argsort(self.axes)))


@dataclass(frozen=True, eq=False)
class Pixels:
    """One picture as a volume of one slice, or a NIfTI volume.

    `voxels` (slices, rows, columns) float32, finite, brighter is more. `spacing` (between slices, rows, columns) in
    mm, None where unknown. `is_shown`: the values are the 8-bit grey that a viewer shows. `notes`: what was done to it
    that a reader should know. `gaps`: what of the file was not read. `doubts`: why it is less evidence than what a
    scanner wrote.
    """

    voxels: NDArray[np.float32]
    spacing: tuple[float, float, float] | None = None
    is_shown: bool = False
    notes: tuple[str, ...] = ()
    gaps: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    placement: Placement | None = field(default=None)


# What reads a file: in this process, or in one that a broken decoder may take down.
Read = Callable[[Path, Kind, int], Pixels]


def read_pixels(file: Path, kind: Kind, max_voxels: int) -> Pixels:
    """Decode a plain file; nothing is allocated before its header was checked against `max_voxels`.

    Raises UnreadablePicture with what is wrong, TooLarge above `max_voxels`.
    """
    if kind is Kind.NIFTI:
        from inference.pictures import nifti

        return nifti.read(file, max_voxels)
    from inference.pictures import raster

    return raster.read(file, kind, max_voxels)
