"""What each audit lets its classifier see of an image, as numbers."""

import zlib
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from models import inputs
from models.audits.classifier import Table
from models.tampering.material import FloatArray, Mask

_REACH = 12  # pixels around an edit that a JPEG block, a zoom or a blur after it may change
_BINS = 24
_LEAST = 400  # pixels outside the edit


def outside(plane: FloatArray, region: Mask) -> Table | None:
    """The pixels far from the edit: grey values, noise in every direction, traces of blocks; None of too few."""
    around = cv2.dilate(region.astype(np.uint8), np.ones((2 * _REACH + 1,) * 2, np.uint8)) > 0
    kept = ~around
    if kept.sum() < _LEAST:
        return None
    values = plane[kept]
    scale = max(float(values.std()), 1e-6)
    features = [*np.percentile(values, (1, 25, 50, 75, 99)) / scale, _levels(values), float((values % 2).mean())]
    inner = cv2.erode(kept.astype(np.uint8), np.ones((5, 5), np.uint8), borderValue=0) > 0
    for kernel in inputs.FILTERS.values():
        size = np.abs(cv2.filter2D(plane, cv2.CV_32F, kernel)[inner]) / scale
        if not size.size:
            return None
        features += [
            np.log(float(size.mean()) + 1e-6),
            np.log(float(np.median(size)) + 1e-6),
            float((size == 0).mean()),
        ]
    return np.array([*features, *_blocks(plane, kept, scale)], dtype=np.float64)


def surface(plane: FloatArray) -> Table:
    """What file, header and histogram tell: size compressed, range, depth, shares of grey values."""
    stored = np.clip(np.rint(plane), -(2**15), 2**16 - 1).astype(np.int32)
    low, high = int(stored.min()), int(stored.max())
    shares = np.histogram(stored, _BINS, (low, max(high, low + 1)))[0] / stored.size
    packed = len(zlib.compress(np.diff(stored, axis=1).astype("<i2").tobytes(), 1)) / stored.size
    return np.array(
        [
            np.log(packed),
            np.log1p(max(high, 0)),
            low,
            np.ceil(np.log2(high - low + 1)),
            _levels(stored),
            float((stored == low).mean()),
            float((stored == high).mean()),
            stored.mean() / max(high, 1),
            stored.std() / max(high, 1),
            *np.sqrt(shares),
        ],
        dtype=np.float64,
    )


def place(region: Mask, plane: FloatArray) -> Table | None:
    """Where in the head a region lies and how large it is; None where either cannot be said."""
    offset, scale = inputs.intensity_range(plane[np.newaxis])
    head = cv2.blur(plane, (5, 5)) > offset + 0.18 * scale
    rows, columns = np.nonzero(head)
    if len(rows) < _LEAST or not region.any():
        return None
    inside_rows, inside_columns = np.nonzero(region)
    spans = [(float(axis.mean()), float(axis.std())) for axis in (rows, columns)]
    at = [
        (float(part.mean()) - middle) / max(spread, 1.0)
        for part, (middle, spread) in zip((inside_rows, inside_columns), spans, strict=True)
    ]
    size = np.log(region.sum() / head.sum())
    shape = np.log((np.ptp(inside_rows) + 1) / (np.ptp(inside_columns) + 1))
    plain = np.array([size, at[0], abs(at[1]), np.hypot(at[0], at[1]), abs(shape)])
    return np.concatenate([plain, plain**2])


def _levels(values: NDArray[Any]) -> float:
    """How many different values there are, among as many as there could be."""
    return float(np.log(len(np.unique(values)) / values.size))


def _blocks(plane: FloatArray, kept: Mask, scale: float) -> list[float]:
    """Steps at each of eight phases of rows and columns, against all steps: what a block transform leaves."""
    found = []
    for axis in (0, 1):
        step = np.abs(np.diff(plane, axis=axis)) / scale
        both = kept[1:] & kept[:-1] if axis == 0 else kept[:, 1:] & kept[:, :-1]
        total = float(step[both].mean()) + 1e-6 if both.any() else 1.0
        phases = []
        for phase in range(8):
            part = (slice(phase, None, 8), slice(None)) if axis == 0 else (slice(None), slice(phase, None, 8))
            chosen = step[part][both[part]]
            phases.append(float(chosen.mean()) / total if chosen.size else 1.0)
        found += [max(phases), min(phases)]
    return found
