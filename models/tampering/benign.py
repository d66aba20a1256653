"""What happens to honest images on their way: applied to genuine and edited alike, with the same random choices.

A detector that is not shown these learns the pipeline instead of the tampering.
"""

# ruff: noqa: ARG001  every step maker has the same signature

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from models.tampering.material import FloatArray, Mask, Material

Step = Callable[[FloatArray], FloatArray]


@dataclass(frozen=True)
class Pipeline:
    """A fixed list of steps: the same choices for every image that it is given."""

    steps: tuple[Step, ...]
    zoom: float = 1.0

    def __call__(self, slab: FloatArray) -> FloatArray:
        """(slices, rows, columns) in stored units → the same, rounded to integers again; resized by `zoom`."""
        for step in self.steps:
            slab = step(slab)
        return np.rint(slab) if self.steps else slab

    def mask(self, mask: Mask) -> Mask:
        """The mask on the grid that the images have afterwards."""
        if self.zoom == 1.0:
            return mask
        return np.stack([_resized(plane.astype(np.uint8), self.zoom, cv2.INTER_NEAREST) > 0 for plane in mask])


def draw(material: Material, rng: np.random.Generator, *, untouched: float = 0.5, zoom: bool = True) -> Pipeline:
    """A random benign pipeline; with chance `untouched` none at all, as in a hospital's own archive."""
    if rng.random() < untouched:
        return Pipeline(())
    makers = [_denoise, _noise, _jpeg, _gain, _sharpen, *([_zoom] * 2 if zoom else [])]
    steps: list[Step] = []
    factor = 1.0
    for choice in rng.permutation(len(makers))[: int(rng.integers(1, 3))]:
        step, resize = makers[int(choice)](material, rng)
        if resize != 1.0 and factor != 1.0:
            continue
        factor *= resize
        steps.append(step)
    return Pipeline(tuple(steps), factor)


def _denoise(material: Material, rng: np.random.Generator) -> tuple[Step, float]:
    sigma = float(rng.uniform(0.3, 0.8))
    return partial(_planes, lambda plane: cv2.GaussianBlur(plane, (0, 0), sigma)), 1.0


def _noise(material: Material, rng: np.random.Generator) -> tuple[Step, float]:
    amount, seed = material.noise * float(rng.uniform(0.2, 1.0)), int(rng.integers(2**31))

    def rician(slab: FloatArray) -> FloatArray:
        own = np.random.default_rng(seed)
        real, imaginary = (amount * own.standard_normal(slab.shape, dtype=np.float32) for _ in range(2))
        signal = slab - material.offset
        noisy = np.sqrt((signal + real) ** 2 + imaginary**2) + material.offset
        return np.where(signal > 0, noisy, slab).astype(np.float32)

    return rician, 1.0


def _jpeg(material: Material, rng: np.random.Generator) -> tuple[Step, float]:
    quality = int(rng.integers(70, 98))
    return partial(_planes, lambda plane: _through_jpeg(plane, material, quality)), 1.0


def _through_jpeg(plane: FloatArray, material: Material, quality: int) -> FloatArray:
    span = 1.6 * material.scale
    grey = np.clip((plane - material.offset) / span * 255.0, 0, 255).astype(np.uint8)
    _, encoded = cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = np.asarray(cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE), dtype=np.float32)
    return np.asarray(decoded / 255.0 * span + material.offset, dtype=np.float32)


def _gain(material: Material, rng: np.random.Generator) -> tuple[Step, float]:
    gamma, gain = float(rng.uniform(0.8, 1.25)), float(rng.uniform(0.6, 1.4))
    coarse = bool(rng.random() < 0.5)  # 8-bit windowing

    def window(slab: FloatArray) -> FloatArray:
        scaled = np.clip((slab - material.offset) / (1.6 * material.scale), 0, 1) ** gamma
        if coarse:
            scaled = np.rint(scaled * 255.0) / 255.0
        return np.asarray(scaled * (1.6 * material.scale * gain) + material.offset, dtype=np.float32)

    return window, 1.0


def _sharpen(material: Material, rng: np.random.Generator) -> tuple[Step, float]:
    amount = float(rng.uniform(0.2, 0.7))
    return partial(_planes, lambda plane: plane + amount * (plane - cv2.GaussianBlur(plane, (0, 0), 1.0))), 1.0


def _zoom(material: Material, rng: np.random.Generator) -> tuple[Step, float]:
    factor = float(rng.uniform(0.8, 1.25))
    interpolation = cv2.INTER_CUBIC if rng.random() < 0.5 else cv2.INTER_LINEAR
    return partial(_planes, lambda plane: _resized(plane, factor, interpolation)), factor


def _resized(plane: NDArray[Any], factor: float, interpolation: int) -> NDArray[Any]:
    size = (max(2, round(plane.shape[1] * factor)), max(2, round(plane.shape[0] * factor)))
    return np.asarray(cv2.resize(plane, size, interpolation=interpolation))


def _planes(step: Callable[[FloatArray], Any], slab: FloatArray) -> FloatArray:
    return np.asarray([step(plane) for plane in slab], dtype=np.float32)
