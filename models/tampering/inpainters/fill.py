"""Puts an inpainter to work on a slab: a window around the hole, the network's scale and size, and back."""

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from models.tampering.inpainters import weights
from models.tampering.inpainters.catalogue import Inpainter, inpainter
from models.tampering.inpainters.crops import SIZE
from models.tampering.inpainters.networks import LIFT, MULTIPLE
from models.tampering.material import FloatArray, Mask, Material, slow_field

_AROUND = 12  # pixels that an inpainter sees around the hole, at least
_LARGEST = 96  # pixels; a larger window is shrunk to what the networks were trained on, as an attacker would
_LESION = (0.35, 1.1)  # brightness of a wanted lesion on the scale of `networks`, plus LIFT


@torch.inference_mode()
def fill(
    name: str, slab: FloatArray, mask: Mask, material: Material, rng: np.random.Generator, *, lesion: bool = False
) -> FloatArray:
    """`slab` (slices, rows, columns, stored units) with the mask filled by inpainter `name`, with a lesion or without.

    Raises MissingInpainter when the inpainter was not trained here.
    """
    kind, network = inpainter(name), weights.load(name)
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    used = np.flatnonzero(mask.any(axis=(1, 2)))
    window = _window(mask)
    scaled = np.clip((slab - material.offset) / material.scale - 0.5, -1.0, 2.0)
    image = np.stack([_toward(plane, window) for plane in scaled])
    hole = np.stack([_toward(plane.astype(np.float32), window, nearest=True) for plane in mask])
    wanted = _lesion(hole, rng) if lesion else np.zeros_like(hole)
    result = slab.copy()
    row0, column0, row1, column1 = window[:4]
    planes, middle = _asked(kind, used, len(slab))
    parts = [torch.from_numpy(np.ascontiguousarray(each[planes])) for each in (image, hole, wanted)]
    made = network.fill(*parts, generator).float().numpy()[:, middle]  # type: ignore[operator]
    for index, plane in zip(used, made.reshape(-1, *made.shape[-2:]), strict=True):
        back = (_back(plane, window) + 0.5) * material.scale + material.offset
        part = (index, slice(row0, row1), slice(column0, column1))
        result[part] = np.where(mask[part], back, slab[part])
    return result


def _asked(kind: Inpainter, used: NDArray[np.int64], count: int) -> tuple[NDArray[np.int64], int | slice]:
    """The planes (images, planes) that the network is shown at once, and which of them it is asked for."""
    if kind.three_dimensional:
        return used[np.newaxis], slice(None)
    reach = np.arange(kind.planes) - kind.planes // 2
    return np.clip(used[:, np.newaxis] + reach, 0, count - 1), kind.planes // 2


def _window(mask: Mask) -> tuple[int, int, int, int, int, int]:
    """(row0, column0, row1, column1) around the mask, within the slab, and the matrix that the network sees."""
    _, rows, columns = np.nonzero(mask)
    spans = []
    for used, length in ((rows, mask.shape[1]), (columns, mask.shape[2])):
        wide = min(length, max(SIZE, int(np.ptp(used)) + 1 + 2 * _AROUND))
        middle = (int(used.min()) + int(used.max()) + 1) // 2
        first = int(np.clip(middle - wide // 2, 0, length - wide))
        spans.append((first, first + wide))
    (row0, row1), (column0, column1) = spans
    shrink = min(1.0, _LARGEST / max(row1 - row0, column1 - column0))
    down, across = (max(1, round(shrink * size / MULTIPLE)) * MULTIPLE for size in (row1 - row0, column1 - column0))
    if shrink == 1.0:  # no resampling: padded instead
        down, across = (-(-size // MULTIPLE) * MULTIPLE for size in (row1 - row0, column1 - column0))
    return row0, column0, row1, column1, down, across


def _toward(plane: FloatArray, window: tuple[int, ...], *, nearest: bool = False) -> FloatArray:
    row0, column0, row1, column1, down, across = window
    part = plane[row0:row1, column0:column1]
    short = down - part.shape[0], across - part.shape[1]
    if min(short) >= 0:
        return np.pad(part, ((0, short[0]), (0, short[1])), mode="edge")
    method = cv2.INTER_NEAREST if nearest else cv2.INTER_AREA
    return np.asarray(cv2.resize(part, (across, down), interpolation=method), np.float32)


def _back(plane: NDArray[np.float32], window: tuple[int, ...]) -> FloatArray:
    row0, column0, row1, column1, down, across = window
    rows, columns = row1 - row0, column1 - column0
    if down >= rows and across >= columns:
        return plane[:rows, :columns]
    return np.asarray(cv2.resize(plane, (columns, rows), interpolation=cv2.INTER_CUBIC), np.float32)


def _lesion(hole: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Where the network is asked for a lesion, and how bright: the hole without a rim."""
    rim = float(rng.uniform(1.5, 5.0))
    level = float(rng.uniform(*_LESION)) + LIFT if rng.random() < 0.85 else float(rng.uniform(0.55, 0.85))
    depth = np.stack([cv2.distanceTransform(plane.astype(np.uint8), cv2.DIST_L2, 3) for plane in hole])
    wavy = min(rim, 0.4 * float(depth.max())) * (1.0 + 0.5 * slow_field(hole.shape, 12, rng))
    return np.where(depth > np.maximum(wavy, 0.5), level, 0.0).astype(np.float32)
