"""What a whole-image network said of every image that it was asked about; judges nothing.

A synthetic image is always asked about with a genuine one beside it, of the same organ, that went the same save path.
"""

import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from models.images import savepath
from models.images.organs import Organ
from models.images.prediction import ImageModel, ImagePrediction
from models.images.subjects import Subject
from models.images.treatments import TREATMENTS, UNTREATED

AS_STORED: Final = "as stored"
RANDOM_WAY: Final = "a random way, as in training"
WAYS: Final = (*TREATMENTS, RANDOM_WAY)


@dataclass(frozen=True, eq=False)
class Trial:
    """One image, after `way` (AS_STORED: as the source has it, else down the save path), and the answer."""

    subject: Subject
    way: str
    said: ImagePrediction

    @property
    def organ(self) -> Organ:
        """The organ that was named, UNKNOWN where the network abstained."""
        return self.said.organ

    @property
    def logit(self) -> float:
        return self.said.synthesis_logit


@dataclass(frozen=True, eq=False)
class Pair:
    """A synthetic image, a genuine one of its organ, and a third whose histogram both are given."""

    made: Subject
    real: Subject
    reference: Subject

    def saved(self, seed: int, way: str = UNTREATED) -> tuple[NDArray[Any], NDArray[Any]]:
        """Both as files would hold them; what they meet on the way hangs on the pair and the seed alone."""
        key = zlib.crc32(f"{self.made.key} {self.real.key}".encode())
        both = self._shared(seed, key, None if way == RANDOM_WAY else savepath.SavePath(()))
        return both if way == RANDOM_WAY else self._treated(both, seed, key, way)

    def ways(self, seed: int) -> Iterator[tuple[str, tuple[NDArray[Any], NDArray[Any]]]]:
        """Every way of WAYS with what `saved` gives for it."""
        key = zlib.crc32(f"{self.made.key} {self.real.key}".encode())
        untreated = self._shared(seed, key, savepath.SavePath(()))
        for way in TREATMENTS:
            yield way, self._treated(untreated, seed, key, way)
        yield RANDOM_WAY, self.saved(seed, RANDOM_WAY)

    def _shared(self, seed: int, key: int, path: savepath.SavePath | None) -> tuple[NDArray[Any], NDArray[Any]]:
        made, real, reference = (np.array(subject.pixels) for subject in (self.made, self.real, self.reference))
        return savepath.twins(made, real, reference, np.random.default_rng([seed, key]), path=path)

    def _treated(
        self, both: tuple[NDArray[Any], NDArray[Any]], seed: int, key: int, way: str
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        made, real = (TREATMENTS[way](pixels, np.random.default_rng([seed, key, 1])) for pixels in both)
        return made, real


def pairs(made: Sequence[Subject], genuine: Sequence[Subject], seed: int) -> list[Pair]:
    """Every synthetic image with two genuine ones of its organ, drawn evenly; those of organs without any are left out.

    Two are needed, so that no image is its own reference.
    """
    by_organ: dict[Organ, list[Subject]] = defaultdict(list)
    for subject in genuine:
        by_organ[subject.organ].append(subject)
    rng = np.random.default_rng(seed)
    turns = {organ: [int(k) for k in rng.permutation(len(found))] for organ, found in by_organ.items()}
    taken: dict[Organ, int] = defaultdict(int)
    chosen = []
    for subject in made:
        found = by_organ[subject.organ]
        if len(found) < 2:
            continue
        turn = taken[subject.organ]
        taken[subject.organ] += 1
        real, reference = (found[turns[subject.organ][(turn + step) % len(found)]] for step in (0, len(found) // 2))
        chosen.append(Pair(subject, real, reference))
    return chosen


def ask(
    model: ImageModel,
    subjects: Sequence[Subject],
    way: str = AS_STORED,
    *,
    seed: int = 0,
    what: str = "images",
    quiet: bool = True,
) -> list[Trial]:
    """Put every subject to the model as its source or generator left it, or after one treatment of that."""
    trials = []
    for subject in track(subjects, f"{what}, {way}", disable=quiet):
        pixels = np.array(subject.pixels)
        if way != AS_STORED:
            pixels = TREATMENTS[way](pixels, np.random.default_rng([seed, zlib.crc32(subject.key.encode())]))
        trials.append(Trial(subject, way, model.predict([pixels])[0]))
    return trials


def ask_pairs(
    model: ImageModel,
    chosen: Sequence[Pair],
    seed: int,
    way: str = UNTREATED,
    *,
    what: str = "pairs",
    quiet: bool = True,
) -> list[Trial]:
    """Put both images of every pair to the model."""
    trials = []
    for pair in track(chosen, f"{what}, {way}", disable=quiet):
        said = model.predict(pair.saved(seed, way))
        trials += [Trial(subject, way, answer) for subject, answer in zip((pair.made, pair.real), said, strict=True)]
    return trials


def ask_ways(
    model: ImageModel, chosen: Sequence[Pair], seed: int, *, what: str = "pairs", quiet: bool = True
) -> dict[str, list[Trial]]:
    """Put both images of every pair to the model in every way."""
    found: dict[str, list[Trial]] = {way: [] for way in WAYS}
    for pair in track(chosen, f"{what}, {len(WAYS)} ways", disable=quiet):
        for way, both in pair.ways(seed):
            said = model.predict(both)
            answers = zip((pair.made, pair.real), said, strict=True)
            found[way] += [Trial(subject, way, answer) for subject, answer in answers]
    return found


def split(trials: Sequence[Trial]) -> tuple[list[Trial], list[Trial]]:
    """The synthetic ones, and the genuine ones."""
    return [t for t in trials if t.subject.synthetic], [t for t in trials if not t.subject.synthetic]
