"""What happens to an image on its way, genuine or not: recompression, resizing, blur, noise; to measure robustness."""

from collections.abc import Callable
from functools import partial
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[Any]
Treatment = Callable[[Pixels, np.random.Generator], Pixels]

UNTREATED: Final = "as saved"


def _untreated(pixels: Pixels, rng: np.random.Generator) -> Pixels:  # noqa: ARG001
    return pixels


def _jpeg(pixels: Pixels, rng: np.random.Generator, *, quality: int) -> Pixels:  # noqa: ARG001
    done, stream = cv2.imencode(".jpg", _eight_bits(pixels), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise ValueError(f"an image of {pixels.shape} cannot be written as JPEG")
    return np.asarray(cv2.imdecode(stream, cv2.IMREAD_GRAYSCALE))


def _resized(pixels: Pixels, rng: np.random.Generator, *, factor: float) -> Pixels:  # noqa: ARG001
    way = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return _like(pixels, cv2.resize(pixels.astype(np.float32), None, fx=factor, fy=factor, interpolation=way))


def _blurred(pixels: Pixels, rng: np.random.Generator, *, sigma: float) -> Pixels:  # noqa: ARG001
    return _like(pixels, cv2.GaussianBlur(pixels.astype(np.float32), (0, 0), sigma))


def _noisy(pixels: Pixels, rng: np.random.Generator, *, share: float) -> Pixels:
    """Gaussian noise with a deviation of this share of the image's range."""
    low, high = np.percentile(pixels, (0.5, 99.5))
    noise = rng.normal(0, share * max(float(high - low), 1.0), pixels.shape)
    return _like(pixels, pixels.astype(np.float32) + noise)


TREATMENTS: Final[dict[str, Treatment]] = {
    UNTREATED: _untreated,
    "JPEG 95": partial(_jpeg, quality=95),
    "JPEG 90": partial(_jpeg, quality=90),
    "JPEG 80": partial(_jpeg, quality=80),
    "JPEG 70": partial(_jpeg, quality=70),
    "resized to 0.8": partial(_resized, factor=0.8),
    "resized to 1.2": partial(_resized, factor=1.2),
    "blurred, σ 1 pixel": partial(_blurred, sigma=1.0),
    "noise, σ 1 % of range": partial(_noisy, share=0.01),
    "noise, σ 3 % of range": partial(_noisy, share=0.03),
}


def _eight_bits(pixels: Pixels) -> NDArray[np.uint8]:
    if pixels.dtype == np.uint8:
        return np.asarray(pixels)
    low, high = np.percentile(pixels, (0.5, 99.5))
    scaled = (pixels.astype(np.float32) - low) / max(float(high - low), 1e-9) * 255
    return np.asarray(np.clip(np.rint(scaled), 0, 255), dtype=np.uint8)


def _like(before: Pixels, after: Pixels) -> Pixels:
    """Values after, rounded and clipped to what the stored integers can hold."""
    if before.dtype.kind not in "ui":
        return after.astype(before.dtype)
    limits = np.iinfo(before.dtype)
    return np.asarray(np.clip(np.rint(after), limits.min, limits.max).astype(before.dtype))
