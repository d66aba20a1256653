"""What an attacker does after the edit to hide it: noise put back, a soft rim. All of it stays inside the mask."""

import cv2
import numpy as np

from models.tampering.material import FloatArray, Mask, Material, smooth_noise


def touch_up(
    genuine: FloatArray, edited: FloatArray, mask: Mask, material: Material, rng: np.random.Generator
) -> FloatArray:
    """Noise of matched strength on the edit: white, blurred to the scan's grain, or copied from the scan."""
    kind = int(rng.integers(3))
    if kind == 2:
        noise = _copied_residual(genuine, mask, rng)
    else:
        noise = material.noise * smooth_noise(edited.shape, float(rng.uniform(0.4, 0.8)) if kind else 0.0, rng)
    return (edited + float(rng.uniform(0.4, 1.1)) * noise).astype(np.float32)


def feather(genuine: FloatArray, edited: FloatArray, mask: Mask, width: float) -> FloatArray:
    """Fade the edit into the genuine image over `width` pixels inside the mask's rim."""
    if width <= 0:
        return edited
    depth = np.stack([cv2.distanceTransform(plane.astype(np.uint8), cv2.DIST_L2, 3) for plane in mask])
    weight = np.clip(depth / (width + 1.0), 0.0, 1.0)
    return (genuine * (1 - weight) + edited * weight).astype(np.float32)


def _copied_residual(genuine: FloatArray, mask: Mask, rng: np.random.Generator) -> FloatArray:
    """The scan's own high-pass residual, moved from a place beside the edit (as CT-GAN's authors did)."""
    _, rows, columns = np.nonzero(mask)
    down = int(np.ptp(rows) + 1) * (1 if rng.random() < 0.5 else -1)
    across = int(np.ptp(columns) + 1) * int(rng.integers(-1, 2))
    residual = np.stack([plane - cv2.GaussianBlur(plane, (0, 0), 1.2) for plane in genuine])
    limit = 4.0 * max(float(np.median(np.abs(residual))) * 1.5, 1e-6)
    return np.roll(np.clip(residual, -limit, limit), (down, across), axis=(1, 2))
