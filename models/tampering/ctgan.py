"""The procedure of CT-GAN (Mirsky 2019) as an attack, on CT and MR: everything but its trained generator.

A cuboid of 32 mm is resampled to 1 mm with a cubic spline, its inner 20 mm are made anew, and it is resampled back;
an injected lesion is blended as the maximum of new and old, a removal by a Gaussian cross-fade; then noise that is
copied from one fixed place of the same scan is added. What stands in the inner part is painted or filled, because no
generator of theirs is at hand; the traces of the procedure are theirs.
"""

import cv2
import numpy as np
from scipy import ndimage

from models.tampering import fills, regions
from models.tampering.material import FloatArray, Mask, Material, slow_field, smooth_noise

CUBOID = 32.0  # mm
INNER = 20.0  # mm, of which the generator's output is kept
_UNKNOWN = (5.0, 1.0, 1.0)  # mm, where the headers do not say
_PLACES = tuple((down, across) for down in (0.3, 0.43, 0.57, 0.7) for across in (0.27, 0.4, 0.5, 0.6, 0.73))

Box = tuple[slice, slice, slice]


def cuboid(
    volume: FloatArray,
    material: Material,
    rng: np.random.Generator,
    *,
    centre: tuple[float, ...] | None = None,
    size_mm: float | None = None,
) -> Mask:
    """The cuboid of 32 mm (`size_mm` / 20 · 32) around `centre`, or around a place in tissue, as a mask.

    Raises NoPlaceToEdit when the volume holds no tissue.
    """
    spacing = _spacing(material)
    if centre is None:
        drawn = regions.draw(volume, material, rng, spacing=material.spacing)
        centre = tuple(float(axis.mean()) for axis in np.nonzero(drawn))
    side = CUBOID * (size_mm or INNER) / INNER
    mask = np.zeros(volume.shape, dtype=np.bool_)
    spans = []
    for place, length, step in zip(centre, volume.shape, spacing, strict=True):
        count = max(1, round(side / step))
        first = round(place - (count - 1) / 2)
        spans.append(slice(max(0, first), min(length, max(1, first + count))))
    mask[spans[0], spans[1], spans[2]] = True
    return mask


def inject(slab: FloatArray, mask: Mask, material: Material, rng: np.random.Generator) -> FloatArray:
    """CT-GAN's injection: the maximum of old and new in a cuboid at 1 mm, then copied noise."""
    box = _box(mask)
    old = slab[box]
    fine = _resampled(old, _spacing(material), back_to=None)
    weight = _weight(fine.shape)
    calm = ndimage.gaussian_filter(fine, 2.0)
    level = float(rng.uniform(0.25, 0.7)) * material.scale
    texture = level * 0.2 * slow_field(fine.shape, 9, rng)
    texture += 0.4 * material.noise * smooth_noise(fine.shape, 1.0, rng)
    core = np.clip(_ball(fine.shape, rng) * 1.6, 0.0, 1.0)
    new = _resampled(calm + (level + texture) * core * weight, _spacing(material), back_to=old.shape)
    return _finished(slab, box, np.maximum(new, old), rng)


def remove(slab: FloatArray, mask: Mask, material: Material, rng: np.random.Generator) -> FloatArray:
    """CT-GAN's removal: a Gaussian cross-fade into healthy tissue in a cuboid at 1 mm, then copied noise."""
    box = _box(mask)
    old = slab[box]
    fine = _resampled(old, _spacing(material), back_to=None)
    hole = _weight(fine.shape) > 0.5
    healthy = np.stack([
        fills.harmonic(np.asarray(cv2.blur(plane, (3, 3)), np.float32), inside)
        for plane, inside in zip(fine, hole, strict=True)
    ])  # fmt: skip
    healthy += 0.8 * material.noise * smooth_noise(fine.shape, 1.0, rng)
    new = _resampled(healthy, _spacing(material), back_to=old.shape)
    weight = _weight(old.shape)
    return _finished(slab, box, old * (1 - weight) + new * weight, rng)


def _finished(slab: FloatArray, box: Box, blended: FloatArray, rng: np.random.Generator) -> FloatArray:
    """The blended cuboid in its slab, with the copied noise."""
    strength = float(rng.uniform(0.8, 1.1))
    result = slab.copy()
    result[box] = blended + strength * _weight(blended.shape) * copied_noise(slab, box)
    return result


def copied_noise(slab: FloatArray, box: Box) -> FloatArray:
    """The high-pass residual of a block as large as `box`, from one place of the same scan.

    The place depends on the scan alone: of a few fixed ones the one in tissue that shows least anatomy, because edges
    would betray the copy at a glance.
    """
    shape = tuple(part.stop - part.start for part in box)
    floor = float(np.median(slab)) if slab.size else 0.0
    best, best_cost = np.zeros(shape, np.float32), np.inf
    for down, across in _PLACES:
        first = [
            int(np.clip(round(share * length - wanted / 2), 0, length - wanted))
            for share, length, wanted in zip((0.5, down, across), slab.shape, shape, strict=True)
        ]
        overlaps = all(abs(first[axis] - box[axis].start) < shape[axis] for axis in range(3))
        block = slab[tuple(slice(start, start + wanted) for start, wanted in zip(first, shape, strict=True))]
        residual = np.stack([plane - cv2.GaussianBlur(plane, (0, 0), 1.0) for plane in block])
        energy = np.stack([cv2.blur(np.abs(plane), (7, 7)) for plane in residual])
        usual = max(float(np.median(energy)), 1e-6)
        cost = float((energy > 1.6 * usual).mean()) + float((block < floor).mean()) + 10.0 * overlaps
        if cost < best_cost:
            best, best_cost = (residual * np.clip(1.4 * usual / energy.clip(1e-6), 0, 1)).astype(np.float32), cost
    return best


def _resampled(
    block: FloatArray, spacing: tuple[float, float, float], *, back_to: tuple[int, ...] | None
) -> FloatArray:
    """To 1 mm, or back to a shape, by a spline of order 3."""
    shape = back_to or tuple(max(1, round(length * step)) for length, step in zip(block.shape, spacing, strict=True))
    factors = [new / old for new, old in zip(shape, block.shape, strict=True)]
    return np.asarray(ndimage.zoom(block, factors, order=3, mode="nearest"), dtype=np.float32)


def _weight(shape: tuple[int, ...]) -> FloatArray:
    """1 in the inner 20 of 32 parts of each axis, falling like a Gaussian to 0 at the faces; an axis of 1 is inside."""
    weights = []
    for length in shape:
        from_centre = np.abs((np.arange(length) + 0.5) / length - 0.5) if length > 1 else np.zeros(1)
        beyond = np.clip(from_centre - INNER / CUBOID / 2, 0, None) / (0.5 - INNER / CUBOID / 2)
        weights.append(np.exp(-0.5 * (beyond / 0.35) ** 2))
    return np.asarray(np.einsum("i,j,k->ijk", *weights), dtype=np.float32)


def _ball(shape: tuple[int, ...], rng: np.random.Generator) -> FloatArray:
    """1 in the middle of the inner part to 0 at its wavy surface."""
    z, y, x = ((np.arange(length) + 0.5) / length - 0.5 if length > 1 else np.zeros(1) for length in shape)
    squares = z[:, None, None] ** 2 + y[None, :, None] ** 2 + x[None, None, :] ** 2
    distance = np.sqrt(squares) / (INNER / CUBOID / 2)
    wave = 0.15 * slow_field(shape, 6, rng)  # type: ignore[arg-type]
    return np.asarray(np.clip(1.0 - distance - wave, 0.0, 1.0), dtype=np.float32)


def _spacing(material: Material) -> tuple[float, float, float]:
    known = material.spacing or _UNKNOWN
    return tuple(step if step > 0 else 1.0 for step in known)  # type: ignore[return-value]


def _box(mask: Mask) -> Box:
    spans = [np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    return tuple(slice(int(used[0]), int(used[-1]) + 1) for used in spans)  # type: ignore[return-value]
