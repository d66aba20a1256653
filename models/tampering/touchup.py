"""What an attacker does after the edit to hide it: noise put back, a smoothing, a soft rim; all inside the mask.

The noise has the scan's strength, and as often as not its spectrum too: blurred to its grain, shaped like its
residual, or copied from it; drawn for each slice, or through the slices.
"""

# ruff: noqa: ARG001  every kind of noise has the same signature

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from models.tampering.material import FloatArray, Mask, Material, smooth_noise

_WHITENESS = 1.2  # pixels; what is smoother than this is anatomy and not noise
_SPECTRUM = 32  # pixels a side of the window that a spectrum is taken from


def touch_up(
    genuine: FloatArray, edited: FloatArray, mask: Mask, material: Material, rng: np.random.Generator
) -> FloatArray:
    """Noise on the edit, of a random kind and of about the strength that it lacks; sometimes a smoothing before."""
    noise = _KINDS[int(rng.integers(len(_KINDS)))](genuine, mask, material, rng)
    if rng.random() < 0.25:
        noise = _through_planes(noise, rng)
    if rng.random() < 0.3:
        edited = smoothed(edited, float(rng.uniform(0.4, 0.9)))
    amount = float(rng.uniform(0.4, 1.1))
    if rng.random() < 0.5:
        amount = _lacking(edited, mask, material)
    return (edited + amount * noise).astype(np.float32)


def smoothed(slab: FloatArray, sigma: float) -> FloatArray:
    """Each plane blurred by `sigma` pixels: seams and a generator's pattern go first."""
    return np.stack([cv2.GaussianBlur(plane, (0, 0), sigma) for plane in slab])


def feather(genuine: FloatArray, edited: FloatArray, mask: Mask, width: float) -> FloatArray:
    """Fade the edit into the genuine image over `width` pixels inside the mask's rim."""
    if width <= 0:
        return edited
    depth = np.stack([cv2.distanceTransform(plane.astype(np.uint8), cv2.DIST_L2, 3) for plane in mask])
    weight = np.clip(depth / (width + 1.0), 0.0, 1.0)
    return (genuine * (1 - weight) + edited * weight).astype(np.float32)


def _white(genuine: FloatArray, mask: Mask, material: Material, rng: np.random.Generator) -> FloatArray:
    return material.noise * smooth_noise(mask.shape, 0.0, rng)


def _blurred(genuine: FloatArray, mask: Mask, material: Material, rng: np.random.Generator) -> FloatArray:
    return material.noise * smooth_noise(mask.shape, float(rng.uniform(0.4, 0.8)), rng)


def copied_residual(genuine: FloatArray, mask: Mask, material: Material, rng: np.random.Generator) -> FloatArray:
    """The scan's own high-pass residual, moved from a place beside the edit (as CT-GAN's authors did)."""
    _, rows, columns = np.nonzero(mask)
    down = int(np.ptp(rows) + 1) * (1 if rng.random() < 0.5 else -1)
    across = int(np.ptp(columns) + 1) * int(rng.integers(-1, 2))
    return np.roll(_residual(genuine), (down, across), axis=(1, 2))


def kernel_shaped(genuine: FloatArray, mask: Mask, material: Material, rng: np.random.Generator) -> FloatArray:
    """New noise with the spectrum of the scan's residual around the edit, as a reconstruction kernel shapes it."""
    plane = int(np.flatnonzero(mask.any(axis=(1, 2)))[0])
    residual = _residual(genuine[plane : plane + 1])[0]
    around = residual - residual.mean()
    tile = _SPECTRUM if min(around.shape) >= _SPECTRUM else min(around.shape)
    power = np.zeros((tile, tile))
    for row in range(0, around.shape[0] - tile + 1, max(1, tile // 2)):
        for column in range(0, around.shape[1] - tile + 1, max(1, tile // 2)):
            part = (slice(row, row + tile), slice(column, column + tile))
            if mask[plane][part].mean() < 0.3:
                power += np.abs(np.fft.fft2(around[part] * np.outer(np.hanning(tile), np.hanning(tile)))) ** 2
    kernel = np.fft.fftshift(np.fft.ifft2(np.sqrt(power)).real).astype(np.float32)
    shaped = np.stack([cv2.filter2D(each, cv2.CV_32F, kernel) for each in smooth_noise(mask.shape, 0.0, rng)])
    return np.asarray(material.noise * shaped / max(float(shaped.std()), 1e-9), dtype=np.float32)


_KINDS: tuple[Callable[[FloatArray, Mask, Material, np.random.Generator], FloatArray], ...] = (
    _white,
    _blurred,
    copied_residual,
    kernel_shaped,
)


def _residual(slab: FloatArray) -> FloatArray:
    """What a plane holds beyond its smooth part; the edges of the anatomy are cut off."""
    residual = np.stack([plane - cv2.GaussianBlur(plane, (0, 0), _WHITENESS) for plane in slab])
    limit = 4.0 * max(float(np.median(np.abs(residual))) * 1.5, 1e-6)
    return np.asarray(np.clip(residual, -limit, limit), dtype=np.float32)


def _through_planes(noise: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Volumetric noise: neighbouring slices share a part of it, as they do after an interpolation through planes."""
    if len(noise) < 2:
        return noise
    share = float(rng.uniform(0.2, 0.45))
    beside: NDArray[np.float32] = (np.roll(noise, 1, axis=0) + np.roll(noise, -1, axis=0)) * share
    return np.asarray((noise + beside) / np.sqrt(1 + 2 * share**2), dtype=np.float32)


def _lacking(edited: FloatArray, mask: Mask, material: Material) -> float:
    """How much of the scan's noise, as a share, the edit does not have yet."""
    held = 1.4826 * float(np.median(np.abs(_residual(edited)[mask])))
    around = 1.4826 * float(np.median(np.abs(_residual(edited)[~mask]))) if (~mask).any() else material.noise
    missing = np.sqrt(max(0.0, around**2 - held**2))
    return float(np.clip(missing / max(material.noise, 1e-6), 0.15, 1.5))
