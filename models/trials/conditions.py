"""What may happen to an image between the attacker and us, each of a fixed strength: JPEG, another matrix, noise.

A condition is applied to the edited slices and to their genuine twins alike.
"""

from collections.abc import Callable
from functools import partial

import cv2
import numpy as np

from models.tampering.benign import resized
from models.tampering.material import FloatArray, Material
from models.trials.records import AS_STORED

Condition = Callable[[FloatArray, Material], FloatArray]


def _jpeg(slab: FloatArray, material: Material, *, quality: int) -> FloatArray:
    """Windowed to 8 bit, through JPEG, and back to stored units."""
    span = 1.6 * material.scale
    planes = []
    for plane in slab:
        grey = np.clip((plane - material.offset) / span * 255.0, 0, 255).astype(np.uint8)
        _, encoded = cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, quality])
        planes.append(np.asarray(cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE), np.float32) / 255.0 * span)
    return np.stack(planes) + np.float32(material.offset)


def _resample(slab: FloatArray, _: Material, *, factor: float) -> FloatArray:
    return np.stack([np.asarray(resized(plane, factor, cv2.INTER_CUBIC), np.float32) for plane in slab])


def _noise(slab: FloatArray, material: Material, *, amount: float) -> FloatArray:
    """Gaussian noise of `amount` times the scan's own; the same noise on every image of this shape."""
    noise = np.random.default_rng(2026).standard_normal(slab.shape, dtype=np.float32)
    return np.asarray(slab + np.float32(amount * material.noise) * noise, dtype=np.float32)


CONDITIONS: dict[str, tuple[Condition, float]] = {  # with the factor by which the matrix grows
    AS_STORED: (lambda slab, _: slab, 1.0),
    **{f"JPEG {quality}": (partial(_jpeg, quality=quality), 1.0) for quality in (95, 85, 75, 70)},
    **{f"resampled × {factor}": (partial(_resample, factor=factor), factor) for factor in (0.8, 0.9, 1.1, 1.2)},
    **{f"noise {amount} σ": (partial(_noise, amount=amount), 1.0) for amount in (0.25, 0.5, 1.0)},
}
