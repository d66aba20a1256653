"""Where an edit is placed: an irregular ellipsoid in tissue, over as many slices as its size in mm spans."""

from typing import Literal

import cv2
import numpy as np

from models.errors import NoPlaceToEdit
from models.tampering.material import FloatArray, Mask, Material, slow_field

_TRIES = 30
_TUMOURS = (3.4, 0.4)  # mean and deviation of the log of the long radius in pixels at 256 columns


def ellipsoid(
    shape: tuple[int, int, int],
    centre: tuple[float, float, float],
    radii: tuple[float, float, float],
    rng: np.random.Generator,
) -> Mask:
    """An ellipsoid with a wavy surface, turned in the plane; `centre` and `radii` in (slices, rows, columns)."""
    angle = rng.uniform(0, np.pi)
    z, y, x = np.ogrid[: shape[0], : shape[1], : shape[2]]
    y, x = y - centre[1], x - centre[2]
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    distance = ((z - centre[0]) / radii[0]) ** 2 + (across / radii[1]) ** 2 + (along / radii[2]) ** 2
    cells = max(4, round(1.5 * max(shape[1:]) / max(radii[1:])))
    wave = slow_field(shape, min(cells, 40), rng) * rng.uniform(0.0, 0.3)
    return np.asarray(distance + wave < 1.0)


def through_plane_radius(radius: float, spacing: tuple[float, float, float] | None, rng: np.random.Generator) -> float:
    """Slices that a lesion of `radius` pixels reaches up and down."""
    if spacing is None or spacing[0] <= 0:
        return float(rng.uniform(0.8, 3.0))
    return float(np.clip(radius * spacing[1] / spacing[0] * rng.uniform(0.7, 1.2), 0.7, 12.0))


def draw(
    volume: FloatArray,
    material: Material,
    rng: np.random.Generator,
    *,
    spacing: tuple[float, float, float] | None = None,
    prefer: Literal["any", "bright"] = "any",
    matrix: int | None = None,
    like_tumours: bool = False,
) -> Mask:
    """A region to edit, at least 80 % of it in tissue; `bright` seeks it where a lesion could be removed.

    `matrix` is the number of columns of the whole slice where `volume` is a crop of it. `like_tumours`: as large, as
    long and as far from the skull as real tumours are, so that size and place do not tell what was added or removed.
    Raises NoPlaceToEdit when the volume holds no tissue.
    """
    blurred = np.stack([cv2.blur(plane, (5, 5)) for plane in volume])
    tissue = blurred > material.offset + 0.18 * material.scale
    size = (matrix or volume.shape[2]) / 256.0
    middle = rng.integers(len(volume) // 5, max(len(volume) // 5 + 1, len(volume) - len(volume) // 5))
    for attempt in range(_TRIES):
        plane = int(middle) if attempt < _TRIES // 2 else int(rng.integers(len(volume)))
        candidates = cv2.erode(tissue[plane].astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
        if prefer == "bright" and candidates.any():
            inner = (
                cv2.erode(tissue[plane].astype(np.uint8), np.ones((3, 3), np.uint8), iterations=round(10 * size)) > 0
            )
            if inner.any():
                candidates = inner & (blurred[plane] >= np.percentile(blurred[plane][inner], 95))
        as_tumour = like_tumours and attempt < 2 * _TRIES // 3
        if as_tumour and prefer != "bright":
            candidates = _inside(tissue[plane], round(14 * size))
        rows, columns = np.nonzero(candidates)
        if not len(rows):
            continue
        chosen = int(rng.integers(len(rows)))
        radius = size * (
            float(np.clip(np.exp(rng.normal(*_TUMOURS)), 6.0, 50.0))
            if as_tumour
            else float(np.exp(rng.uniform(np.log(4.5), np.log(20.0))))
        )
        thin = 0.45 if as_tumour else 0.65
        depth = through_plane_radius(radius, spacing, rng)
        centre = (plane + rng.uniform(-0.5, 0.5), float(rows[chosen]), float(columns[chosen]))
        mask = ellipsoid(volume.shape, centre, (depth, radius * rng.uniform(thin, 1.0), radius), rng)
        if mask[plane].sum() >= 30 and tissue[mask].mean() >= 0.8:
            return mask
    raise NoPlaceToEdit("no tissue large enough for an edit; choose a study that shows the head")


def _inside(tissue: Mask, depth: int) -> Mask:
    """What lies `depth` pixels below the skin; all tissue of a crop that shows too little of the head for that."""
    inner = cv2.erode(tissue.astype(np.uint8), np.ones((3, 3), np.uint8), iterations=depth) > 0
    return np.asarray(inner if inner.sum() >= 100 else tissue)


def around(
    volume: FloatArray,
    material: Material,
    rng: np.random.Generator,
    *,
    centre: tuple[float, float, float] | None,
    size_mm: float | None,
    prefer: Literal["any", "bright"] = "any",
) -> Mask:
    """A region around `centre` (slice, row, column), `size_mm` across; either is drawn where it is None.

    Without a spacing a pixel counts as 1 mm and a slice as 5. Raises NoPlaceToEdit when there is no tissue there.
    """
    spacing = material.spacing or (5.0, 1.0, 1.0)
    if centre is None:
        drawn = draw(volume, material, rng, spacing=material.spacing, prefer=prefer)
        slices, rows, columns = np.nonzero(drawn)
        centre = float(slices.mean()), float(rows.mean()), float(columns.mean())
    if size_mm is None:
        size_mm = float(np.exp(rng.uniform(np.log(9.0), np.log(30.0))))
    radii = [max(least, size_mm / 2 / step) for least, step in zip((0.7, 2.0, 2.0), spacing, strict=True)]
    mask = ellipsoid(volume.shape, centre, (radii[0], radii[1] * rng.uniform(0.8, 1.0), radii[2]), rng)
    blurred = np.stack([cv2.blur(plane, (5, 5)) for plane in volume[mask.any(axis=(1, 2))]])
    tissue = blurred > material.offset + 0.18 * material.scale
    inside = mask[mask.any(axis=(1, 2))]
    if not inside.any() or tissue[inside].mean() < 0.5:
        where = ", ".join(f"{value:.0f}" for value in (centre[1], centre[2], centre[0]))
        raise NoPlaceToEdit(f"less than half of the region around row, column, slice {where} is tissue; name another")
    return mask
