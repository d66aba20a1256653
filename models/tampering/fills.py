"""Ways to fill a hole from its surroundings; each works on one plane (rows, columns)."""

import cv2
import numpy as np

from models.tampering.material import FloatArray, Mask

_CROSS = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], dtype=np.float32) / 4.0


def harmonic(plane: FloatArray, hole: Mask, rounds: int = 60) -> FloatArray:
    """The membrane that is stretched over the hole from its rim: Laplace's equation, coarse to fine."""
    known = (~hole).astype(np.float32)
    filled = _pyramid(plane * known, known)
    result = np.where(hole, filled, plane).astype(np.float32)
    for _ in range(rounds):
        relaxed = cv2.filter2D(result, cv2.CV_32F, _CROSS, borderType=cv2.BORDER_REPLICATE)
        np.copyto(result, relaxed, where=hole)
    return result


def _pyramid(weighted: FloatArray, weight: FloatArray) -> FloatArray:
    rows, columns = weighted.shape
    if min(rows, columns) <= 2 or weight.min() > 0:
        mean = float(weighted.sum()) / max(float(weight.sum()), 1e-6)
        return np.where(weight > 1e-6, weighted / np.maximum(weight, 1e-6), mean).astype(np.float32)
    half = ((columns + 1) // 2, (rows + 1) // 2)
    coarse = _pyramid(
        np.asarray(cv2.resize(weighted, half, interpolation=cv2.INTER_AREA), dtype=np.float32),
        np.asarray(cv2.resize(weight, half, interpolation=cv2.INTER_AREA), dtype=np.float32),
    )
    spread = cv2.resize(coarse, (columns, rows), interpolation=cv2.INTER_LINEAR)
    share = np.minimum(weight, 1.0)
    return np.asarray(weighted / np.maximum(weight, 1e-6) * share + spread * (1 - share), dtype=np.float32)


def inpaint(plane: FloatArray, hole: Mask, radius: float, method: int) -> FloatArray:
    """OpenCV's inpainting (Telea 2004, or Navier-Stokes: Bertalmío 2001)."""
    return np.asarray(cv2.inpaint(plane, hole.astype(np.uint8), radius, method), dtype=np.float32)


def membrane_clone(plane: FloatArray, donor: FloatArray, hole: Mask) -> FloatArray:
    """Poisson cloning (Pérez 2003): the donor's gradients, the target's values on the rim."""
    difference = plane - donor
    return np.where(hole, donor + harmonic(difference, hole), plane).astype(np.float32)
