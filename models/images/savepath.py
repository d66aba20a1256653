"""The one way on which genuine and synthetic images become files, with the same random choices for both.

Without it a network learns how files were written instead of who made the image: its size, window, depth, compression,
border, histogram, and how much noise a generator leaves out.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from models.images import inputs

FloatArray = NDArray[np.float32]
Step = Callable[[FloatArray], FloatArray]

_ALIKE = 0.25  # sides that differ by less are cropped to each other, others are resampled
_KNOTS = np.linspace(0, 1, 24)


@dataclass(frozen=True)
class SavePath:
    """Fixed choices: the same way for every image that it is given.

    Images go in as grey values from 0 to 1; what comes out is stored integers, 8 bit or up to 16.
    """

    steps: tuple[Step, ...]
    top: float = 255.0  # the brightest stored value
    names: tuple[str, ...] = field(default=(), compare=False)

    def __call__(self, image: FloatArray) -> NDArray[Any]:
        for step in self.steps:
            image = step(image)
        stored = np.rint(np.clip(image, 0.0, 1.0) * self.top)
        return np.asarray(stored, dtype=np.uint8 if self.top <= 255 else np.uint16)


def draw(rng: np.random.Generator, shape: tuple[int, ...], *, untouched: float = 0.4, resize: bool = True) -> SavePath:
    """A random way: size, tone, noise, blur, compression, border, depth; with chance `untouched` depth alone."""
    top = 255.0 if rng.random() < 0.6 else float(rng.choice((1023, 4095, 4095, 65535)) * rng.uniform(0.2, 1.0))
    if rng.random() < untouched:
        return SavePath((), top, ("as it is",))
    steps: list[tuple[str, Step]] = []
    if resize and rng.random() < 0.65:
        longest = max(shape)
        side = float(np.exp(rng.uniform(np.log(max(112, 0.6 * longest)), np.log(min(560, max(288, 1.6 * longest))))))
        steps.append(("size", _sized(side / longest, rng)))
    for name, chance, make in _BENIGN:
        if rng.random() < chance:
            steps.append((name, make(rng)))
    if rng.random() < 0.45:
        steps.append(("jpeg", partial(through_jpeg, quality=int(rng.integers(70, 96)))))
        if rng.random() < 0.3:
            steps.append(("size", _sized(float(rng.uniform(0.8, 1.25)), rng)))
    if rng.random() < 0.25:
        steps.append(("border", _border(rng)))
    return SavePath(tuple(step for _, step in steps), top, tuple(name for name, _ in steps))


def twins(
    synthetic: NDArray[Any],
    genuine: NDArray[Any],
    reference: NDArray[Any],
    rng: np.random.Generator,
    *,
    path: SavePath | None = None,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """A synthetic image and a genuine one, alike in all but who made them: (synthetic, genuine) as stored.

    `genuine` and `reference` are of the same organ and split. The genuine image is brought to the synthetic one's own
    resolution, both get the histogram of `reference`, files of both weigh about the same (one is smoothed or given
    noise until they do), and both go the same way.
    """
    made = grey(synthetic)
    taken, pattern = (_brought(grey(image), made.shape, rng) for image in (genuine, reference))
    made, taken = _cropped(made, taken)
    made, taken = _without_rim((made, taken), rng)
    made, taken = evened(matched(made, pattern), matched(taken, pattern), rng)
    tone = specified if rng.random() < 0.5 else matched  # again: noise and smoothing changed the shades
    made, taken = _clean_air((tone(made, pattern), tone(taken, pattern)), rng)
    if path is None:
        path = draw(rng, made.shape)
    return path(made), path(taken)


def grey(pixels: NDArray[Any]) -> FloatArray:
    """Grey values from 0 to 1; 8-bit images by their own scale, deeper ones over their range."""
    if pixels.dtype == np.uint8:
        return pixels.astype(np.float32) / 255.0
    image = pixels.astype(np.float32)
    low, high = float(image.min()), float(image.max())
    return np.asarray((image - low) / max(high - low, 1e-6), dtype=np.float32)


def specified(image: FloatArray, pattern: FloatArray) -> FloatArray:
    """Exact histogram specification: the values of `pattern`, in the order of `image` (Coltuc 2006).

    Ties of 8-bit values are broken by the mean around a pixel.
    """
    around = 0.7 * cv2.blur(image, (3, 3)) + 0.3 * cv2.blur(image, (5, 5))
    order = np.argsort(image + np.float32(1e-3) * around, axis=None)  # far less than a step of 8 bits
    values = np.sort(pattern, axis=None)
    places = (np.arange(image.size) * values.size) // image.size
    result = np.empty(image.size, dtype=np.float32)
    result[order] = values[places]
    return result.reshape(image.shape)


def matched(image: FloatArray, pattern: FloatArray) -> FloatArray:
    """Nearly the histogram of `pattern`, by one smooth tone curve as a window or gamma would have."""
    from_, to = np.quantile(image, _KNOTS), np.quantile(pattern, _KNOTS)
    from_ = from_ + np.arange(len(from_)) * 1e-6  # strictly rising
    return np.interp(image, from_, to).astype(np.float32)


def evened(one: FloatArray, other: FloatArray, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Files of about one size: the image that says less gets noise, or the one that says more is smoothed.

    Generators leave noise out; file size alone would tell. There are bounds to both: an image that is nothing but blur
    stays smaller than any of a scanner.
    """
    weights = weight(one), weight(other)
    if weights[0] > weights[1]:
        second, first = evened(other, one, rng)
        return first, second
    light, heavy = weights
    if heavy <= 1.02 * light:
        return one, other
    if rng.random() < 0.25:
        return _noised(one, heavy, rng), other
    return one, _smoothed(other, light)


def weight(image: FloatArray) -> int:
    """Bytes of an image from 0 to 1 as a JPEG of high quality: structure and noise together."""
    stored = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    return len(cv2.imencode(".jpg", stored, [cv2.IMWRITE_JPEG_QUALITY, 92])[1])


def _noised(image: FloatArray, wanted: float, rng: np.random.Generator) -> FloatArray:
    """Noise of a random colour over tissue, so much that `weight` becomes about what is wanted."""
    pattern = rng.standard_normal(image.shape, dtype=np.float32)
    if rng.random() < 0.6:
        pattern = np.asarray(cv2.GaussianBlur(pattern, (0, 0), float(rng.uniform(0.3, 0.7))), dtype=np.float32)
    offset, scale = inputs.intensity(image)
    tissue = cv2.GaussianBlur((image > offset + 0.08 * scale).astype(np.float32), (0, 0), 1.0)
    pattern = np.asarray(pattern * tissue, dtype=np.float32)
    return _weighing(lambda amount: np.asarray(image + amount * pattern, dtype=np.float32), wanted, 0.0, 0.06)


def _smoothed(image: FloatArray, wanted: float) -> FloatArray:
    """Blurred, so far that `weight` becomes about what is wanted."""

    def blurred(freely: float) -> FloatArray:
        return np.asarray(cv2.GaussianBlur(image, (0, 0), 1.35 - freely), dtype=np.float32)

    return _weighing(blurred, wanted, 0.0, 1.15)


def _weighing(make: Callable[[float], FloatArray], wanted: float, low: float, high: float) -> FloatArray:
    """What `make` makes of the number between `low` and `high` at which it weighs what is wanted; it rises."""
    for _ in range(5):
        middle = (low + high) / 2
        low, high = (middle, high) if weight(make(middle)) < wanted else (low, middle)
    return make((low + high) / 2)


def _brought(image: FloatArray, shape: tuple[int, ...], rng: np.random.Generator) -> FloatArray:
    """To the resolution of a synthetic image: its aspect cut out of the middle, then areas averaged (mostly)."""
    if all(abs(have - want) <= _ALIKE * want for have, want in zip(image.shape, shape, strict=True)):
        return image
    ratio = min(image.shape[0] / shape[0], image.shape[1] / shape[1])
    size = [min(round(ratio * want), have) for want, have in zip(shape, image.shape, strict=True)]
    top, left = ((have - cut) // 2 for have, cut in zip(image.shape, size, strict=True))
    part = image[top : top + size[0], left : left + size[1]]
    if ratio > 1 and rng.random() < 0.3:
        part = np.asarray(cv2.GaussianBlur(part, (0, 0), float(rng.uniform(0.3, 0.6)) * ratio), dtype=np.float32)
        way = int(rng.choice((cv2.INTER_LINEAR, cv2.INTER_CUBIC)))
    else:
        way = cv2.INTER_AREA if ratio > 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(part, (shape[1], shape[0]), interpolation=way), dtype=np.float32)


def _cropped(one: FloatArray, other: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Both cut to the sides that they share, from the middle."""
    size = [min(pair) for pair in zip(one.shape, other.shape, strict=True)]

    def cut(image: FloatArray) -> FloatArray:
        top, left = ((have - want) // 2 for have, want in zip(image.shape, size, strict=True))
        return np.ascontiguousarray(image[top : top + size[0], left : left + size[1]])

    return cut(one), cut(other)


def _without_rim(images: Sequence[FloatArray], rng: np.random.Generator) -> list[FloatArray]:
    """Without the outermost rows and columns, where a generator's padding shows."""
    side = min(images[0].shape)
    top, bottom, left, right = (int(n) for n in rng.integers(max(3, side // 40), max(5, side // 16) + 1, 4))
    return [np.ascontiguousarray(image[top:-bottom, left:-right]) for image in images]


def _clean_air(images: Sequence[FloatArray], rng: np.random.Generator) -> list[FloatArray]:
    """With the darkest shades as black: in the air around a body a scanner's file is often empty, a generator's not."""
    floor = float(rng.uniform(0.02, 0.07))
    return [np.asarray(np.clip((image - floor) / (1 - floor), 0, 1), dtype=np.float32) for image in images]


def through_jpeg(image: FloatArray, quality: int) -> FloatArray:
    stored = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    _, encoded = cv2.imencode(".jpg", stored, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE), dtype=np.float32) / np.float32(255)


def resized(image: FloatArray, factor: float, way: int) -> FloatArray:
    size = [max(96, round(side * factor)) for side in image.shape]
    return np.asarray(cv2.resize(image, (size[1], size[0]), interpolation=way), dtype=np.float32)


def _sized(factor: float, rng: np.random.Generator) -> Step:
    ways = (cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4) if factor > 1 else (cv2.INTER_AREA, cv2.INTER_LINEAR)
    return partial(resized, factor=factor, way=int(rng.choice(ways)))


def _gamma(rng: np.random.Generator) -> Step:
    exponent, gain = float(rng.uniform(0.75, 1.35)), float(rng.uniform(0.8, 1.1))
    return lambda image: np.asarray(np.clip(image, 0, 1) ** exponent * gain, dtype=np.float32)


def _window(rng: np.random.Generator) -> Step:
    low, high = float(rng.uniform(0, 0.03)), float(rng.uniform(0.85, 1.0))
    return lambda image: np.asarray(np.clip((image - low) / (high - low), 0, 1), dtype=np.float32)


def _blur(rng: np.random.Generator) -> Step:
    across, down = rng.uniform(0.3, 0.9, 2) if rng.random() < 0.4 else [rng.uniform(0.3, 0.9)] * 2
    return lambda image: np.asarray(cv2.GaussianBlur(image, (0, 0), float(across), sigmaY=float(down)), np.float32)


def _noise(rng: np.random.Generator) -> Step:
    """Rician, as magnitude images have; often correlated, as interpolation by the scanner leaves it."""
    amount, seed = float(np.exp(rng.uniform(np.log(0.002), np.log(0.03)))), int(rng.integers(2**31))
    blur = float(rng.uniform(0.3, 0.8)) if rng.random() < 0.4 else 0.0

    def noisy(image: FloatArray) -> FloatArray:
        own = np.random.default_rng(seed)
        real, imaginary = (amount * own.standard_normal(image.shape, dtype=np.float32) for _ in range(2))
        if blur:
            real, imaginary = (
                np.asarray(cv2.GaussianBlur(part, (0, 0), blur), dtype=np.float32) for part in (real, imaginary)
            )
        return np.where(image > 0.01, np.sqrt((image + real) ** 2 + imaginary**2), image).astype(np.float32)

    return noisy


def _sharpen(rng: np.random.Generator) -> Step:
    amount = float(rng.uniform(0.2, 0.9))
    return lambda image: np.asarray(image + amount * (image - cv2.GaussianBlur(image, (0, 0), 1.0)), np.float32)


def _shading(rng: np.random.Generator) -> Step:
    """A coil's sensitivity: a smooth field of ±15 %."""
    coarse = (1 + 0.15 * rng.uniform(-1, 1, (4, 4))).astype(np.float32)
    return lambda image: np.asarray(image * cv2.resize(coarse, image.shape[::-1], interpolation=cv2.INTER_CUBIC))


def _zero_filled(rng: np.random.Generator) -> Step:
    """The outer part of k-space left empty, as scanners interpolate: ringing, correlated noise."""
    shares = rng.uniform(0.55, 1.0, 2)

    def filled(image: FloatArray) -> FloatArray:
        spectrum = np.fft.fftshift(np.fft.fft2(image))
        for axis, share in enumerate(shares):
            side = image.shape[axis]
            empty = int(side * (1 - share) / 2)
            index = [slice(None)] * 2
            for index[axis] in (slice(0, empty), slice(side - empty, side)):
                spectrum[tuple(index)] = 0
        return np.abs(np.fft.ifft2(np.fft.ifftshift(spectrum))).astype(np.float32)

    return filled


def _border(rng: np.random.Generator) -> Step:
    """Rows and columns cut off, or black ones added."""
    sides = rng.uniform(0, 0.08, 4)
    cut = rng.random() < 0.5

    def bordered(image: FloatArray) -> FloatArray:
        top, bottom, left, right = (round(float(share) * image.shape[k // 2]) for k, share in enumerate(sides))
        if cut:
            return np.ascontiguousarray(image[top : image.shape[0] - bottom, left : image.shape[1] - right])
        return np.pad(image, ((top, bottom), (left, right)))

    return bordered


_BENIGN: Sequence[tuple[str, float, Callable[[np.random.Generator], Step]]] = (
    ("shading", 0.15, _shading),
    ("zero-filled", 0.15, _zero_filled),
    ("blur", 0.22, _blur),
    ("noise", 0.3, _noise),
    ("sharpen", 0.12, _sharpen),
    ("gamma", 0.35, _gamma),
    ("window", 0.25, _window),
)
