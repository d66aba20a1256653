"""The images that an evaluation puts to a whole-image network: of held-out patients, and of generators."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from models.images.datasets import SOURCES, GenuineImage
from models.images.organs import Organ
from models.images.synthetic import SyntheticImage
from models.splits import Split

KNOWN_SOURCES = tuple(source.name for source in SOURCES if source.trains)
_RUN = 10  # neighbours in a set of single slices whose patients are not named: mostly one patient
_FOLDS = ("brain-cheng",)  # sources whose `patient` is a fold of many

Item = TypeVar("Item")


@dataclass(frozen=True, eq=False)
class Subject:
    """One image and what is true of it. `kind` of generator is empty for a genuine image.

    `patient` is what the bootstrap redraws as a whole: a patient, a run of neighbours, or, of a free sample, the image.
    `series` names what a study-level decision would see together. `key` is unique, and what draws are seeded with.
    """

    key: str
    organ: Organ
    source: str
    patient: str
    series: str
    pixels: NDArray[Any] = field(repr=False)
    kind: str = ""
    instance: str = ""

    @property
    def synthetic(self) -> bool:
        return bool(self.kind)

    @property
    def known(self) -> bool:
        """Whether images of this source were trained on (of other patients)."""
        return self.source in KNOWN_SOURCES


@dataclass(frozen=True)
class Plan:
    """How many images are looked at.

    Of each known and each other source; of each kind of generator and organ, and of these down the save path in every
    way, and as they came in every way; of each other source beside synthetic ones; of a series; pairs for the audits.
    """

    known: int = 300
    other: int = 250
    synthetic: int = 30
    treated: int = 3
    treated_as_they_came: int = 2
    beside: int = 60
    series: int = 12
    audited: int = 400


QUICK = Plan(known=40, other=20, synthetic=6, treated=1, treated_as_they_came=1, beside=6, series=6, audited=20)


def genuine(images: Iterable[GenuineImage], plan: Plan) -> list[Subject]:
    """Held-out genuine images, spread evenly over what each source has."""
    held_out = [image for image in images if image.split is Split.TEST]
    subjects = []
    for (source, patient), group in _groups(held_out, lambda image: (image.source, image.patient)):
        for index, image in enumerate(group):
            who = f"{source}/{patient}/{index // _RUN:03d}" if source in _FOLDS else f"{source}/{patient}"
            subjects.append(Subject(f"{source}/{patient}/{index:04d}", image.organ, source, who, who, image.pixels))
    chosen: list[Subject] = []
    for _, same in _groups(subjects, lambda subject: (subject.source,)):
        chosen += spread(same, plan.known if same[0].known else plan.other)
    return chosen


def synthetic(images: Iterable[SyntheticImage], plan: Plan) -> list[Subject]:
    """Test images of the generators, as many of each kind and organ."""
    held_out = [image for image in images if image.split is Split.TEST]
    chosen = []
    for (kind, organ), group in _groups(held_out, lambda image: (image.kind, image.organ)):
        for index, image in enumerate(spread(group, plan.synthetic)):
            key = f"{kind}/{organ}/{image.instance}/{index:04d}"
            run = f"{kind}/{image.source}/{image.instance}/{index // _RUN:03d}"
            named = f"{image.source}/{image.patient}"
            who = key if not image.patient else f"{named}/{run}" if image.source in _FOLDS else named
            chosen.append(Subject(key, organ, image.source, who, run, image.pixels, kind, image.instance))
    return chosen


def few(subjects: Sequence[Subject], most: int) -> list[Subject]:
    """At most so many of each kind (or of what is genuine) and organ."""
    groups = _groups(subjects, lambda subject: (subject.kind, subject.organ))
    return [subject for _, group in groups for subject in spread(group, most)]


def by_source(subjects: Iterable[Subject]) -> list[tuple[str, list[Subject]]]:
    return _groups(subjects, lambda subject: subject.source)


def spread(items: Sequence[Item], most: int) -> list[Item]:
    """At most `most` of the items, evenly from first to last."""
    if len(items) <= most:
        return list(items)
    return [items[int(place)] for place in np.linspace(0, len(items) - 1, most).round()]


def _groups(items: Iterable[Item], key: Callable[[Item], Any]) -> list[tuple[Any, list[Item]]]:
    found: dict[Hashable, list[Item]] = defaultdict(list)
    for item in items:
        found[key(item)].append(item)
    return list(found.items())
