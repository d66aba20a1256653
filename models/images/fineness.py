"""Whether an image has the detail that its matrix promises, and the same image at the matrix that its detail fills.

Scanners interpolate, and so do generators that decode from few numbers: both leave the outer spectrum empty. A network
that was trained on few interpolated images takes that alone for the trace of a generator; what it says of the image at
its own detail does not rest on it.
"""

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

LEAST = -20.0  # dB; genuine images as scanners and archives keep them reach from -25 to -3
_STEPS = (0.8, 0.66, 0.5, 0.4)  # of the matrix
_SMALLEST = 64  # pixels a side: below, the networks see nothing


def fineness(image: NDArray[np.generic]) -> float:
    """How much weaker the fine detail of a grey image (rows, columns) is than the coarse, in dB.

    Mean power of the frequencies above 0.3 cycles a pixel on either axis, over that between 0.1 and 0.2.
    """
    plane = np.asarray(image, np.float64)
    window = np.outer(*map(np.hanning, plane.shape))
    power = np.abs(np.fft.fft2((plane - plane.mean()) * window)) ** 2
    highest = np.maximum.outer(*(np.abs(np.fft.fftfreq(side)) for side in plane.shape))
    fine, coarse = (float(power[chosen].mean()) for chosen in (highest > 0.3, (highest > 0.1) & (highest < 0.2)))
    return 10.0 * float(np.log10((fine + 1e-9) / (coarse + 1e-9)))


def coarser(image: NDArray[np.generic]) -> Iterator[NDArray[np.generic]]:
    """The image on ever smaller matrices, until its detail fills one; nothing where it fills its own."""
    if min(image.shape) < _SMALLEST or fineness(image) >= LEAST:
        return
    for step in _STEPS:
        size = round(image.shape[1] * step), round(image.shape[0] * step)
        if min(size) < _SMALLEST:
            return
        smaller = cv2.resize(np.asarray(image, np.float32), size, interpolation=cv2.INTER_AREA)
        if np.issubdtype(image.dtype, np.integer):
            smaller = np.rint(smaller)
        yield smaller.astype(image.dtype)
        if fineness(smaller) >= LEAST:
            return
