"""Puts an edit into a volume so that nothing outside its mask changes, in the integers that the file stores."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from models.tampering import regions, touchup
from models.tampering.families import EditType, Family, family
from models.tampering.material import Donor, FloatArray, Mask, Material

_MARGIN = 48  # pixels around the edit that a family may look at and copy from


@dataclass(frozen=True)
class Tampered:
    """A volume after an edit, of the dtype it had; `mask` (slices, rows, columns) holds every pixel that may differ."""

    volume: NDArray[Any]
    mask: Mask
    edit_type: EditType
    family: str
    touched_up: bool = False


@dataclass(frozen=True)
class Place:
    """Where an edit is wanted: its centre (slice, row, column) and its diameter in mm; None: drawn."""

    centre: tuple[float, float, float] | None = None
    size_mm: float | None = None


def draw_region(work: FloatArray, kind: Family, material: Material, rng: np.random.Generator, place: Place) -> Mask:
    """The mask of an edit of this kind. Raises NoPlaceToEdit."""
    if kind.region is not None:
        return kind.region(work, material, rng, centre=place.centre, size_mm=place.size_mm)
    bright = kind.on_lesion or (kind.edit_type is EditType.REMOVED and rng.random() < 0.5)
    prefer: Literal["bright", "any"] = "bright" if bright else "any"
    if place == Place():
        return regions.draw(work, material, rng, spacing=material.spacing, prefer=prefer)
    return regions.around(work, material, rng, centre=place.centre, size_mm=place.size_mm, prefer=prefer)


def compose(
    slab: FloatArray,
    mask: Mask,
    kind: Family,
    material: Material,
    rng: np.random.Generator,
    *,
    touched_up: bool,
    limits: tuple[float, float],
) -> FloatArray:
    """Edit `slab` (stored units) within `mask`; rounded to integers within `limits`, original pixels elsewhere.

    A procedure of its own (`kind.region`) is given the whole slab and is not touched up a second time.
    """
    box = _box(mask) if kind.region is None else (slice(None), slice(None), slice(None))
    part, inside = slab[box], mask[box]
    edited = kind.edit(part, inside, material, rng)
    if kind.region is None:
        if touched_up:
            edited = touchup.touch_up(part, edited, inside, material, rng)
        edited = touchup.feather(part, edited, inside, float(rng.uniform(0, 3)) if rng.random() < 0.5 else 0.0)
    rounded = np.clip(np.rint(np.nan_to_num(edited, nan=material.offset)), *limits)
    result = slab.copy()
    result[box] = np.where(inside, rounded, part)
    return result


def tamper_volume(
    volume: NDArray[Any],
    family_name: str,
    rng: np.random.Generator,
    *,
    spacing: tuple[float, float, float] | None = None,
    region: Mask | None = None,
    donors: Sequence[Donor] = (),
    touched_up: bool | None = None,
    place: Place | None = None,
) -> Tampered:
    """Edit a volume of stored integers (slices, rows, columns) once, over as many slices as the edit's size spans.

    The region is given, drawn around `place`, or drawn in tissue. `touched_up` None: for every second edit. Raises
    UnknownFamily, MissingInpainter, and NoPlaceToEdit when there is no tissue.
    """
    kind = family(family_name)
    work = volume.astype(np.float32)
    material = Material.of(work, donors, spacing)
    if region is None:
        region = draw_region(work, kind, material, rng, place or Place())
    touched = bool(rng.random() < 0.5) if touched_up is None else touched_up
    edited = compose(
        work, region, kind, material, rng, touched_up=touched, limits=(float(volume.min()), float(volume.max()))
    )
    result = np.where(region, edited.astype(volume.dtype), volume)
    return Tampered(
        volume=result,
        mask=region,
        edit_type=kind.edit_type,
        family=kind.name,
        touched_up=touched and kind.region is None,
    )


def _box(mask: Mask) -> tuple[slice, slice, slice]:
    """The smallest box around the mask, with the margin in the plane."""
    spans = []
    for axis, margin in ((0, 0), (1, _MARGIN), (2, _MARGIN)):
        used = np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis})))
        spans.append(slice(max(0, int(used[0]) - margin), min(mask.shape[axis], int(used[-1]) + 1 + margin)))
    return spans[0], spans[1], spans[2]
