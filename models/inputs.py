"""The one place that turns a volume into input channels, for training and for inference alike.

A network that sees only grey values learns the scanner; what carries over to a scanner never seen are high-pass
residuals divided by the slice's own noise level (filters: Fridrich & Kodovsky 2012, "Rich models for steganalysis").
"""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from models.errors import UnusableVolume

FloatArray = NDArray[np.float32]

_SRM_5X5 = (
    np.array(
        [[-1, 2, -2, 2, -1], [2, -6, 8, -6, 2], [-2, 8, -12, 8, -2], [2, -6, 8, -6, 2], [-1, 2, -2, 2, -1]],
        dtype=np.float32,
    )
    / 12.0
)
FILTERS: dict[str, FloatArray] = {
    "across": np.array([[0, 0, 0], [0, -1, 1], [0, 0, 0]], dtype=np.float32),
    "down": np.array([[0, 0, 0], [0, -1, 0], [0, 1, 0]], dtype=np.float32),
    "across_second": np.array([[0, 0, 0], [1, -2, 1], [0, 0, 0]], dtype=np.float32) / 2.0,
    "down_second": np.array([[0, 1, 0], [0, -2, 0], [0, 1, 0]], dtype=np.float32) / 2.0,
    "square_3x3": np.array([[-1, 2, -1], [2, -4, 2], [-1, 2, -1]], dtype=np.float32) / 4.0,
    "square_5x5": _SRM_5X5,
}
CHANNELS = ("below", "centre", "above", *FILTERS, "noise_energy", "through_plane")
MULTIPLE = 16  # the network halves a slice four times

FOREGROUND = 0.12  # of the intensity scale: tissue, not air
_CLIP = 6.0  # noise levels; beyond it a residual is an edge, whatever its height
_ENOUGH = 256  # fewer foreground pixels than this say nothing about noise
_SAMPLE = 8192  # values that a median is taken from


def as_volume(volume: NDArray[Any]) -> FloatArray:
    """Make any real array a finite float32 volume (slices, rows, columns).

    A single slice becomes a volume of one. NaN becomes the smallest finite value, infinities the nearest extreme.
    Raises UnusableVolume when the array has other than 2 or 3 axes, or no pixel.
    """
    array = np.asarray(volume, dtype=np.float32)
    if array.ndim == 2:
        array = array[np.newaxis]
    if array.ndim != 3 or array.size == 0:
        raise UnusableVolume(f"a volume has the axes (slices, rows, columns) and at least one pixel, not {array.shape}")
    finite = np.isfinite(array)
    if not finite.all():
        low, high = (float(array[finite].min()), float(array[finite].max())) if finite.any() else (0.0, 0.0)
        array = np.nan_to_num(array, nan=low, posinf=high, neginf=low)
    return np.ascontiguousarray(array)


def intensity_range(volume: FloatArray) -> tuple[float, float]:
    """The offset and scale that bring tissue to about 0..1: (offset, scale > 0), robust against hot pixels."""
    step = max(1, int(np.cbrt(volume.size / 400_000)))
    values = volume[:: max(1, step // 2), ::step, ::step].ravel()
    offset = float(np.percentile(values, 0.5))
    foreground = values[values > values.mean()]
    scale = float(np.percentile(foreground, 95)) - offset if foreground.size else 0.0
    return offset, scale if scale > 1e-6 * max(1.0, abs(offset)) else 1.0


def noise_level(slice_: FloatArray, offset: float, scale: float) -> float:
    """The robust noise level of a slice in its own units: the median absolute 3×3 residual over tissue.

    Immerkær 1996; the factor makes it the standard deviation of white noise.
    """
    residual = np.abs(cv2.filter2D(slice_, cv2.CV_32F, FILTERS["square_3x3"]))
    return _typical(residual, slice_ > offset + FOREGROUND * scale) / (0.6745 * 1.5)


def tissue(volume: FloatArray) -> int:
    """How many voxels are tissue and not air."""
    offset, scale = intensity_range(volume)
    return sum(int(np.count_nonzero(slice_ > offset + FOREGROUND * scale)) for slice_ in volume)


def _typical(magnitudes: FloatArray, foreground: NDArray[np.bool_]) -> float:
    values = magnitudes[foreground]
    if values.size < _ENOUGH:
        values = magnitudes.ravel()
    return float(np.median(values[:: max(1, values.size // _SAMPLE)]))


def channels(
    volume: FloatArray,
    indices: Sequence[int] | None = None,
    *,
    intensity: tuple[float, float] | None = None,
) -> FloatArray:
    """Input channels of the slices `indices` (all by default), as CHANNELS: (slices, channels, rows, columns).

    `volume` comes from `as_volume`. At the ends, and for a single slice, the missing neighbour is the slice itself.
    `intensity` is (offset, scale) of the whole volume where `volume` is only a part of it.
    """
    offset, scale = intensity if intensity is not None else intensity_range(volume)
    wanted = range(len(volume)) if indices is None else indices
    _, rows, columns = volume.shape
    result = np.empty((len(wanted), len(CHANNELS), rows, columns), dtype=np.float32)
    for place, index in enumerate(wanted):
        neighbours = max(0, index - 1), index, min(len(volume) - 1, index + 1)
        below, centre, above = (volume[neighbour] - np.float32(offset) for neighbour in neighbours)
        foreground = centre > FOREGROUND * scale
        floor = 1e-3 * scale
        out = result[place]
        for channel, slice_ in enumerate((below, centre, above)):
            np.clip(slice_ / scale - 0.5, -1.0, 3.0, out=out[channel])
        for channel, kernel in enumerate(FILTERS.values(), start=3):
            _normalised(
                np.asarray(cv2.filter2D(centre, cv2.CV_32F, kernel), np.float32), foreground, floor, out[channel]
            )
        energy = cv2.blur(np.abs(out[7]), (7, 7))
        np.log(energy + 0.05, out=out[9])
        _normalised(below - 2.0 * centre + above, foreground, floor, out[10])
    return result


def _normalised(residual: FloatArray, foreground: NDArray[np.bool_], floor: float, out: FloatArray) -> None:
    level = max(_typical(np.abs(residual), foreground), floor)
    np.clip(residual / level, -_CLIP, _CLIP, out=out)
    out *= 0.5


def padding(rows: int, columns: int) -> tuple[int, int]:
    """How many rows and columns to add so that the network can halve the slice: (rows, columns)."""
    return -rows % MULTIPLE, -columns % MULTIPLE


def domain(volume: FloatArray, spacing: tuple[float, float, float] | None) -> dict[str, float]:
    """What kind of images these are, in numbers that can be compared with those a model was trained on.

    `relative_noise` is the median noise level of the slices with tissue, divided by the intensity scale; `smoothness`
    the ratio of the one-pixel to the 3×3 residual (white noise: about 1, interpolated or filtered images: more);
    quantiles are of the scaled grey values; `pixel_mm` and `slice_mm` are 0 where unknown.
    """
    offset, scale = intensity_range(volume)
    chosen = range(len(volume) // 5, max(len(volume) // 5 + 1, len(volume) - len(volume) // 5))
    noise, smooth = [], []
    for index in list(chosen)[:: max(1, len(chosen) // 12)]:
        slice_ = volume[index]
        foreground = slice_ > offset + FOREGROUND * scale
        square = _typical(np.abs(cv2.filter2D(slice_, cv2.CV_32F, FILTERS["square_3x3"])), foreground)
        across = _typical(np.abs(cv2.filter2D(slice_, cv2.CV_32F, FILTERS["across"])), foreground)
        noise.append(square / scale)
        smooth.append(across / max(square, 1e-6 * scale))
    step = max(1, int(np.cbrt(volume.size / 400_000)))
    levels = np.percentile((volume[:, ::step, ::step] - offset) / scale, (25, 50, 75, 99))
    return {
        "relative_noise": float(np.median(noise)),
        "smoothness": float(min(np.median(smooth), 1e3)),
        "quantile_25": float(levels[0]),
        "quantile_50": float(levels[1]),
        "quantile_75": float(levels[2]),
        "quantile_99": float(levels[3]),
        "rows": float(volume.shape[1]),
        "columns": float(volume.shape[2]),
        "pixel_mm": float(spacing[1]) if spacing else 0.0,
        "slice_mm": float(spacing[0]) if spacing else 0.0,
    }
