"""Fills the bank of slow edits from training patients: `fill_bank(...)`, again to go on where it stopped."""

import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from models.datasets import Case
from models.errors import NoPlaceToEdit
from models.samples import Crops, PairBatches
from models.splits import Split
from models.tampering import bank, donors
from models.tampering.families import FAMILIES

SIZE = 256  # pixels of the largest crops that training takes; smaller ones are cut from these
_TRIES = 12


def slow_families() -> tuple[str, ...]:
    """The families that training takes from the bank."""
    return tuple(name for name, family in FAMILIES.items() if family.slow)


def fill_bank(
    cases: Sequence[Case], families: Sequence[str], count: int, seed: int, place: Path | None = None
) -> Iterator[Path]:
    """`count` edits by each family, one file after the other, so that a caller can show progress.

    File k of a family is decided by seed and k; what is there already is kept. Raises MissingInpainter.
    """
    chosen = [case for case in cases if case.split is Split.TRAIN]
    found = donors.of_cases(chosen, np.random.default_rng(seed), limit=100)
    # A family that needs no bank stands in: the bank cannot be asked for what it is to hold.
    batches = PairBatches(chosen, found, ("telea",), [(1, Crops(SIZE, 1))], seed)
    root = place or bank.folder()
    for name in families:
        for number in range(count):
            path = root / name / f"{number:05d}.npz"
            if not path.is_file():
                rng = np.random.default_rng([seed, zlib.crc32(name.encode()), number])
                bank.keep(path, _one(batches, chosen, name, rng))
            yield path


def _one(batches: PairBatches, cases: Sequence[Case], name: str, rng: np.random.Generator) -> bank.Kept:
    for _ in range(_TRIES):
        try:
            made = batches.edited(cases[int(rng.integers(len(cases)))], FAMILIES[name], SIZE, rng)
        except NoPlaceToEdit:
            continue
        if made is not None:
            return made
    raise NoPlaceToEdit(f"no crop with tissue in {_TRIES} tries; the training images may be empty")
