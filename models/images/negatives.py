"""Pictures of no organ, drawn by ourselves: what a whole-image network must learn to call unknown.

Text, screens, noise of many spectra, gradients, dead leaves (Lee, Mumford & Huang 2001), phantoms, textures, and organs
taken to pieces. Photographs are not among them: they are kept for tests.
"""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
Maker = Callable[[np.random.Generator, int, FloatArray], FloatArray]

_WORDS = (
    "patient",
    "report",
    "findings",
    "no",
    "contrast",
    "the",
    "series",
    "of",
    "normal",
    "12.4",
    "mm",
    "and",
    "left",
)
_FONTS = (cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_COMPLEX, cv2.FONT_HERSHEY_SCRIPT_SIMPLEX)


def draw(rng: np.random.Generator, organ: FloatArray) -> tuple[str, FloatArray]:
    """The name of a kind, and a picture of it from 0 to 1; `organ` is an image of 0 to 1 that some kinds take apart."""
    name = str(rng.choice(tuple(KINDS)))
    side = int(rng.integers(112, 193))
    picture = KINDS[name](rng, side, organ)
    if rng.random() < 0.3:
        picture = 1 - picture
    if rng.random() < 0.3:
        picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), float(rng.uniform(0.4, 2.5))), dtype=np.float32)
    if rng.random() < 0.3:
        picture = picture + float(rng.uniform(0.01, 0.1)) * rng.standard_normal(picture.shape, dtype=np.float32)
    if rng.random() < 0.2:
        picture = picture[: int(side * rng.uniform(0.6, 1)), : int(side * rng.uniform(0.6, 1))]
    return name, np.clip(picture, 0, 1).astype(np.float32)


def _text(rng: np.random.Generator, side: int, organ: FloatArray) -> FloatArray:  # noqa: ARG001
    page = np.full((side, side), int(rng.integers(190, 256)), dtype=np.uint8)
    size, font = float(rng.uniform(0.25, 0.8)), int(rng.choice(_FONTS))
    step = max(8, round(34 * size))
    for row in range(step, side, step):
        if rng.random() < 0.12:
            continue
        line = " ".join(rng.choice(_WORDS, int(rng.integers(2, 12))))
        cv2.putText(page, line, (int(rng.integers(2, 12)), row), font, size, int(rng.integers(80)), 1, cv2.LINE_AA)
    return page.astype(np.float32) / np.float32(255)


def _screen(rng: np.random.Generator, side: int, organ: FloatArray) -> FloatArray:
    """A viewer: bars, buttons and words around panes that show organs or nothing."""
    inside = np.rint(organ * 255).astype(np.uint8)
    shades = [int(shade) for shade in rng.integers(0, 256, 64)]
    shot = np.full((side, side), shades.pop(), dtype=np.uint8)
    bar, list_ = int(side * rng.uniform(0.06, 0.16)), int(side * rng.uniform(0, 0.34))
    shot[:bar] = shades.pop()
    shot[:, :list_] = shades.pop()
    for column in range(4, side - 8, int(rng.integers(9, 22))):
        cv2.rectangle(
            shot, (column, int(bar * 0.2)), (column + 6, int(bar * 0.8)), shades.pop(), int(rng.choice((-1, 1)))
        )
    for row in range(bar + 8, side, int(rng.integers(10, 20))):
        if list_ > 20:
            cv2.putText(shot, str(rng.choice(_WORDS)), (2, row), cv2.FONT_HERSHEY_SIMPLEX, 0.28, shades[row % 8])
    grid = int(rng.integers(1, 4))
    tall, wide = (side - bar) // grid - 4, (side - list_) // grid - 4
    for row in range(grid):
        for column in range(grid):
            top, left = bar + row * (tall + 4) + 2, list_ + column * (wide + 4) + 2
            shot[top : top + tall, left : left + wide] = int(rng.integers(80))
            if grid > 1 and rng.random() < 0.75:
                shot[top : top + tall, left : left + wide] = cv2.resize(inside, (wide, tall))
            elif list_ > 0.2 * side and rng.random() < 0.5:
                part = int(tall * 0.85), int(wide * 0.85)
                shot[top : top + part[0], left : left + part[1]] = cv2.resize(inside, part[::-1])
            cv2.putText(shot, str(rng.choice(_WORDS)), (left + 2, top + 9), cv2.FONT_HERSHEY_SIMPLEX, 0.27, 255)
    return shot.astype(np.float32) / np.float32(255)


def _spectrum(rng: np.random.Generator, side: int, organ: FloatArray) -> FloatArray:  # noqa: ARG001
    """Noise whose power falls with frequency to a random exponent; white to clouds, often stretched."""
    y, x = np.meshgrid(np.fft.fftfreq(side), np.fft.rfftfreq(side), indexing="ij")
    stretch = float(np.exp(rng.uniform(-1, 1))) if rng.random() < 0.5 else 1.0
    radius = np.sqrt((y * stretch) ** 2 + x**2) + 1 / side
    white = np.fft.rfft2(rng.standard_normal((side, side)))
    field = _stretched(np.fft.irfft2(white * radius ** -float(rng.uniform(0, 2.2)), s=(side, side)))
    choice = rng.random()
    if choice < 0.2:
        return (field > float(rng.uniform(0.3, 0.7))).astype(np.float32)
    return np.asarray(np.abs(2 * field - 1) if choice < 0.35 else field, dtype=np.float32)


def _gradient(rng: np.random.Generator, side: int, organ: FloatArray) -> FloatArray:  # noqa: ARG001
    y, x = np.mgrid[0:side, 0:side] / side
    if rng.random() < 0.5:
        return _stretched(rng.uniform(-1, 1) * x + rng.uniform(-1, 1) * y + rng.uniform(-1, 1) * x * y)
    centre = rng.uniform(0, 1, 2)
    return _stretched(np.hypot(x - centre[0], y - centre[1]) ** float(rng.uniform(0.5, 2)))


def _leaves(rng: np.random.Generator, side: int, organ: FloatArray) -> FloatArray:
    """Things that hide each other: what most photographs are made of."""
    picture = _gradient(rng, side, organ)
    textured = rng.random() < 0.6
    cloth = _spectrum(rng, side, organ) if textured else picture
    for _ in range(int(rng.integers(8, 120))):
        radius = side * 0.5 * float(rng.uniform(0.04, 0.9)) ** 2.5 + 2
        axes = (int(radius), int(radius * rng.uniform(0.3, 1)))
        centre = tuple(int(v) for v in rng.integers(0, side, 2))
        mask = np.zeros((side, side), dtype=np.uint8)
        if rng.random() < 0.6:
            cv2.ellipse(mask, centre, axes, float(rng.uniform(0, 180)), 0, 360, 1, -1, cv2.LINE_8)
        else:
            corners = np.asarray(centre) + rng.uniform(-radius, radius, (int(rng.integers(3, 6)), 2))
            cv2.fillPoly(mask, [corners.astype(np.int32)], 1)
        shade = float(rng.uniform(0, 1)) + (float(rng.uniform(0, 0.4)) * (cloth - 0.5) if textured else 0)
        picture = np.where(mask > 0, shade, picture)
    return np.asarray(picture, dtype=np.float32)


def _phantom(rng: np.random.Generator, side: int, organ: FloatArray) -> FloatArray:  # noqa: ARG001
    """What a physicist puts into a scanner: discs, rods, line pairs, a grid, in a round or square body."""
    picture = np.zeros((side, side), dtype=np.float32)
    half, body = side // 2, float(rng.uniform(0.3, 0.8))
    if rng.random() < 0.7:
        cv2.circle(picture, (half, half), int(side * rng.uniform(0.3, 0.48)), body, -1)
    else:
        rim = int(side * rng.uniform(0.05, 0.2))
        picture[rim:-rim, rim:-rim] = body
    for _ in range(int(rng.integers(1, 5))):
        kind = rng.random()
        if kind < 0.4:
            count, ring, radius = (
                int(rng.integers(3, 16)),
                side * rng.uniform(0.1, 0.34),
                int(rng.integers(2, side // 12)),
            )
            for turn in np.arange(count) * 2 * np.pi / count:
                place = int(half + ring * np.cos(turn)), int(half + ring * np.sin(turn))
                cv2.circle(picture, place, radius, float(rng.uniform(0, 1)), -1)
        elif kind < 0.7:
            period, top, left = int(rng.integers(2, 9)), *rng.integers(side // 5, side // 2, 2)
            for column in range(int(left), int(left) + side // 3, 2 * period):
                picture[int(top) : int(top) + side // 5, column : column + period] = 1.0
        elif kind < 0.85:
            step = int(rng.integers(8, 30))
            picture[side // 5 : -side // 5 : step, side // 5 : -side // 5] = 1.0
            picture[side // 5 : -side // 5, side // 5 : -side // 5 : step] = 1.0
        else:
            corner = [int(v) for v in rng.integers(side // 5, side // 2, 2)]
            cv2.rectangle(picture, corner, (corner[0] + side // 6, corner[1] + side // 6), float(rng.uniform(0, 1)), -1)
    return picture


def _nested(rng: np.random.Generator, side: int, organ: FloatArray) -> FloatArray:
    """Ellipses within ellipses: the heads and bodies that reconstruction is tried with (Shepp & Logan 1974)."""
    picture = np.zeros((side, side), dtype=np.float32)
    half, tall, wide = side // 2, side * rng.uniform(0.3, 0.47), side * rng.uniform(0.25, 0.45)
    turn = float(rng.uniform(0, 180)) if rng.random() < 0.3 else 0.0
    cv2.ellipse(picture, (half, half), (int(wide), int(tall)), turn, 0, 360, float(rng.uniform(0.5, 1)), -1)
    rim, body = float(rng.uniform(0.8, 0.95)), float(rng.uniform(0.1, 0.6))
    cv2.ellipse(picture, (half, half), (int(wide * rim), int(tall * rim)), turn, 0, 360, body, -1)
    for _ in range(int(rng.integers(2, 14))):
        place = half + rng.uniform(-0.5, 0.5) * wide, half + rng.uniform(-0.6, 0.6) * tall
        axes = (int(wide * rng.uniform(0.03, 0.35)) + 1, int(tall * rng.uniform(0.03, 0.35)) + 1)
        shade = float(np.clip(body + rng.uniform(-0.3, 0.4), 0, 1))
        cv2.ellipse(picture, (int(place[0]), int(place[1])), axes, float(rng.uniform(0, 180)), 0, 360, shade, -1)
    if rng.random() < 0.5:
        picture = picture * (1 + float(rng.uniform(0.05, 0.3)) * (_spectrum(rng, side, organ) - 0.5))
    return np.asarray(picture, dtype=np.float32)


def _texture(rng: np.random.Generator, side: int, organ: FloatArray) -> FloatArray:  # noqa: ARG001
    y, x = (axis.astype(np.float32) for axis in np.mgrid[0:side, 0:side])
    kind = rng.random()
    if kind < 0.35:
        waves = [np.sin(rng.uniform(-0.6, 0.6) * x + rng.uniform(-0.6, 0.6) * y + rng.uniform(0, 6)) for _ in range(3)]
        return _stretched(sum(waves[: int(rng.integers(1, 4))]))
    if kind < 0.6:
        step = int(rng.integers(4, 40))
        return np.asarray(((x // step + y // step) % 2) * rng.uniform(0.4, 1), dtype=np.float32)
    points = rng.uniform(0, side, (int(rng.integers(8, 60)), 2))
    gaps = np.sort([np.hypot(x - a, y - b) for a, b in points], axis=0)[:2]
    return _stretched(gaps[1] - gaps[0] if rng.random() < 0.5 else gaps[0])


def _pieces(rng: np.random.Generator, side: int, organ: FloatArray) -> FloatArray:
    """An organ cut into squares that lie in another order."""
    count = int(rng.integers(3, 7))
    step = side // count
    whole = cv2.resize(organ, (step * count, step * count), interpolation=cv2.INTER_AREA)
    squares = [
        np.rot90(whole[r : r + step, c : c + step], int(rng.integers(4)))
        for r in range(0, step * count, step)
        for c in range(0, step * count, step)
    ]
    order = rng.permutation(len(squares))
    rows = [np.hstack([squares[k] for k in order[first : first + count]]) for first in range(0, count**2, count)]
    return np.asarray(np.vstack(rows), dtype=np.float32)


def _scrambled(rng: np.random.Generator, side: int, organ: FloatArray) -> FloatArray:
    """The spectrum of an organ with phases of noise."""
    whole = cv2.resize(organ, (side, side), interpolation=cv2.INTER_AREA)
    phases = np.exp(1j * np.angle(np.fft.rfft2(rng.standard_normal((side, side)))))
    return _stretched(np.fft.irfft2(np.abs(np.fft.rfft2(whole)) * phases, s=(side, side)))


def _magnified(rng: np.random.Generator, side: int, organ: FloatArray) -> FloatArray:
    """A small part of an organ: tissue, but no organ."""
    cut = max(12, int(min(organ.shape) * rng.uniform(0.08, 0.2)))
    row, column = (int(rng.integers(0, have - cut)) for have in organ.shape)
    return _stretched(
        cv2.resize(organ[row : row + cut, column : column + cut], (side, side), interpolation=cv2.INTER_CUBIC)
    )


def _stretched(field: Any) -> FloatArray:
    low, high = np.quantile(field, (0.005, 0.995))
    return np.asarray(np.clip((field - low) / max(float(high - low), 1e-6), 0, 1), dtype=np.float32)


KINDS: dict[str, Maker] = {
    "text": _text,
    "screen": _screen,
    "spectrum": _spectrum,
    "gradient": _gradient,
    "leaves": _leaves,
    "leaves and cloth": _leaves,
    "phantom": _phantom,
    "nested": _nested,
    "texture": _texture,
    "pieces": _pieces,
    "scrambled": _scrambled,
    "magnified": _magnified,
}
