"""What an edit is made of: the tissue around it, the noise of the scan, and lesions of other patients."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from models import inputs

FloatArray = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Donor:
    """A lesion of another patient: `image` (slices, rows, columns) scaled to tissue 0..1, `mask` of the same shape."""

    image: FloatArray
    mask: Mask


@dataclass(frozen=True)
class Material:
    """What a family may know of the scan: `offset`, `scale` and `noise` of its stored values, donors, spacing in mm."""

    offset: float
    scale: float
    noise: float
    donors: Sequence[Donor] = field(default=())
    spacing: tuple[float, float, float] | None = None

    @classmethod
    def of(
        cls, volume: FloatArray, donors: Sequence[Donor] = (), spacing: tuple[float, float, float] | None = None
    ) -> "Material":
        offset, scale = inputs.intensity_range(volume)
        noise = inputs.noise_level(volume[len(volume) // 2], offset, scale)
        return cls(offset=offset, scale=scale, noise=max(noise, 1e-3 * scale), donors=donors, spacing=spacing)


def smooth_noise(shape: tuple[int, ...], sigma: float, rng: np.random.Generator) -> FloatArray:
    """Gaussian noise (slices, rows, columns) of unit variance, blurred in the plane by `sigma` pixels."""
    noise = rng.standard_normal(shape, dtype=np.float32)
    if sigma > 0.2:
        noise = np.stack([cv2.GaussianBlur(plane, (0, 0), sigma) for plane in noise])
    return np.asarray(noise / max(float(noise.std()), 1e-6), dtype=np.float32)


def slow_field(shape: tuple[int, int, int], cells: int, rng: np.random.Generator) -> FloatArray:
    """A smooth random field (slices, rows, columns) of about unit variance that changes over `cells` cells a side."""
    ends = rng.standard_normal((2, cells, cells)).astype(np.float32)
    planes = [
        cv2.resize(ends[0] * (1 - share) + ends[1] * share, (shape[2], shape[1]), interpolation=cv2.INTER_CUBIC)
        for share in np.linspace(0.0, 0.5, shape[0])
    ]
    return np.stack(planes).astype(np.float32)
