"""A sheet of edits for the eye: a row for each family, the genuine place outlined, and the edited one beside it."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from models.datasets import Case
from models.errors import NoPlaceToEdit
from models.tampering import donors
from models.tampering.compose import Tampered, tamper_volume

_HALF = 40  # pixels of the image around the edit
_TILE = 150
_LABEL = 190


def draw_sheet(path: Path, cases: Sequence[Case], families: Sequence[str], seed: int) -> Path:
    """Write the sheet as PNG: in each row, for each case, before (with the outline) and after."""
    found = donors.of_cases(cases, np.random.default_rng(seed), limit=60)
    rows = []
    for name in families:
        row = [_label(name)]
        for number, case in enumerate(cases):
            volume = np.array(case.images)
            try:
                rng = np.random.default_rng([seed, number])
                made = tamper_volume(volume, name, rng, spacing=case.spacing, donors=found, touched_up=False)
                row += _tiles(volume, made)
            except NoPlaceToEdit:
                row += [np.zeros((_TILE, _TILE), np.uint8)] * 2
        rows.append(np.hstack(row))
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.vstack(rows))
    return path


def _tiles(volume: NDArray[np.generic], made: Tampered) -> list[NDArray[np.uint8]]:
    slices, rows, columns = np.nonzero(made.mask)
    index = int(np.median(slices))
    row, column = (
        int(np.clip(places.mean(), _HALF, max(_HALF, length - _HALF)))
        for places, length in ((rows, volume.shape[1]), (columns, volume.shape[2]))
    )
    part = (index, slice(row - _HALF, row + _HALF), slice(column - _HALF, column + _HALF))
    low, high = np.percentile(volume[index].astype(np.float32), (1, 99.7))
    before, after = (
        cv2.resize(
            (np.clip((image[part].astype(np.float32) - low) / max(high - low, 1e-6), 0, 1) * 255).astype(np.uint8),
            (_TILE, _TILE),
            interpolation=cv2.INTER_CUBIC,
        )
        for image in (volume, made.volume)
    )
    inside = cv2.resize(made.mask[part].astype(np.uint8), (_TILE, _TILE), interpolation=cv2.INTER_NEAREST)
    rim = cv2.morphologyEx(inside, cv2.MORPH_GRADIENT, np.ones((2, 2), np.uint8))
    return [np.where(rim > 0, 255, before).astype(np.uint8), np.asarray(after, dtype=np.uint8)]


def _label(name: str) -> NDArray[np.uint8]:
    tile = np.zeros((_TILE, _LABEL), np.uint8)
    cv2.putText(tile, name, (4, _TILE // 2), cv2.FONT_HERSHEY_SIMPLEX, 0.42, 255, 1)
    return tile
