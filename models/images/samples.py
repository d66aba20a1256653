"""Training batches for the whole-image networks: pairs that went one save path, images as they are, and no organs.

Batch k depends on the seed and on k alone, so that any number of workers, and a resumed run, see the same batches.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from models.images import inputs, negatives, savepath
from models.images.datasets import GenuineImage
from models.images.inputs import TILE, FloatArray
from models.images.organs import KNOWN, Organ
from models.images.synthetic import SyntheticImage

NO_ORGAN = len(KNOWN)
_OFTEN = {"autoencoder": 2.0, "vq": 2.0, "translation": 2.0}  # their traces are the faintest
_ALIKE = 0.5  # share of pairs whose genuine image shows the same: what differs is who made it
_CUT = 176  # pixels of a side
_TURNABLE = (Organ.BRAIN_MR,)  # sagittal, coronal or axial, and of any contrast


class Batch(NamedTuple):
    """What one training step sees.

    `views` (views, 1, 96, 96) with `organ` (views,), NO_ORGAN among them; `tiles` (images, 1, channels, 96, 96),
    bfloat16, with `synthetic` (images,) 0 or 1.
    """

    views: Tensor
    organ: Tensor
    tiles: Tensor
    synthetic: Tensor


@dataclass(frozen=True)
class Shares:
    """What a batch is made of: `pairs` of images, genuine ones `alone`; besides, views of `organs` and of `none`."""

    pairs: int = 8
    alone: int = 4
    organs: int = 8
    none: int = 8


DEFAULT_SHARES = Shares()


class ImageBatches(Dataset[Batch]):
    """Batch k of a training run. A kind of generator is drawn first, then an organ, then an image of both."""

    def __init__(
        self,
        genuine: Sequence[GenuineImage],
        synthetic: Sequence[SyntheticImage],
        steps: int,
        seed: int,
        shares: Shares = DEFAULT_SHARES,
    ) -> None:
        self._genuine: dict[Organ, list[GenuineImage]] = defaultdict(list)
        for image in genuine:
            self._genuine[image.organ].append(image)
        self._synthetic: dict[str, dict[Organ, list[SyntheticImage]]] = defaultdict(lambda: defaultdict(list))
        for made in synthetic:
            self._synthetic[made.kind][made.organ].append(made)
        self._synthetic = {kind: dict(found) for kind, found in self._synthetic.items()}
        self._organs = [organ for organ in KNOWN if organ in self._genuine]
        self._kinds = sorted(self._synthetic)
        often = np.array([_OFTEN.get(kind, 1.0) for kind in self._kinds])
        self._often = often / often.sum()
        self._nearest = _nearest(synthetic, self._genuine)
        self._steps = steps
        self._seed = seed
        self._shares = shares

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, step: int) -> Batch:
        cv2.setNumThreads(1)
        rng = np.random.default_rng([self._seed, step])
        tiles: list[tuple[FloatArray, int]] = []
        shown: list[tuple[NDArray[Any], Organ]] = []
        for _ in range(self._shares.pairs):
            made, genuine, both = self.pair(rng)
            shown += [(made.pixels, made.organ), (np.asarray(genuine.pixels), made.organ)]
            tiles += [(tile(image, rng), label) for image, label in zip(both, (1, 0), strict=True)]
        for _ in range(self._shares.alone):
            image = self._draw(rng)
            tiles.append((tile(_on_its_own(np.asarray(image.pixels), rng), rng), 0))
            shown.append((np.asarray(image.pixels), image.organ))
        for _ in range(self._shares.organs):
            varied = Organ.BRAIN_MR in self._organs and rng.random() < 0.4
            image = self._draw(rng, Organ.BRAIN_MR if varied else None)
            shown.append((np.asarray(image.pixels), image.organ))
        views = [(seen_as(pixels, organ, rng), KNOWN.index(organ)) for pixels, organ in shown]
        for _ in range(self._shares.none):
            _, picture = negatives.draw(rng, _small(self._draw(rng).pixels))
            views.append((_view(picture), NO_ORGAN))
        return Batch(
            torch.from_numpy(np.stack([view for view, _ in views])),
            torch.tensor([organ for _, organ in views]),
            torch.from_numpy(np.stack([channels for channels, _ in tiles])).to(torch.bfloat16),
            torch.tensor([label for _, label in tiles]),
        )

    def _draw(self, rng: np.random.Generator, organ: Organ | None = None) -> GenuineImage:
        images = self._genuine[organ or self._organs[int(rng.integers(len(self._organs)))]]
        return images[int(rng.integers(len(images)))]

    def pair(self, rng: np.random.Generator) -> tuple[SyntheticImage, GenuineImage, tuple[NDArray[Any], NDArray[Any]]]:
        """A synthetic image, a genuine one of its organ, and both as files that went one way hold them (or a part)."""
        by_organ = self._synthetic[self._kinds[int(rng.choice(len(self._kinds), p=self._often))]]
        organs = sorted(by_organ)
        found = by_organ[organs[int(rng.integers(len(organs)))]]
        made = found[int(rng.integers(len(found)))]
        genuine, reference = (self._draw(rng, made.organ) for _ in range(2))
        if rng.random() < _ALIKE:
            genuine = self._nearest[id(made)]
        cut = _cuts((made.pixels, np.asarray(genuine.pixels), np.asarray(reference.pixels)), rng)
        return made, genuine, savepath.twins(*cut, rng)


def _nearest(
    synthetic: Sequence[SyntheticImage], genuine: Mapping[Organ, Sequence[GenuineImage]]
) -> dict[int, GenuineImage]:
    """The genuine image that each synthetic one looks most like, mostly the one that it was made from."""
    icons = {organ: np.stack([_icon(image.pixels) for image in images]) for organ, images in genuine.items()}
    found = {}
    for made in synthetic:
        if made.organ in icons:
            gaps = ((icons[made.organ] - _icon(made.pixels)) ** 2).sum(axis=1)
            found[id(made)] = genuine[made.organ][int(gaps.argmin())]
    return found


def _icon(pixels: NDArray[Any]) -> FloatArray:
    """The middle square in 16 × 16 values, as wide as they vary."""
    side = min(pixels.shape)
    top, left = ((length - side) // 2 for length in pixels.shape)
    small = cv2.resize(
        savepath.grey(pixels[top : top + side, left : left + side]), (16, 16), interpolation=cv2.INTER_AREA
    )
    return np.asarray((small - small.mean()) / (small.std() + 1e-3), dtype=np.float32).ravel()


def _cuts(
    images: tuple[NDArray[Any], NDArray[Any], NDArray[Any]], rng: np.random.Generator
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """The same part of large images, more than a tile: what lies outside is not looked at. Small ones stay whole.

    Only where the first, the synthetic one, is large: else the others are shrunken to it as a whole.
    """
    if max(images[0].shape) <= _CUT:
        return images
    place = rng.random(2)
    return _cut(images[0], place), _cut(images[1], place), _cut(images[2], place)


def _cut(image: NDArray[Any], place: NDArray[np.float64]) -> NDArray[Any]:
    row, column = (int(share * max(0, side - _CUT)) for share, side in zip(place, image.shape, strict=True))
    return image[row : row + _CUT, column : column + _CUT]


def _on_its_own(pixels: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
    """A genuine image at its own resolution, as archives hold them: often untouched."""
    part = _cut(savepath.grey(pixels), rng.random(2))
    return savepath.draw(rng, part.shape, untouched=0.4)(part)


def _small(pixels: NDArray[Any]) -> FloatArray:
    step = max(1, max(pixels.shape) // 256)
    return savepath.grey(pixels[::step, ::step])


def tile(image: NDArray[Any], rng: np.random.Generator) -> FloatArray:
    """Channels of one tile with tissue, turned and mirrored at random: (1, channels, 96, 96)."""
    offset, scale = inputs.intensity(image)
    for _ in range(4):
        row, column = (int(rng.integers(max(0, side - TILE) + 1)) for side in image.shape)
        patch = image[row : row + TILE, column : column + TILE].astype(np.float32)
        if (patch > offset + 0.12 * scale).mean() > 0.3:
            break
    short = [(0, TILE - side) for side in patch.shape]
    patch = np.pad(patch, short, mode="symmetric")
    patch = np.rot90(patch, int(rng.integers(4)))[:, :: (1 if rng.random() < 0.5 else -1)]
    return inputs.channels(np.ascontiguousarray(patch)[np.newaxis], offset, scale)


def seen_as(image: NDArray[Any], organ: Organ, rng: np.random.Generator) -> FloatArray:
    """A view of an image of this organ as other hospitals may show it: mirrored, shifted, of another contrast."""
    picture = _small(image)
    if organ in _TURNABLE:
        picture = np.rot90(picture, int(rng.choice((0, 0, 1, 2, 3))))
        picture = _another_contrast(picture, rng) if rng.random() < 0.5 else picture
    elif rng.random() < 0.1:
        picture = 1 - picture  # MONOCHROME1, not inverted for showing
    if rng.random() < 0.5:
        picture = picture[:, ::-1]
    picture = np.ascontiguousarray(picture, dtype=np.float32)
    if rng.random() < 0.7:
        picture = _moved(picture, rng)
    if rng.random() < 0.3:
        picture = picture + float(rng.uniform(0.005, 0.06)) * rng.standard_normal(picture.shape, dtype=np.float32)
    return _view(np.clip(picture, 0, 1))


def _another_contrast(picture: FloatArray, rng: np.random.Generator) -> FloatArray:
    """A random tone curve from black up, sometimes turning back: other weightings of the same head."""
    heights = np.cumsum(rng.uniform(-0.35 if rng.random() < 0.4 else 0.02, 1, 6))
    heights = np.concatenate([[0.0], np.maximum(heights, 0.02)])
    return np.asarray(np.interp(picture, np.linspace(0, 0.9, 7), heights / heights.max()), dtype=np.float32)


def _moved(picture: FloatArray, rng: np.random.Generator) -> FloatArray:
    rows, columns = picture.shape
    turn, zoom = float(rng.normal(0, 8)), float(np.exp(rng.uniform(-0.25, 0.25)))
    matrix = cv2.getRotationMatrix2D((columns / 2, rows / 2), turn, zoom)
    matrix[0, :2] = matrix[0, :2] * np.exp(rng.uniform(-0.12, 0.12))
    matrix[:, 2] = matrix[:, 2] + rng.normal(0, 0.04, 2) * (columns, rows)
    edge = cv2.BORDER_REPLICATE if rng.random() < 0.5 else cv2.BORDER_CONSTANT
    return np.asarray(cv2.warpAffine(picture, matrix, (columns, rows), borderMode=edge), dtype=np.float32)


def _view(picture: FloatArray) -> FloatArray:
    return inputs.view(picture, *inputs.intensity(picture))
