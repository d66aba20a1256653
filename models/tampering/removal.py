"""Families that take a lesion away: the hole is filled with what healthy tissue could look like."""

# ruff: noqa: ARG001  every family has the same signature

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

from models.tampering import fills
from models.tampering.material import FloatArray, Mask, Material, slow_field, smooth_noise


def telea(slab: FloatArray, mask: Mask, material: Material, rng: np.random.Generator) -> FloatArray:
    radius = float(rng.uniform(2, 6))
    return _planewise(slab, mask, lambda plane, hole: fills.inpaint(plane, hole, radius, cv2.INPAINT_TELEA))


def navier_stokes(slab: FloatArray, mask: Mask, material: Material, rng: np.random.Generator) -> FloatArray:
    radius = float(rng.uniform(2, 6))
    return _planewise(slab, mask, lambda plane, hole: fills.inpaint(plane, hole, radius, cv2.INPAINT_NS))


def smooth_fill(slab: FloatArray, mask: Mask, material: Material, rng: np.random.Generator) -> FloatArray:
    """A harmonic fill with a little invented tissue texture."""
    filled = _planewise(
        slab, mask, lambda plane, hole: fills.harmonic(np.asarray(cv2.blur(plane, (3, 3)), np.float32), hole)
    )
    texture = (
        smooth_noise(slab.shape, float(rng.uniform(0.8, 3.0)), rng) * material.noise * float(rng.uniform(0.0, 2.0))
    )
    return np.where(mask, filled + texture, slab).astype(np.float32)


def crossfade(slab: FloatArray, mask: Mask, material: Material, rng: np.random.Generator) -> FloatArray:
    """CT-GAN's removal (Mirsky 2019): a Gaussian cross-fade into other tissue, here of the same scan."""
    other = _shifted(slab, mask, rng)
    other = np.stack([cv2.GaussianBlur(plane, (0, 0), float(rng.uniform(0.6, 2.0))) for plane in other])
    weight = mask.astype(np.float32)
    depth = np.stack([cv2.distanceTransform(plane.astype(np.uint8), cv2.DIST_L2, 3) for plane in mask])
    reach = max(float(depth.max()), 1.0) * float(rng.uniform(0.3, 0.8))
    weight = weight * (1.0 - np.exp(-0.5 * (depth / reach) ** 2 * 4.0)).astype(np.float32)
    return (slab * (1 - weight) + other * weight).astype(np.float32)


def copy_move(slab: FloatArray, mask: Mask, material: Material, rng: np.random.Generator) -> FloatArray:
    """Exemplar fill: tissue from elsewhere in the scan, often mirrored or resampled, matched in level."""
    return _planewise(slab, mask, fills.membrane_clone, _shifted(slab, mask, rng))


def exemplar(slab: FloatArray, mask: Mask, material: Material, rng: np.random.Generator) -> FloatArray:
    """A patchwork: several shifted copies, chosen pixel by pixel by a slow random field."""
    first, second = _shifted(slab, mask, rng), _shifted(slab, mask, rng)
    choice = 1.0 / (1.0 + np.exp(-4.0 * slow_field(slab.shape, 8, rng)))
    return _planewise(slab, mask, fills.membrane_clone, (first * choice + second * (1 - choice)).astype(np.float32))


def _planewise(slab: FloatArray, mask: Mask, fill: Callable[..., Any], *more: FloatArray) -> FloatArray:
    result = slab.copy()
    for index in np.flatnonzero(mask.any(axis=(1, 2))):
        result[index] = fill(slab[index], *(other[index] for other in more), mask[index])
    return result


def _shifted(slab: FloatArray, mask: Mask, rng: np.random.Generator) -> FloatArray:
    """The slab moved so that other tissue lies over the mask; sometimes mirrored, turned or resized."""
    _, rows, columns = np.nonzero(mask)
    size = max(rows.max() - rows.min(), columns.max() - columns.min()) + 1
    centre = np.array([(columns.min() + columns.max()) / 2.0, (rows.min() + rows.max()) / 2.0])
    best, best_cost = slab, np.inf
    for _ in range(6):
        angle, distance = rng.uniform(0, 2 * np.pi), size * rng.uniform(0.8, 2.0)
        target = centre + distance * np.array([np.cos(angle), np.sin(angle)])
        limit = np.array([slab.shape[2] - 1.0, slab.shape[1] - 1.0])
        target = np.clip(target, np.minimum(size / 2, limit / 2), np.maximum(limit - size / 2, limit / 2))
        if rng.random() < 0.4:
            matrix = np.array([[1.0, 0.0], [0.0, 1.0]])
            target = np.rint(target - centre) + centre
        else:
            turn, zoom = rng.uniform(-0.5, 0.5), rng.uniform(0.8, 1.2)
            matrix = zoom * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        if rng.random() < 0.3:
            matrix = matrix @ np.diag([-1.0, 1.0])
        affine = np.hstack([matrix, (target - matrix @ centre)[:, np.newaxis]]).astype(np.float32)
        interpolation = cv2.INTER_CUBIC if rng.random() < 0.5 else cv2.INTER_LINEAR
        moved = np.asarray(
            [
                cv2.warpAffine(
                    plane,
                    affine,
                    (slab.shape[2], slab.shape[1]),
                    flags=interpolation | cv2.WARP_INVERSE_MAP,
                    borderMode=cv2.BORDER_REFLECT,
                )
                for plane in slab
            ],
            dtype=np.float32,
        )
        rim = np.stack([cv2.dilate(plane.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0 for plane in mask]) & ~mask
        cost = float(np.abs(moved - slab)[rim].mean()) if rim.any() else 0.0
        if cost < best_cost:
            best, best_cost = moved, cost
    return best
