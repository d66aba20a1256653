"""Contact sheets: for each organ a row of genuine images above a row of synthetic ones, for the eye and the report."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from models.images.organs import KNOWN
from models.images.synthetic import SyntheticImage
from models.splits import Split
from models.tampering.generators.material import Example, grey

_TILE = 160
_COLUMNS = 9


def contact_sheet(path: Path, made: Sequence[SyntheticImage], examples: Sequence[Example]) -> Path:
    """Write the sheet of one kind; an image that was made from a genuine one stands under an image of that patient."""
    rows = []
    for organ in KNOWN:
        mine = [image for image in made if image.organ is organ and image.split is Split.TEST]
        mine = mine[:: max(1, len(mine) // _COLUMNS)][:_COLUMNS]
        genuine = [example.image for example in examples if example.image.organ is organ]
        genuine = [image for image in genuine if image.split is Split.TEST]
        if not mine or not genuine:
            continue
        above = []
        for column, image in enumerate(mine):
            same = [each for each in genuine if each.patient == image.patient] if image.patient else []
            candidates = same or genuine
            above.append(
                min(candidates, key=lambda each: _unlike(each.pixels, image.pixels)) if same else genuine[column]
            )
        rows.append(_row([each.pixels for each in above]))
        rows.append(_row([image.pixels for image in mine]))
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.concatenate(rows) if rows else np.zeros((_TILE, _TILE), np.uint8))
    return path


def _row(images: Sequence[NDArray[Any]]) -> NDArray[np.uint8]:
    tiles = [_tile(image) for image in images]
    tiles += [np.zeros((_TILE, _TILE), np.uint8)] * (_COLUMNS - len(tiles))
    return np.concatenate(tiles, axis=1)


def _tile(image: NDArray[Any]) -> NDArray[np.uint8]:
    """Whole, with its proportions, in the middle of a square."""
    scale = _TILE / max(image.shape)
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    small = cv2.resize(grey(image), size, interpolation=cv2.INTER_AREA)
    tile = np.zeros((_TILE, _TILE), np.uint8)
    y, x = (_TILE - size[1]) // 2, (_TILE - size[0]) // 2
    tile[y : y + size[1], x : x + size[0]] = small
    return tile


def _unlike(one: NDArray[Any], other: NDArray[Any]) -> float:
    small = [cv2.resize(grey(image), (32, 32), interpolation=cv2.INTER_AREA).astype(float) for image in (one, other)]
    return float(np.abs(small[0] - small[1]).mean())
