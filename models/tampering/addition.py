"""Families that put a lesion where there is none."""

import cv2
import numpy as np

from models.tampering import fills
from models.tampering.material import Donor, FloatArray, Mask, Material, slow_field, smooth_noise


def poisson_clone(slab: FloatArray, mask: Mask, material: Material, rng: np.random.Generator) -> FloatArray:
    """A lesion of another patient, resampled into the region and cloned into its rim; painted where none is given."""
    if not material.donors:
        donor = painted(slab, mask, material, rng)
    else:
        donor = (
            _fitted(material.donors[int(rng.integers(len(material.donors)))], mask, rng) * material.scale
            + material.offset
        )
    result = slab.copy()
    for index in np.flatnonzero(mask.any(axis=(1, 2))):
        if material.donors and rng.random() < 0.3:  # pasted with a level shift only
            level = float(np.median(slab[index]) - np.median(donor[index])) * 0.3
            result[index] = np.where(mask[index], donor[index] + level, slab[index])
        else:
            result[index] = fills.membrane_clone(slab[index], donor[index], mask[index])
    return result


def painted(slab: FloatArray, mask: Mask, material: Material, rng: np.random.Generator) -> FloatArray:
    """A texture-matched painted lesion: invented core, rim and texture on smoothed anatomy."""
    profile = _profile(mask, rng)
    level = float(rng.uniform(0.15, 0.7)) * material.scale * (1.0 if rng.random() < 0.8 else -0.6)
    spread = float(rng.uniform(0.8, 2.5))
    anatomy = np.stack([cv2.GaussianBlur(plane, (0, 0), spread) for plane in slab])
    inside = anatomy * (1 - float(rng.uniform(0.3, 0.9)) * profile) + float(np.median(slab[mask])) * profile * 0.6
    inside = inside + level * profile * (1 + 0.25 * slow_field(slab.shape, 10, rng))
    texture = (
        smooth_noise(slab.shape, float(rng.uniform(0.4, 1.5)), rng) * material.noise * float(rng.uniform(0.2, 1.3))
    )
    return np.where(mask, inside + texture, slab).astype(np.float32)


def painted_onto(slab: FloatArray, mask: Mask, material: Material, rng: np.random.Generator) -> FloatArray:
    """A lesion that is added to the image and keeps the noise underneath: residuals see nothing of it."""
    profile = _profile(mask, rng)
    level = float(rng.uniform(0.2, 0.7)) * material.scale * (1.0 if rng.random() < 0.8 else -0.6)
    lesion = level * profile * (1 + 0.25 * slow_field(slab.shape, 10, rng))
    return np.where(mask, slab + lesion, slab).astype(np.float32)


def ring(slab: FloatArray, mask: Mask, material: Material, rng: np.random.Generator) -> FloatArray:
    """A ring-enhancing lesion: a dark core, a bright wall of uneven thickness, faint oedema around it."""
    outward = _outward(mask) + 0.06 * slow_field(slab.shape, 8, rng)
    wall, thickness = float(rng.uniform(0.4, 0.6)), float(rng.uniform(0.08, 0.16))
    shine = np.exp(-0.5 * ((outward - wall) / (thickness * (1 + 0.3 * slow_field(slab.shape, 5, rng)))) ** 2)
    core = np.clip((wall - outward) / 0.15, 0.0, 1.0)
    oedema = np.clip((outward - wall) / 0.1, 0.0, 1.0) * np.clip((1.0 - outward) / 0.3, 0.0, 1.0)
    level = material.scale * float(rng.uniform(0.3, 0.65))
    change = level * (shine - float(rng.uniform(0.3, 0.7)) * core + float(rng.uniform(0.0, 0.3)) * oedema)
    calm = np.clip((1.0 - outward) / 0.25, 0.0, 1.0)
    return _painted(slab, mask, np.asarray(calm, np.float32), np.asarray(change, np.float32), material, rng)


def spiculated(slab: FloatArray, mask: Mask, material: Material, rng: np.random.Generator) -> FloatArray:
    """A lesion with spikes: a bright core that runs out into the tissue in strands."""
    outward = _outward(mask)
    _, rows, columns = np.nonzero(mask)
    y, x = np.mgrid[: slab.shape[1], : slab.shape[2]].astype(np.float32)
    y, x = y - rows.mean(), x - columns.mean()
    angle, radius = np.arctan2(y, x), np.hypot(y, x)
    profile = np.clip((float(rng.uniform(0.3, 0.45)) - outward) / 0.2, 0.0, 1.0)
    for direction in rng.uniform(-np.pi, np.pi, size=int(rng.integers(8, 20))):
        away = np.abs(np.angle(np.exp(1j * (angle - direction)))).astype(np.float32)
        strand = np.exp(-0.5 * (radius * np.sin(np.minimum(away, np.pi / 2)) / float(rng.uniform(0.4, 0.9))) ** 2)
        reach = float(rng.uniform(0.7, 1.1))
        profile = np.maximum(profile, np.where(away < np.pi / 2, strand, 0.0) * np.clip((reach - outward) / 0.4, 0, 1))
    level = material.scale * float(rng.uniform(0.3, 0.7))
    change = level * profile * (1 + 0.2 * slow_field(slab.shape, 10, rng))
    return _painted(slab, mask, np.asarray(profile, np.float32), change, material, rng)


def _painted(
    slab: FloatArray, mask: Mask, calm: FloatArray, change: FloatArray, material: Material, rng: np.random.Generator
) -> FloatArray:
    """`change` on anatomy that is smoothed where `calm` is 1, under texture of the scan's strength."""
    spread = float(rng.uniform(0.8, 1.8))
    anatomy = np.stack([cv2.GaussianBlur(plane, (0, 0), spread) for plane in slab])
    grain = material.noise * float(rng.uniform(0.4, 1.2)) * smooth_noise(slab.shape, float(rng.uniform(0.4, 1.0)), rng)
    soft = np.stack([cv2.GaussianBlur(plane, (0, 0), float(rng.uniform(0.5, 0.9))) for plane in change])
    inside = slab * (1 - calm) + (anatomy + grain) * calm + soft
    return np.where(mask, inside, slab).astype(np.float32)


def _outward(mask: Mask) -> FloatArray:
    """0 in the middle of a mask to 1 at its rim, each plane in proportion to the thickest."""
    depth = np.stack([cv2.distanceTransform(plane.astype(np.uint8), cv2.DIST_L2, 3) for plane in mask])
    return np.asarray(1.0 - depth / max(float(depth.max()), 1.0), dtype=np.float32)


def _profile(mask: Mask, rng: np.random.Generator) -> FloatArray:
    """0 at the rim to 1 inside, sometimes with a bright ring and a dark, necrotic core."""
    depth = np.stack([cv2.distanceTransform(plane.astype(np.uint8), cv2.DIST_L2, 3) for plane in mask])
    edge = float(rng.uniform(1.0, 4.0))
    profile = np.clip(depth / edge, 0.0, 1.0)
    if rng.random() < 0.35:
        core = float(rng.uniform(3.0, 8.0))
        profile = profile * (1 - float(rng.uniform(0.4, 1.0)) * np.clip((depth - core) / 3.0, 0.0, 1.0))
    return np.asarray(profile, dtype=np.float32)


def _fitted(donor: Donor, mask: Mask, rng: np.random.Generator) -> FloatArray:
    """The donor's lesion, scaled and turned so that it covers the mask; (slices, rows, columns) of the mask."""
    _, rows, columns = np.nonzero(mask)
    planes, donor_rows, donor_columns = np.nonzero(donor.mask)
    height, width = np.ptp(donor_rows) + 1, np.ptp(donor_columns) + 1
    zoom = float(np.clip(max(height, width) / (max(np.ptp(rows), np.ptp(columns)) + 1), 0.4, 2.5)) * rng.uniform(
        0.8, 1.1
    )
    turn = rng.uniform(-np.pi, np.pi) if rng.random() < 0.5 else rng.uniform(-0.3, 0.3)
    matrix = zoom * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    centre = np.array([(columns.min() + columns.max()) / 2.0, (rows.min() + rows.max()) / 2.0])
    source = np.array([donor_columns.mean(), donor_rows.mean()])
    affine = np.hstack([matrix, (source - matrix @ centre)[:, np.newaxis]]).astype(np.float32)
    used = np.flatnonzero(mask.any(axis=(1, 2)))
    middle_target, middle_donor = int(used[len(used) // 2]), int(np.median(planes))
    flags = (cv2.INTER_CUBIC if rng.random() < 0.5 else cv2.INTER_LINEAR) | cv2.WARP_INVERSE_MAP
    result = np.empty(mask.shape, dtype=np.float32)
    for index in range(len(mask)):
        plane = donor.image[int(np.clip(middle_donor + index - middle_target, 0, len(donor.image) - 1))]
        result[index] = cv2.warpAffine(
            plane, affine, (mask.shape[2], mask.shape[1]), flags=flags, borderMode=cv2.BORDER_REFLECT
        )
    return result
