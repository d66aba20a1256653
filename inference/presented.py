"""Images as a viewer would show them first: 8 bit, in their own window or in the usual one of their modality.

Whole-image networks were trained on such images. Values come rescaled, brighter is more (`inference.decoding` mirrors
MONOCHROME1, PS3.3 C.7.6.3.1.2), so that a window of such an instance is mirrored, too.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from inference.instances import Frame, Instance

MOST_SLICES = 16  # of a stack: a generator leaves its trace in every slice, and a CT of a thousand stays cheap
_EDGE = 6  # the first and last sixth of a stack show little more than air
# Hounsfield units; both CT sources of the networks show lungs black, so the soft tissue goes first.
_CT_WINDOWS = ((40.0, 400.0), (-600.0, 1500.0))
_TAILS = (0.5, 99.5)  # per cent; scanners' brightest pixels are vessels and artefacts
_SHOWN = 0.02  # share of pixels that a window has to show between black and white

Grey = NDArray[np.uint8]


def chosen(count: int, most: int = MOST_SLICES) -> tuple[int, ...]:
    """Places of at most `most` of `count` slices, evenly spaced over the stack without its outermost slices."""
    edge = count // _EDGE
    inside = count - 2 * edge
    if inside <= most:
        return tuple(range(edge, count - edge))
    return tuple(int(place) for place in np.linspace(edge, count - edge - 1, most).round())


def presented(image: NDArray[np.float32], instance: Instance, frame: Frame) -> Grey:
    """One slice (rows, columns) in rescaled units as 8-bit grey."""
    return _between(*_ends(image, instance, frame), image)


def stretched(image: NDArray[np.float32]) -> Grey:
    """One image (rows, columns) of unknown units as 8-bit grey: between the tails of its own values."""
    return _between(*_tails(image), image)


def _between(low: float, high: float, image: NDArray[np.float32]) -> Grey:
    return np.asarray(np.rint(np.clip((image - low) * (255.0 / max(high - low, 1e-6)), 0, 255)), np.uint8)


def _ends(image: NDArray[np.float32], instance: Instance, frame: Frame) -> tuple[float, float]:
    """The values that become black and white: the instance's window, the modality's, or those of the pixels."""
    own = _own_window(instance, frame)
    usual = [_window(centre, width) for centre, width in _CT_WINDOWS] if instance.modality == "CT" else []
    for ends in (*([own] if own is not None else []), *usual):
        if _shows(image, ends):
            return ends
    return _tails(image)


def _tails(image: NDArray[np.float32]) -> tuple[float, float]:
    low, high = (float(value) for value in np.percentile(_thinned(image), _TAILS))
    return (low, high) if high > low else (float(image.min()), float(image.max()))


def _own_window(instance: Instance, frame: Frame) -> tuple[float, float] | None:
    if frame.window is None:
        return None
    low, high = _window(*frame.window)
    if instance.photometric != "MONOCHROME1":
        return low, high
    _, bits, _, signed = instance.bits
    mirror = (-1 if signed else (1 << bits) - 1) * frame.slope + 2 * frame.intercept
    return mirror - high, mirror - low


def _window(centre: float, width: float) -> tuple[float, float]:
    return centre - width / 2, centre + width / 2


def _shows(image: NDArray[np.float32], ends: Sequence[float]) -> bool:
    """Whether a window shows anything: some headers carry one of another image."""
    seen = _thinned(image)
    return float(np.count_nonzero((seen > ends[0]) & (seen < ends[1]))) >= _SHOWN * seen.size


def _thinned(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Enough pixels for a percentile; a radiograph has tens of millions."""
    step = max(1, max(image.shape) // 512)
    return image[::step, ::step]
