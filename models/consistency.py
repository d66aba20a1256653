"""Whether a region is of one piece with the volume around it: evidence that needs no training, and no scanner known.

Each measure is taken inside the region and at many other places of the same volume; what is said is by how many robust
standard deviations the region differs from them. docs/consistency.md says what each is worth.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from models import inputs
from models.band import Support, support
from models.matched import Mask, Matched, Surroundings

FloatArray = NDArray[np.float32]

_BLUR = 2.5  # pixels over which energy is taken
_MOST_SLICES = 28  # that are looked at, the region's own and those around them
_MOST_DEEP = 12  # slices of the region; a deeper one is judged by its middle
_LARGEST = 640  # rows and columns around the region that are looked at
_CONTROLS, _FEWEST = 48, 12
_TRIES = 600
_IN_TISSUE = 0.85  # share of a control region
_RIM = 2  # pixels inside and outside of the border
_RING = 8  # pixels around the region that it is compared with
_CLIP = 12.0
_LEAST = 20  # pixels; a smaller region says nothing
_EVEN = 0.05  # spread of controls that is always allowed for


@dataclass(frozen=True)
class Consistency:
    """How a region differs from like places of its volume; finite, 0: no evidence, 12: as much as can be said.

    `jitter`: how its fine grain changes from slice to slice, beside the ring around it, more or less than elsewhere.
    `edges`: fine energy along its border. `noise`: the level of its grain beside the ring around it, more or less than
    elsewhere. `band`: energy outside the support of the volume's k-space; 0 where the volume leaves none of it empty.
    """

    jitter: float = 0.0
    edges: float = 0.0
    noise: float = 0.0
    band: float = 0.0


def evidence(volume: NDArray[Any], region: Mask, spacing: tuple[float, float, float] | None) -> Consistency:  # noqa: ARG001  measures in mm may come
    """What speaks for an edit of `region`, a mask of the volume's shape (slices, rows, columns).

    `spacing` in mm, None where unknown. About a second for a matrix of 256×256.
    """
    whole = inputs.as_volume(volume)
    if region.shape != whole.shape or int(region.sum()) < _LEAST or len(whole) < 3:
        return Consistency()
    offset, scale = inputs.intensity_range(whole)
    outside = support(whole, offset, scale)
    part = _around(region)
    slab, inside = whole[part], region[part]
    noise = float(np.median([inputs.noise_level(plane, offset, scale) for plane in slab]))
    noise = max(noise, 1e-3 * scale)
    surroundings = Surroundings.of(slab, offset, scale, noise)
    wide = np.stack([cv2.dilate(plane.astype(np.uint8), np.ones((13, 13), np.uint8)) > 0 for plane in inside])
    among = surroundings.tissue & ~wide
    if among.sum() < 2000:
        return Consistency()
    matched = Matched(surroundings, among)
    maps = {name: matched.deviation(values) for name, values in _maps(slab, outside, noise).items()}
    return _compared(maps, inside, wide, surroundings.tissue)


def _around(region: Mask) -> tuple[slice, slice, slice]:
    """The slices and the part of the matrix that a region is compared within."""
    spans = []
    for axis, most in ((0, _MOST_SLICES), (1, _LARGEST), (2, _LARGEST)):
        used = np.flatnonzero(region.any(axis=tuple({0, 1, 2} - {axis})))
        middle, length = int(used[0] + used[-1]) // 2, region.shape[axis]
        first = max(0, min(middle - most // 2, length - most))
        spans.append(slice(first, min(length, first + most)))
    return spans[0], spans[1], spans[2]


def _maps(slab: FloatArray, outside: Support | None, noise: float) -> dict[str, FloatArray]:
    """Local energies as logarithms, each (slices, rows, columns)."""
    fine, finest = (_filtered(slab / np.float32(noise), name) for name in ("square_3x3", "square_5x5"))
    below, above = np.concatenate([fine[:1], fine[:-1]]), np.concatenate([fine[1:], fine[-1:]])
    found = {"noise": _energy(fine), "edges": _energy(finest), "jitter": _energy(below - 2.0 * fine + above)}
    if outside is not None and outside.is_partial:
        residual = np.stack([outside.residual(plane) for plane in slab])
        level = float(np.median(np.abs(residual)))
        if level > 0:
            found["band"] = _energy(residual / level)
    return found


def _filtered(slab: FloatArray, name: str) -> FloatArray:
    return np.stack([cv2.filter2D(plane, cv2.CV_32F, inputs.FILTERS[name]) for plane in slab]).astype(np.float32)


def _energy(residual: FloatArray) -> FloatArray:
    return np.stack([np.log(cv2.GaussianBlur(plane * plane, (0, 0), _BLUR) + 1e-6) for plane in residual])


def _compared(maps: dict[str, FloatArray], region: Mask, wide: Mask, tissue: Mask) -> Consistency:
    """The region against the same shape elsewhere in the slab."""
    used = np.flatnonzero(region.any(axis=(1, 2)))
    middle = int(used[0] + used[-1] + 1) // 2
    used = used[np.abs(used - middle) <= _MOST_DEEP // 2]
    if not len(used):
        return Consistency()
    rows, columns = (np.flatnonzero(region[used].any(axis=axes)) for axes in ((0, 2), (0, 1)))
    margin = _RING + _RIM
    shape = np.pad(
        region[used[0] : used[-1] + 1, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1],
        ((0, 0), (margin, margin), (margin, margin)),
    )
    padded = ((0, 0), (margin, margin), (margin, margin))
    maps = {name: np.pad(values, padded) for name, values in maps.items()}
    tissue, wide = np.pad(tissue, padded), np.pad(wide, padded)
    figures = _Figures(shape)
    here = figures.at(maps, tissue, (int(used[0]), int(rows[0]), int(columns[0])))
    rng = np.random.default_rng(20261120)
    room = [length - size for length, size in zip(tissue.shape, shape.shape, strict=True)]
    controls: list[dict[str, float]] = []
    for _ in range(_TRIES):
        corner = tuple(int(rng.integers(0, most + 1)) for most in room)
        place = figures.box(corner)
        if tissue[place][shape].mean() >= _IN_TISSUE and not wide[place][shape].any():
            controls.append(figures.at(maps, tissue, corner))
            if len(controls) == _CONTROLS:
                break
    if len(controls) < _FEWEST:
        return Consistency()
    found = {}
    for name, value in here.items():
        others = np.array([control[name] for control in controls])
        centre = float(np.median(others))
        spread = 1.4826 * float(np.median(np.abs(others - centre))) + _EVEN
        found[name] = float(np.clip((value - centre) / spread, -_CLIP, _CLIP))
    return Consistency(
        jitter=abs(found["jitter"]),
        edges=max(0.0, found["edges"]),
        noise=abs(found["noise"]),
        band=max(0.0, found.get("band", 0.0)),
    )


class _Figures:
    """The measures of one shape, wherever it is put."""

    def __init__(self, shape: Mask) -> None:
        planes = [plane.astype(np.uint8) for plane in shape]
        small, large = (
            np.ones((2 * _RIM + 1, 2 * _RIM + 1), np.uint8),
            cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * _RING + 1, 2 * _RING + 1)),
        )
        grown = np.stack([cv2.dilate(plane, small) > 0 for plane in planes])
        core = np.stack([cv2.erode(plane, small) > 0 for plane in planes])
        self._shape, self._rim = shape, grown & ~core
        self._ring = np.stack([cv2.dilate(plane, large) > 0 for plane in planes]) & ~grown

    def box(self, corner: tuple[int, ...]) -> tuple[slice, slice, slice]:
        spans = [slice(first, first + size) for first, size in zip(corner, self._shape.shape, strict=True)]
        return spans[0], spans[1], spans[2]

    def at(self, maps: dict[str, FloatArray], tissue: Mask, corner: tuple[int, ...]) -> dict[str, float]:
        place = self.box(corner)
        ring = self._ring & tissue[place]
        found = {}
        for name, values in maps.items():
            part = values[place]
            if name == "edges":
                found[name] = float(part[self._rim].mean())
                continue
            found[name] = float(part[self._shape].mean())
            if name != "band" and ring.sum() >= _LEAST:
                found[name] -= float(part[ring].mean())
        return found
