"""Runs a model over genuine and tampered series of one split and writes down what it said; judges nothing."""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.card import ModelCard
from models.datasets import Case
from models.errors import NoPlaceToEdit
from models.registry import LoadedModel
from models.tampering.compose import Tampered, tamper_volume
from models.tampering.material import Donor

PIXEL_THRESHOLDS = np.round(np.arange(0.05, 1.0, 0.05), 2)
_EDITED = 30  # pixels of a slice that must have changed for it to count as edited


@dataclass(frozen=True)
class SliceTrial:
    """One slice: its image logit, and pixel counts (true, false, missed) at each of PIXEL_THRESHOLDS.

    `family` None: genuine. `twin` is the logit of the genuine slice at the same place. `type_right`: share of the
    edited pixels whose most likely edit type is the true one.
    """

    source: str
    patient: str
    family: str | None
    touched_up: bool
    logit: float
    twin: float
    pixels: NDArray[np.int64] = field(repr=False)
    type_right: float = float("nan")


@dataclass(frozen=True)
class StudyTrial:
    """One series as a study-level decision sees it: the image logits of its slices, in order."""

    source: str
    patient: str
    family: str | None
    touched_up: bool
    logits: NDArray[np.float32] = field(repr=False)


@dataclass
class Trials:
    """Everything that was tried in one run."""

    slices: list[SliceTrial] = field(default_factory=list)
    studies: list[StudyTrial] = field(default_factory=list)


@dataclass(frozen=True)
class Plan:
    """How often each family is tried: edits per series (`native`: of more than 8 bit), and single slices.

    A fraction is a chance.
    """

    edits: float = 0.25
    native_edits: float = 2.0
    single_genuine: int = 120
    single_edits: int = 5


def run(
    model: LoadedModel, cases: Sequence[Case], families: Sequence[str], donors: Sequence[Donor], plan: Plan, seed: int
) -> Iterator[Trials]:
    """The trials of one case after the other, so that a caller can show progress; the seed decides the edits."""
    for case in cases:
        rng = np.random.default_rng([seed, zlib.crc32(case.series.encode())])
        yield (
            _singles(model, case, families, donors, plan, rng)
            if case.separate
            else _series(model, case, families, donors, plan, rng)
        )


def _series(
    model: LoadedModel,
    case: Case,
    families: Sequence[str],
    donors: Sequence[Donor],
    plan: Plan,
    rng: np.random.Generator,
) -> Trials:
    volume = np.array(case.images)
    genuine = model.predict(volume.astype(np.float32), case.spacing)
    trials = Trials()
    for index, logit in enumerate(genuine.image_logit):
        counts = _counts(genuine.edit[index], np.zeros(volume.shape[1:], dtype=np.bool_))
        trials.slices.append(_slice(case, None, False, float(logit), float(logit), counts))
    trials.studies.append(StudyTrial(case.source, case.patient, None, False, genuine.image_logit))
    repeats = plan.native_edits if volume.dtype.itemsize > 1 else plan.edits
    for family in families:
        for _ in range(int(repeats) + int(rng.random() < repeats % 1)):
            touched = bool(rng.random() < 0.5)
            try:
                tampered = tamper_volume(volume, family, rng, spacing=case.spacing, donors=donors, touched_up=touched)
            except NoPlaceToEdit:
                continue
            logits = genuine.image_logit.copy()
            edited = np.flatnonzero((tampered.volume != volume).any(axis=(1, 2)))
            if not len(edited):
                continue
            seen = list(range(max(0, edited[0] - 1), min(len(volume), edited[-1] + 2)))
            said = model.predict(tampered.volume.astype(np.float32), case.spacing, only=seen)
            logits[seen] = said.image_logit
            trials.studies.append(StudyTrial(case.source, case.patient, family, touched, logits))
            for place, index in enumerate(seen):
                mask = tampered.mask[index]
                if mask.sum() >= _EDITED:
                    right = _type_right(said.edit_type[place], mask, tampered, model.card)
                    counts = _counts(said.edit[place], mask)
                    twin = float(genuine.image_logit[index])
                    trials.slices.append(
                        _slice(case, family, touched, float(said.image_logit[place]), twin, counts, right)
                    )
    return trials


def _singles(
    model: LoadedModel,
    case: Case,
    families: Sequence[str],
    donors: Sequence[Donor],
    plan: Plan,
    rng: np.random.Generator,
) -> Trials:
    """A case of slices that do not belong together: each is looked at alone, a sample of them is edited."""
    trials = Trials()
    order = rng.permutation(len(case.images))[: plan.single_genuine]
    logits = {}
    for index in order:
        said = model.predict(np.asarray(case.images[index], dtype=np.float32)[np.newaxis])
        logits[int(index)] = float(said.image_logit[0])
        counts = _counts(said.edit[0], np.zeros(said.edit[0].shape, dtype=np.bool_))
        trials.slices.append(_slice(case, None, False, logits[int(index)], logits[int(index)], counts))
    for family in families:
        for index in rng.choice(order, size=min(plan.single_edits, len(order)), replace=False):
            slice_ = np.array(case.images[int(index)])[np.newaxis]
            touched = bool(rng.random() < 0.5)
            try:
                tampered = tamper_volume(slice_, family, rng, donors=donors, touched_up=touched)
            except NoPlaceToEdit:
                continue
            if tampered.mask.sum() < _EDITED:
                continue
            said = model.predict(tampered.volume.astype(np.float32))
            right = _type_right(said.edit_type[0], tampered.mask[0], tampered, model.card)
            counts = _counts(said.edit[0], tampered.mask[0])
            twin = logits[int(index)]
            trials.slices.append(_slice(case, family, touched, float(said.image_logit[0]), twin, counts, right))
    return trials


def _counts(edit: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(thresholds, 3): pixels found, wrongly found and missed."""
    flagged = edit[np.newaxis] >= PIXEL_THRESHOLDS[:, np.newaxis, np.newaxis]
    true = (flagged & mask).sum(axis=(1, 2))
    return np.stack([true, flagged.sum(axis=(1, 2)) - true, mask.sum() - true], axis=1)


def _type_right(said: NDArray[np.float32], mask: NDArray[np.bool_], tampered: Tampered, card: ModelCard) -> float:
    return float((said.argmax(axis=0)[mask] == card.edit_types.index(tampered.edit_type.value)).mean())


def _slice(
    case: Case, family: str | None, touched: bool, logit: float, twin: float, counts: Any, right: float = float("nan")
) -> SliceTrial:
    return SliceTrial(case.source, case.patient, family, touched, logit, twin, counts, right)
