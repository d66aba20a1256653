"""Energy where a series has none: MR images are mostly interpolated, so that the outer part of their k-space is empty.

Scanners fill a rectangle, an ellipse or a square of k-space and pad the rest with zeros before they transform it; CT
kernels fade in the same way. An edit that is made on the finished grid, and its seam, fill the whole of it. A filter
that divides by the series' own power spectrum (the locally most powerful test for added white energy) shows them.
"""

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]

TILE = 64  # pixels a side of the windows that a spectrum is taken from
_TILES = 400
_FEWEST = 8
_FLOOR = 3.0  # percentile of the spectrum that stands for its empty part
_NEAR = 4.0  # times the floor: still empty (6 dB)
_LEAST_SHARE = 0.04  # of all frequencies
_FILLED = 85.0  # percentile of the spectrum that is surely filled, even where three quarters are empty
_LEAST_DEPTH = 14.0  # dB between the two; where noise fills all of k-space they are 3 to 6 dB apart
_HIGHEST = 1e5  # times the floor: stronger frequencies are all suppressed alike
_FOREGROUND = 0.12


@dataclass(frozen=True)
class Support:
    """What part of k-space a series leaves empty, and the filter that passes it.

    `share` of all frequencies is empty; they lie `depth` dB below those that are filled. `kernel` (63, 63).
    """

    share: float
    depth: float
    kernel: FloatArray = field(repr=False)

    @property
    def is_partial(self) -> bool:
        """Whether enough of k-space is empty to look for energy there."""
        return self.share >= _LEAST_SHARE and self.depth >= _LEAST_DEPTH

    def residual(self, plane: FloatArray) -> FloatArray:
        """What a slice holds in the empty part, (rows, columns), in units of its own."""
        return np.asarray(cv2.filter2D(plane, cv2.CV_32F, self.kernel, borderType=cv2.BORDER_REFLECT), np.float32)


def support(volume: FloatArray, offset: float, scale: float) -> Support | None:
    """The support of a series (slices, rows, columns) of tissue `scale` above `offset`; None where too little tissue.

    The median over windows in tissue all over the series: an edit in some of them does not move it.
    """
    windows = _windows(volume, offset, scale)
    if len(windows) < _FEWEST:
        return None
    power = np.median(windows, axis=0)
    floor = max(float(np.percentile(power, _FLOOR)), 1e-12)
    response = floor / np.clip(power, floor, floor * _HIGHEST)
    response[0, 0] = 0.0
    kernel = np.fft.fftshift(np.fft.irfft2(response))
    fade = np.sqrt(np.hanning(TILE + 2)[1:-1])
    kernel = (kernel * np.outer(fade, fade))[1:, 1:]
    kernel -= kernel.mean()
    return Support(
        share=float((power < _NEAR * floor).mean()),
        depth=float(10 * np.log10(np.percentile(power, _FILLED) / floor)),
        kernel=np.ascontiguousarray(kernel, dtype=np.float32),
    )


def _windows(volume: FloatArray, offset: float, scale: float) -> NDArray[np.float32]:
    """Power spectra of up to `_TILES` windows full of tissue, evenly taken."""
    step, (slices, rows, columns) = TILE // 2, volume.shape
    inside = volume > offset + _FOREGROUND * scale
    places = [
        (index, row, column)
        for index in range(slices)
        for row in range(0, rows - TILE + 1, step)
        for column in range(0, columns - TILE + 1, step)
        if inside[index, row : row + TILE : 4, column : column + TILE : 4].mean() > 0.9
    ]
    taper = np.hanning(TILE + 1)[:-1].astype(np.float32)
    taper = np.outer(taper, taper)
    spectra = []
    for index, row, column in places[:: max(1, -(-len(places) // _TILES))]:
        window = volume[index, row : row + TILE, column : column + TILE]
        spectra.append(np.abs(np.fft.rfft2((window - window.mean()) * taper)) ** 2)
    return np.asarray(spectra, dtype=np.float32)
