"""What happens to honest images on their way: applied to genuine and edited alike, with the same random choices.

A detector that is not shown these learns the pipeline instead of the tampering. Lossless recompression and the header
half of an anonymiser change no pixel, so that there is nothing to show.
"""

# ruff: noqa: ARG001  every maker of a step has the same signature

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from models.tampering.material import FloatArray, Mask, Material

Planes = NDArray[Any]  # (slices, rows, columns): images or masks


def _unmoved(mask: Mask) -> Mask:
    return mask


@dataclass(frozen=True)
class Step:
    """One thing that happens to a slab; `mask` does the same to a mask, `zoom` is how much larger it becomes."""

    image: Callable[[FloatArray], FloatArray]
    mask: Callable[[Mask], Mask] = _unmoved
    zoom: float = 1.0


@dataclass(frozen=True)
class Pipeline:
    """A fixed list of steps: the same choices for every image that it is given."""

    steps: tuple[Step, ...]

    @property
    def zoom(self) -> float:
        return float(np.prod([step.zoom for step in self.steps]))

    def __call__(self, slab: FloatArray) -> FloatArray:
        """(slices, rows, columns) in stored units → the same, rounded to integers again; of another size, perhaps."""
        for step in self.steps:
            slab = step.image(slab)
        return np.rint(slab) if self.steps else slab

    def mask(self, mask: Mask) -> Mask:
        """The mask on the grid that the images have afterwards."""
        for step in self.steps:
            mask = step.mask(mask)
        return mask


Maker = Callable[[Material, np.random.Generator], Step]


def draw(material: Material, rng: np.random.Generator, *, untouched: float = 0.5, zoom: bool = True) -> Pipeline:
    """A random benign pipeline; with chance `untouched` none at all, as in a hospital's own archive.

    Without `zoom` the grid stays as it is. At most one step changes the grid.
    """
    if rng.random() < untouched:
        return Pipeline(())
    makers = [*IN_PLACE.values(), *(MOVING.values() if zoom else [])]
    steps: list[Step] = []
    moved = False
    for choice in rng.permutation(len(makers))[: int(rng.integers(1, 3))]:
        step = makers[int(choice)](material, rng)
        moves = step.mask is not _unmoved
        if moves and moved:
            continue
        moved = moved or moves
        steps.append(step)
    return Pipeline(tuple(steps))


def _denoise(material: Material, rng: np.random.Generator) -> Step:
    sigma = float(rng.uniform(0.3, 0.8))
    return Step(partial(_planes, lambda plane: cv2.GaussianBlur(plane, (0, 0), sigma)))


def _noise(material: Material, rng: np.random.Generator) -> Step:
    amount, seed = material.noise * float(rng.uniform(0.2, 1.0)), int(rng.integers(2**31))

    def rician(slab: FloatArray) -> FloatArray:
        own = np.random.default_rng(seed)
        real, imaginary = (amount * own.standard_normal(slab.shape, dtype=np.float32) for _ in range(2))
        signal = slab - material.offset
        noisy = np.sqrt((signal + real) ** 2 + imaginary**2) + material.offset
        return np.where(signal > 0, noisy, slab).astype(np.float32)

    return Step(rician)


def _jpeg(material: Material, rng: np.random.Generator) -> Step:
    quality = int(rng.integers(70, 98))
    return Step(partial(_planes, lambda plane: _through_jpeg(plane, material, quality)))


def _through_jpeg(plane: FloatArray, material: Material, quality: int) -> FloatArray:
    span = 1.6 * material.scale
    grey = np.clip((plane - material.offset) / span * 255.0, 0, 255).astype(np.uint8)
    _, encoded = cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = np.asarray(cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE), dtype=np.float32)
    return np.asarray(decoded / 255.0 * span + material.offset, dtype=np.float32)


def _jpeg2000(material: Material, rng: np.random.Generator) -> Step:
    """Lossy JPEG 2000 of all bits, as archives keep CT and MR: 4 to 16 times smaller."""
    ratio = float(rng.uniform(4.0, 16.0))
    return Step(partial(_planes, lambda plane: _through_jpeg2000(plane, ratio)))


def _through_jpeg2000(plane: FloatArray, ratio: float) -> FloatArray:
    from openjpeg import utils  # loaded where it is used: training alone compresses

    low = float(plane.min())
    cells = np.clip(np.rint(plane - low), 0, 65535).astype(np.uint16)
    bits = max(8, int(cells.max()).bit_length())
    encoded = utils.encode_array(cells, bits_stored=bits, compression_ratios=[ratio * 16 / bits])
    return np.asarray(utils.decode(encoded), dtype=np.float32) + low


def _gain(material: Material, rng: np.random.Generator) -> Step:
    gamma, gain = float(rng.uniform(0.8, 1.25)), float(rng.uniform(0.6, 1.4))
    coarse = bool(rng.random() < 0.5)  # 8-bit windowing

    def window(slab: FloatArray) -> FloatArray:
        scaled = np.clip((slab - material.offset) / (1.6 * material.scale), 0, 1) ** gamma
        if coarse:
            scaled = np.rint(scaled * 255.0) / 255.0
        return np.asarray(scaled * (1.6 * material.scale * gain) + material.offset, dtype=np.float32)

    return Step(window)


def _sharpen(material: Material, rng: np.random.Generator) -> Step:
    amount = float(rng.uniform(0.2, 0.7))
    return Step(partial(_planes, lambda plane: plane + amount * (plane - cv2.GaussianBlur(plane, (0, 0), 1.0))))


def _overlay(material: Material, rng: np.random.Generator) -> Step:
    """Burned-in letters and a ruler near the borders."""
    value = material.offset + material.scale * float(rng.uniform(0.9, 1.5))
    words = "".join(str(rng.choice(list("RLAPHF 0123456789"))) for _ in range(int(rng.integers(1, 9))))
    down, across = bool(rng.random() < 0.5), bool(rng.random() < 0.5)
    ruler = bool(rng.random() < 0.5)

    def burn(plane: FloatArray) -> FloatArray:
        rows, columns = plane.shape
        drawn = np.zeros(plane.shape, np.uint8)
        size = max(0.25, columns / 640)
        corner = (int(columns * (0.75 if across else 0.02)), int(rows * (0.97 if down else 0.06)))
        cv2.putText(drawn, words, corner, cv2.FONT_HERSHEY_SIMPLEX, size, 255, 1)
        if ruler:
            for row in range(rows // 4, 3 * rows // 4, max(4, rows // 20)):
                drawn[row, columns - columns // 32 : columns] = 255
        return np.where(drawn > 0, np.float32(value), plane)

    return Step(partial(_planes, burn))


def _anonymise(material: Material, rng: np.random.Generator) -> Step:
    """What an anonymiser does to pixels: a strip at the border, where a name may stand, becomes empty."""
    share, side = float(rng.uniform(0.03, 0.08)), int(rng.integers(4))

    def blank(plane: FloatArray) -> FloatArray:
        turned = np.rot90(plane, side).copy()
        turned[: max(1, round(share * len(turned)))] = material.offset
        return np.rot90(turned, -side)

    return Step(partial(_planes, blank))


def _zoom(material: Material, rng: np.random.Generator) -> Step:
    factor = float(rng.uniform(0.8, 1.25))
    interpolation = cv2.INTER_CUBIC if rng.random() < 0.5 else cv2.INTER_LINEAR
    return Step(
        partial(_planes, lambda plane: resized(plane, factor, interpolation)),
        lambda mask: np.stack([resized(plane.astype(np.uint8), factor, cv2.INTER_NEAREST) > 0 for plane in mask]),
        factor,
    )


def _crop(material: Material, rng: np.random.Generator) -> Step:
    """Up to 6 % of each side cut away."""
    shares = rng.uniform(0.0, 0.06, size=4)

    def cut(planes: Planes) -> Planes:
        rows, columns = planes.shape[1:]
        top, bottom, left, right = (shares * (rows, rows, columns, columns)).astype(int)
        return np.ascontiguousarray(planes[:, top : rows - bottom, left : columns - right])

    return Step(cut, cut)


def _pad(material: Material, rng: np.random.Generator) -> Step:
    """Up to 8 % of air added at each side, as a square matrix or another field of view needs it."""
    shares = rng.uniform(0.0, 0.08, size=4)

    def widen(value: float, planes: Planes) -> Planes:
        rows, columns = planes.shape[1:]
        top, bottom, left, right = (shares * (rows, rows, columns, columns)).astype(int)
        return np.pad(planes, ((0, 0), (top, bottom), (left, right)), constant_values=value)

    return Step(partial(widen, material.offset), partial(widen, False))


JPEG: Maker = _jpeg
IN_PLACE: dict[str, Maker] = {
    "denoise": _denoise,
    "noise": _noise,
    "jpeg": JPEG,
    "jpeg2000": _jpeg2000,
    "window": _gain,
    "sharpen": _sharpen,
    "overlay": _overlay,
    "anonymise": _anonymise,
}
MOVING: dict[str, Maker] = {
    "zoom": _zoom,
    "zoom_again": _zoom,
    "crop": _crop,
    "pad": _pad,
}  # resampling is the commonest


def resized(plane: NDArray[Any], factor: float, interpolation: int) -> NDArray[Any]:
    """A plane (rows, columns) with `factor` times as many of both."""
    size = (max(2, round(plane.shape[1] * factor)), max(2, round(plane.shape[0] * factor)))
    return np.asarray(cv2.resize(plane, size, interpolation=interpolation))


def _planes(step: Callable[[FloatArray], Any], slab: FloatArray) -> FloatArray:
    return np.asarray([step(plane) for plane in slab], dtype=np.float32)
