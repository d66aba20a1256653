"""Bodies drawn from formulas, and what a poor generator would make of them: for tests of whole-image networks."""

import cv2
import numpy as np
from numpy.typing import NDArray

from models.images.datasets import GenuineImage
from models.images.synthetic import SyntheticImage


def body(seed: int, side: int = 160, noise: float = 6.0) -> NDArray[np.uint8]:
    """A bright disc with structure in black air; each seed another one."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:side, 0:side] / side - 0.5
    inside = x**2 + y**2 < rng.uniform(0.12, 0.18)
    waves = 40 * np.sin(rng.uniform(8, 20) * x + rng.uniform(0, 6)) * np.cos(rng.uniform(8, 20) * y)
    values = np.where(inside, 120 + waves + rng.normal(0, noise, inside.shape), 0)
    return np.clip(values, 0, 255).astype(np.uint8)


def blurred(image: GenuineImage, kind: str) -> SyntheticImage:
    pixels = cv2.GaussianBlur(cv2.resize(np.asarray(image.pixels), (128, 128)), (0, 0), 1.5)
    return SyntheticImage(kind, image.organ, image.source, image.split, "", "1", np.asarray(pixels, dtype=np.uint8))
