"""What is usual at a place like this one, in the same volume: the scanner and its noise cancel out.

How much energy a filter leaves depends on how dark a place is (the magnitude of a complex signal bends near zero) and
on how strong its structure is. Places are therefore sorted by both, and a value is compared with those of its own kind.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
Mask = NDArray[np.bool_]

_KINDS = 8  # of darkness, and of structure
_FEWEST = 100  # pixels of one kind; where there are fewer, all kinds stand for it
_NARROWEST = 0.3  # of the overall spread: no kind is known better than this
_CLIP = 8.0
_TISSUE = 0.18  # of the intensity scale


@dataclass(frozen=True)
class Surroundings:
    """How dark and how structured each pixel's surroundings are, and whether they are tissue.

    Each (slices, rows, columns).
    """

    darkness: FloatArray
    structure: FloatArray
    tissue: Mask

    @classmethod
    def of(cls, volume: FloatArray, offset: float, scale: float, noise: float) -> "Surroundings":
        dark, structured, tissue = [], [], []
        for plane in volume:
            smooth = cv2.GaussianBlur(plane, (0, 0), 1.0)
            dark.append(cv2.erode(smooth, np.ones((9, 9), np.uint8)))
            slope = cv2.Sobel(smooth, cv2.CV_32F, 1, 0) ** 2 + cv2.Sobel(smooth, cv2.CV_32F, 0, 1) ** 2
            structured.append(np.log(cv2.GaussianBlur(slope, (0, 0), 3.0) / noise**2 + 1e-2))
            tissue.append(cv2.blur(plane, (7, 7)) > offset + _TISSUE * scale)
        return cls(np.stack(dark), np.stack(structured).astype(np.float32), np.stack(tissue))


class Matched:
    """Kinds of places in a volume, by quantiles over `among` (slices, rows, columns), which holds tissue only."""

    def __init__(self, surroundings: Surroundings, among: Mask) -> None:
        self._among = among
        cuts = np.linspace(0, 1, _KINDS + 1)[1:-1]
        dark = np.searchsorted(np.quantile(surroundings.darkness[among], cuts), surroundings.darkness)
        structured = np.searchsorted(np.quantile(surroundings.structure[among], cuts), surroundings.structure)
        self._kind = (dark * _KINDS + structured).astype(np.int16)

    def deviation(self, values: FloatArray) -> FloatArray:
        """By how many robust standard deviations each value differs from those at places of its kind."""
        known, kinds = values[self._among], self._kind[self._among]
        middle, spread = _typical(known)
        order = np.argsort(kinds, kind="stable")
        parts = np.split(known[order], np.searchsorted(kinds[order], np.arange(1, _KINDS * _KINDS)))
        figures = [_typical(part) if len(part) >= _FEWEST else (middle, spread) for part in parts]
        middles, spreads = (np.array(each, np.float32) for each in zip(*figures, strict=True))
        spreads = np.maximum(spreads, np.float32(max(_NARROWEST * spread, 1e-6)))
        deviation = (values - middles[self._kind]) / spreads[self._kind]
        return np.asarray(np.clip(deviation, -_CLIP, _CLIP), np.float32)


def _typical(values: FloatArray) -> tuple[float, float]:
    middle = float(np.median(values))
    return middle, 1.4826 * float(np.median(np.abs(values - middle)))
