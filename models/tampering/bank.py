"""Edits that are too slow to be made while a network trains, made once and kept on disk: slab, edited slab, mask.

Like every tampered image they come from third-party images, and are never committed or shipped.
"""

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.errors import MissingEdits
from models.tampering.families import Family
from models.tampering.material import FloatArray, Mask


def folder() -> Path:
    """Where the bank is: SCANWARDEN_EDIT_BANK, or runs/edit-bank where the command runs."""
    return Path(os.environ.get("SCANWARDEN_EDIT_BANK", "runs/edit-bank"))


@dataclass(frozen=True)
class Kept:
    """One edit: genuine and edited slab (slices, rows, columns) of stored integers, the mask, the real lesions."""

    genuine: FloatArray
    edited: FloatArray
    region: Mask
    lesion: Mask


def keep(path: Path, made: Kept) -> None:
    """Write one edit under another name first, so that a broken run leaves no half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial.npz")
    np.savez_compressed(
        partial,
        genuine=np.rint(made.genuine).astype(np.int32),
        edited=np.rint(made.edited).astype(np.int32),
        region=np.packbits(made.region),
        lesion=np.packbits(made.lesion),
    )
    partial.replace(path)


class Bank:
    """The edits on disk of the families that need one."""

    def __init__(self, families: Sequence[Family], place: Path | None = None) -> None:
        """Raises MissingEdits when a slow family has none."""
        root = place or folder()
        self._files: dict[str, list[Path]] = defaultdict(list)
        for family in families:
            if not family.slow:
                continue
            self._files[family.name] = sorted(
                path for path in (root / family.name).glob("*.npz") if ".partial" not in path.name
            )
            if not self._files[family.name]:
                raise MissingEdits(
                    f"edits by {family.name} are too slow to be made while training, and {root / family.name} holds "
                    "none; run `scanwarden inpainters bank --data DATA`, or leave the family out"
                )

    def draw(self, family: Family, rng: np.random.Generator) -> Kept:
        """One of a family's edits."""
        files = self._files[family.name]
        with np.load(files[int(rng.integers(len(files)))], allow_pickle=False) as held:
            genuine, edited = (held[name].astype(np.float32) for name in ("genuine", "edited"))
            masks = (np.unpackbits(held[name], count=genuine.size) for name in ("region", "lesion"))
            region, lesion = (mask.reshape(genuine.shape).astype(np.bool_) for mask in masks)
        return Kept(genuine, edited, region, lesion)
