"""What a scanner and its software do to an image before anyone can edit it, drawn at random: many scanners out of few.

MR scanners sample a part of k-space and fill the rest with zeros, so that what is stored is often interpolated; they
filter, correct the geometry and even out the brightness. A detector that has not met this takes every smooth image for
an edited one. The steps are those of `benign`, and happen to genuine and edited twin alike, before the edit.
"""

# ruff: noqa: ARG001  every maker of a step has the same signature

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from models.tampering import resynthesis
from models.tampering.benign import JPEG, Pipeline, Step, resized
from models.tampering.material import FloatArray, Mask, Material, slow_field

_RIM = 0.12  # of a side: reflected around a slab, so that its borders do not ring


def zoom(rng: np.random.Generator) -> float:
    """How much finer than the sampled grid the stored one is; scanners mostly offer none, and about twice."""
    chance = rng.random()
    if chance < 0.4:
        return 1.0
    return float(rng.uniform(1.0, 1.4)) if chance < 0.6 else float(rng.uniform(1.4, 2.3))


def draw(material: Material, rng: np.random.Generator, factor: float) -> Pipeline:
    """A scanner that stores its images `factor` times finer than the slab that it is given."""
    chosen: list[Step] = []
    for chance, maker in _BEFORE:
        if rng.random() < chance:
            chosen.append(maker(material, rng))
    if factor > 1.0 and rng.random() < 0.3:
        chosen.append(_interpolated(material, rng, factor))
    elif factor > 1.0 or rng.random() < 0.5:
        chosen.append(_sampled(material, rng, factor))
    for chance, maker in _AFTER:
        if rng.random() < chance:
            chosen.append(maker(material, rng))
    return Pipeline(tuple(chosen))


def _sampled(material: Material, rng: np.random.Generator, factor: float) -> Step:
    """K-space: a part of it with noise in it, a window over it, zeros around it; the magnitude is what is seen."""
    kept = tuple(float(rng.uniform(0.6, 1.0)) if rng.random() < 0.5 else 1.0 for _ in range(2))
    window, sharp = int(rng.integers(4)), float(rng.uniform(0.2, 0.9))
    is_ellipse, is_magnitude = bool(rng.random() < 0.35), bool(rng.random() < 0.8)
    amount = material.noise * (float(rng.uniform(0.0, 1.5)) if rng.random() < 0.6 else 0.0)
    seed = int(rng.integers(2**31))

    def scan(slab: FloatArray) -> FloatArray:
        own = np.random.default_rng(seed)
        return np.stack([_through_k_space(plane - material.offset, own) for plane in slab]) + np.float32(
            material.offset
        )

    def _through_k_space(plane: FloatArray, own: np.random.Generator) -> FloatArray:
        rows, columns = plane.shape
        rim = tuple(round(_RIM * side) for side in plane.shape)
        wide = np.pad(plane, [(side, side) for side in rim], mode="reflect")
        finer = (
            round(rows * factor) + 2 * round(rim[0] * factor),
            round(columns * factor) + 2 * round(rim[1] * factor),
        )
        space = np.fft.fftshift(np.fft.fft2(wide))
        if amount:
            space += (
                amount * np.sqrt(wide.size) * (own.standard_normal(space.shape) + 1j * own.standard_normal(space.shape))
            )
        space *= _weights(wide.shape, kept, window, sharp, is_ellipse=is_ellipse)
        filled = np.zeros(finer, np.complex128)
        corner = [fine // 2 - side // 2 for fine, side in zip(finer, wide.shape, strict=True)]
        filled[corner[0] : corner[0] + wide.shape[0], corner[1] : corner[1] + wide.shape[1]] = space
        image = np.fft.ifft2(np.fft.ifftshift(filled)) * (filled.size / wide.size)
        seen = np.abs(image) if is_magnitude else image.real
        top, left = round(rim[0] * factor), round(rim[1] * factor)
        size = round(rows * factor), round(columns * factor)
        return np.asarray(seen[top : top + size[0], left : left + size[1]], dtype=np.float32)

    def finer_mask(mask: Mask) -> Mask:
        if factor == 1.0:
            return mask
        return np.stack([_resized_mask(plane, factor) for plane in mask])

    return Step(scan, finer_mask, factor)


def _interpolated(material: Material, rng: np.random.Generator, factor: float) -> Step:
    """A finer grid by a kernel in the image, as software without k-space makes it."""
    way = int(rng.choice([cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4]))
    return Step(
        lambda slab: np.stack([resized(plane, factor, way) for plane in slab]).astype(np.float32),
        lambda mask: np.stack([_resized_mask(plane, factor) for plane in mask]),
        factor,
    )


def _resized_mask(plane: Mask, factor: float) -> Mask:
    return np.asarray(resized(plane.astype(np.uint8), factor, cv2.INTER_NEAREST) > 0)


def _weights(
    shape: tuple[int, ...], kept: tuple[float, ...], window: int, sharp: float, *, is_ellipse: bool
) -> FloatArray:
    """How much of each spatial frequency is kept: 0 outside of what was sampled, below 1 under a window."""
    down, across = (
        np.abs(np.arange(side) - side // 2) / (side / 2 * share) for side, share in zip(shape, kept, strict=True)
    )
    inside = (down <= 1)[:, np.newaxis] & (across <= 1)
    radius = np.sqrt(down[:, np.newaxis] ** 2 + across**2)
    if is_ellipse:
        inside &= radius <= 1
    if window == 0:  # none
        weights = np.ones(shape)
    elif window == 1:  # a cosine over the outer part (Tukey)
        weights = 0.5 * (1 + np.cos(np.pi * np.clip((radius - sharp) / (1 - sharp), 0, 1)))
    elif window == 2:  # Hamming, more or less of it
        weights = (1 - 0.46 * sharp) + 0.46 * sharp * np.cos(np.pi * np.clip(radius, 0, 1))
    else:  # Gaussian
        weights = np.exp(-((radius * (0.4 + sharp)) ** 2))
    return np.asarray(inside * weights, dtype=np.float32)


def _thinned(material: Material, rng: np.random.Generator) -> Step:
    """Slices nearer to each other than those of the slab: neighbours between them and the middle one."""
    share = float(rng.uniform(0.2, 0.8))

    def nearer(slab: FloatArray) -> FloatArray:
        middle = slab[len(slab) // 2]
        return np.stack([plane * np.float32(1 - share) + middle * np.float32(share) for plane in slab])

    return Step(nearer)


def _warped(material: Material, rng: np.random.Generator) -> Step:
    """A correction of the gradients' non-linearity, or of motion: a slow warp with cubic interpolation."""
    reach, seed = float(rng.uniform(0.3, 2.5)), int(rng.integers(2**31))
    how = cv2.INTER_CUBIC if rng.random() < 0.6 else cv2.INTER_LINEAR

    def moved(planes: NDArray[Any], interpolation: int) -> NDArray[Any]:
        field = reach * slow_field((2, *planes.shape[1:]), 4, np.random.default_rng(seed))
        rows, columns = np.indices(planes.shape[1:], dtype=np.float32)
        return np.stack(
            [
                cv2.remap(plane, columns + field[1], rows + field[0], interpolation, borderMode=cv2.BORDER_REFLECT)
                for plane in planes
            ]
        )

    return Step(
        lambda slab: np.asarray(moved(slab, how), np.float32),
        lambda mask: np.asarray(moved(mask.astype(np.uint8), cv2.INTER_NEAREST) > 0),
    )


def _shaded(material: Material, rng: np.random.Generator) -> Step:
    """A coil's brightness, or what its correction leaves."""
    depth, seed = float(rng.uniform(0.05, 0.3)), int(rng.integers(2**31))

    def shade(slab: FloatArray) -> FloatArray:
        field = slow_field((1, *slab.shape[1:]), 3, np.random.default_rng(seed))[0]
        return np.asarray((slab - material.offset) * np.exp(depth * field) + material.offset, dtype=np.float32)

    return Step(shade)


def _grainy(material: Material, rng: np.random.Generator) -> Step:
    """Noise of another colour that is stronger in some places, as parallel imaging and CT kernels leave it."""
    amount, seed = material.noise * float(rng.uniform(0.3, 2.0)), int(rng.integers(2**31))
    sigma, is_sharp, uneven = float(rng.uniform(0.0, 1.2)), bool(rng.random() < 0.4), float(rng.uniform(0.0, 0.7))

    def grain(slab: FloatArray) -> FloatArray:
        own = np.random.default_rng(seed)
        noise = own.standard_normal(slab.shape, dtype=np.float32)
        if sigma > 0.3:
            soft = np.stack([cv2.GaussianBlur(plane, (0, 0), sigma) for plane in noise])
            noise = noise - soft if is_sharp else soft
        noise /= max(float(noise.std()), 1e-6)
        where = np.exp(uneven * slow_field((1, *slab.shape[1:]), 4, own)[0])
        tissue = np.clip((slab - material.offset) / (0.1 * material.scale), 0, 1)  # air stays empty
        return np.asarray(slab + amount * where * noise * tissue, dtype=np.float32)

    return Step(grain)


def _filtered(material: Material, rng: np.random.Generator) -> Step:
    """A vendor's filter: smoothing that spares edges, sharpening, or both."""
    reach, strength = float(rng.uniform(0.6, 1.6)), float(rng.uniform(1.0, 4.0)) * material.noise
    smooth, amount = bool(rng.random() < 0.65), float(rng.uniform(0.2, 0.9))
    sharpen = bool(rng.random() < 0.5) or not smooth

    def one(plane: FloatArray) -> NDArray[Any]:
        kept: NDArray[Any] = cv2.bilateralFilter(plane, 5, strength, reach) if smooth else plane
        return kept + amount * (kept - cv2.GaussianBlur(kept, (0, 0), reach)) if sharpen else kept

    return Step(lambda slab: np.asarray([one(plane) for plane in slab], dtype=np.float32))


def _remade(material: Material, rng: np.random.Generator) -> Step:
    """The whole image made anew as an editor makes a region, more or less: learned reconstruction, denoising.

    What marks an edit is that a region differs from the image around it, and not that an image shows the traces of a
    decoder: those of some scanners do.
    """
    makers = (resynthesis.bottleneck, resynthesis.bottleneck, resynthesis.smoothed, resynthesis.medianed)
    maker, seed = makers[int(rng.integers(len(makers)))], int(rng.integers(2**31))
    share = np.float32(rng.uniform(0.3, 1.0))

    def remake(slab: FloatArray) -> FloatArray:
        everywhere = np.ones(slab.shape, dtype=np.bool_)
        made = maker(slab, everywhere, material, np.random.default_rng(seed))
        return np.asarray(share * made + (1 - share) * slab, dtype=np.float32)

    return Step(remake)


def _stored(material: Material, rng: np.random.Generator) -> Step:
    """As many grey levels to the tissue as the scanner stores: from about 100 to 4,000."""
    levels = float(np.exp(rng.uniform(np.log(100.0), np.log(4000.0))))

    def store(slab: FloatArray) -> FloatArray:
        return np.asarray(np.rint((slab - material.offset) * (levels / material.scale)), dtype=np.float32)

    return Step(store)


Maker = Callable[[Material, np.random.Generator], Step]
_BEFORE: tuple[tuple[float, Maker], ...] = ((0.3, _thinned), (0.15, _shaded))
_AFTER: tuple[tuple[float, Maker], ...] = (
    (0.25, _remade),
    (0.2, _warped),
    (0.25, _grainy),
    (0.25, _filtered),
    (0.08, JPEG),
    (0.6, _stored),
)
