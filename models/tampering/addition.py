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
