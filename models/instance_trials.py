"""Looks at whole patients with a model of instances and the U-Net beside it, and writes down what they said.

A lesion is a connected part of a series' mask, a region one of what is called a real tumour. Nothing is judged here, so
that thresholds can be chosen on some patients and applied to others.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import track
from scipy import ndimage

from models import density
from models.datasets import Case
from models.density import DensityBox
from models.errors import NoPlaceToEdit
from models.instance_model import Instance, InstanceModel
from models.instances import parts
from models.registry import LoadedModel, SlicePredictions
from models.tampering.compose import Tampered, tamper_volume
from models.tampering.families import EditType
from models.tampering.material import Donor, Mask
from models.trials import PIXEL_THRESHOLDS, SliceTrial
from models.trials.running import shows_tumour

THRESHOLDS = np.round(np.arange(0.1, 1.0, 0.05), 2)  # of a real tumour's score
NOTHING = -4.0  # the logit of a slice on which no edited instance was seen
_OVERLAP, _COVERED, _TOUCHED = 0.3, 1 / 3, 0.1
_LEAST_VOXELS, _LEAST_EDITED = 100, 30
_KINDS = ("flair", "post")  # images of one patient that show a tumour quite differently
_SUREST = 0.999


@dataclass(frozen=True)
class LesionTrial:
    """A real lesion, at each of THRESHOLDS: whether a third of it is covered, and the Dice with what touches it."""

    group: str
    patient: str
    found: NDArray[np.bool_] = field(repr=False)
    dice: NDArray[np.float64] = field(repr=False)


@dataclass(frozen=True)
class SeriesTrial:
    """A genuine series, at each of THRESHOLDS: `dice` of all that was marked (NaN where there is no lesion), regions
    of 100 voxels and more that are on none (`false`), slices without a lesion that show one (`false_slices`, of
    `slices_without`), lesions on single slices that an instance overlaps (`parts_found`, of `parts`).
    """

    group: str
    patient: str
    dice: NDArray[np.float64] = field(repr=False)
    false: NDArray[np.int64] = field(repr=False)
    false_slices: NDArray[np.int64] = field(repr=False)
    slices_without: int
    parts_found: NDArray[np.int64] = field(repr=False)
    parts: int


@dataclass(frozen=True)
class SliceSeen:
    """One slice, genuine or edited, as both models see it.

    `trial` is the U-Net's answer with the score of the surest real tumour. `edited` is the logit of the surest instance
    that was edited, wherever it lies; `there` its score where the edit is, `right` whether it names the kind.
    `shares` are the U-Net's edit types where Mask R-CNN has a say on whether there is a lesion.
    """

    trial: SliceTrial
    edited: float
    there: float
    right: bool
    shares: NDArray[np.float32] = field(repr=False)


@dataclass
class InstanceTrials:
    """Everything that was looked at in one run."""

    lesions: list[LesionTrial] = field(default_factory=list)
    series: list[SeriesTrial] = field(default_factory=list)
    slices: list[SliceSeen] = field(default_factory=list)


def run(
    model: InstanceModel,
    proposer: LoadedModel | None,
    cases: Sequence[Case],
    donors: Sequence[Donor],
    families: Sequence[str],
    *,
    seed: int,
    edits: int = 3,
    quiet: bool = False,
) -> InstanceTrials:
    """Look at every series of `cases`, and at `edits` of them by some of `families`, drawn by the seed.

    `proposer` is the U-Net whose density map proposes regions. Sets of single slices are left out: they have boxes, and
    no mask that a Dice could be of.
    """
    trials = InstanceTrials()
    for case in track([case for case in cases if not case.separate], "instances", disable=quiet):
        rng = np.random.default_rng([seed, zlib.crc32(case.series.encode())])
        looker = _Looker(model, proposer, case, trials)
        looker.genuine()
        for place in rng.permutation(len(families))[:edits]:
            try:
                made = tamper_volume(
                    np.array(case.images), families[int(place)], rng, spacing=case.spacing, donors=donors
                )
            except NoPlaceToEdit:
                continue
            looker.edited(made)
    return trials


@dataclass(frozen=True)
class _Looker:
    model: InstanceModel
    proposer: LoadedModel | None
    case: Case
    trials: InstanceTrials

    @property
    def group(self) -> str:
        kind = self.case.series.rsplit("-", 1)[-1]
        return f"{self.case.source} {kind}" if kind in _KINDS else self.case.source

    def genuine(self) -> None:
        volume = np.array(self.case.images)
        found, said = self._look(volume, list(range(len(volume))))
        for index, on in enumerate(found):
            self._slice(index, on, said, index, None)
        truth = self.case.lesion if self.case.lesion is not None else np.zeros(volume.shape, np.bool_)
        self._real(found, np.asarray(truth))

    def edited(self, made: Tampered) -> None:
        chosen = [int(index) for index in np.flatnonzero(made.mask.sum(axis=(1, 2)) >= _LEAST_EDITED)]
        found, said = self._look(made.volume, chosen)
        for place, (index, on) in enumerate(zip(chosen, found, strict=True)):
            self._slice(index, on, said, place, made)

    def _look(self, volume: NDArray[Any], only: list[int]) -> tuple[list[list[Instance]], SlicePredictions | None]:
        values = volume.astype(np.float32)
        if self.proposer is None:
            return self.model.predict(values, only=only), None
        said = self.proposer.predict(values, self.case.spacing, only=only)
        proposals: list[list[DensityBox]] = [[] for _ in range(len(values))]
        maps = said.density if said.density is not None else density.of_probabilities(said.edit)
        for index, plane in zip(only, maps, strict=True):
            proposals[index] = density.boxes(plane)
        return self.model.predict(values, proposals, only=only), said

    def _real(self, found: list[list[Instance]], truth: Mask) -> None:
        case, count = self.case, len(THRESHOLDS)
        said = np.stack([lesion_map(on, truth.shape[1:]) for on in found])
        lesions = _lesions(truth)
        covered, dice = np.zeros((len(lesions), count), np.bool_), np.zeros((len(lesions), count))
        false, whole = np.zeros(count, np.int64), np.full(count, np.nan)
        for at, threshold in enumerate(THRESHOLDS):
            regions, number = ndimage.label(said >= threshold, structure=np.ones((3, 3, 3)))
            sizes = np.bincount(regions.ravel(), minlength=number + 1)
            shared = np.bincount(regions[truth], minlength=number + 1)
            false[at] = ((sizes >= _LEAST_VOXELS) & (shared < _TOUCHED * sizes))[1:].sum()
            marked = int(sizes[1:].sum())
            if truth.any():
                whole[at] = 2 * shared[1:].sum() / (marked + truth.sum())
            for place, lesion in enumerate(lesions):
                touching = regions[lesion]
                inside, own = int((touching > 0).sum()), int(lesion.sum())
                covered[place, at] = inside >= _COVERED * own
                dice[place, at] = 2 * inside / (own + int(sizes[np.unique(touching[touching > 0])].sum()))
        self.trials.lesions += [
            LesionTrial(self.group, case.patient, *each) for each in zip(covered, dice, strict=True)
        ]
        real = [[(each.score, painted(each, truth.shape[1:])) for each in on if each.kind == "real"] for on in found]
        of_parts = [
            max((score for score, mask in real[index] if iou(mask, part) >= _OVERLAP), default=0.0)
            for index in range(len(truth))
            for part in parts(truth[index])
        ]
        empty = [max((score for score, _ in real[k]), default=0.0) for k in range(len(truth)) if not truth[k].any()]
        self.trials.series.append(
            SeriesTrial(
                self.group, case.patient, whole, false,
                _passing(empty), len(empty), _passing(of_parts), len(of_parts),
            )
        )  # fmt: skip

    def _slice(
        self, index: int, on: list[Instance], said: SlicePredictions | None, place: int, made: Tampered | None
    ) -> None:
        case = self.case
        edits = [each for each in on if each.kind != "real"]
        mask = made.mask[index] if made is not None else None
        there = [each for each in edits if mask is not None and iou(painted(each, mask.shape), mask) >= _OVERLAP]
        surest = max(there, key=lambda each: each.score, default=None)
        wanted = None if made is None else "added" if made.edit_type is EditType.ADDED else "removed"
        shares = np.zeros(0, np.float32) if said is None else _shares(said, place)
        trial = SliceTrial(
            source=case.source, patient=case.patient, family=made.family if made else None, touched_up=False,
            logit=float("nan") if said is None else float(said.image_logit[place]), twin=float("nan"),
            pixels=np.zeros((len(PIXEL_THRESHOLDS), 3), np.int64), series=case.series, index=index,
            edit_type=made.edit_type.value if made else None, tumour=shows_tumour(case, index),
            tumour_said=max((each.score for each in on if each.kind == "real"), default=0.0), shares=shares,
        )  # fmt: skip
        told = shares if said is None or self.proposer is None else _told(said.edit[place], shares, on, self.proposer)
        score = max((each.score for each in edits), default=0.0)
        self.trials.slices.append(
            SliceSeen(
                trial, NOTHING if score == 0 else _logit(score),
                surest.score if surest else 0.0, surest is not None and surest.kind == wanted, told,
            )
        )  # fmt: skip


def painted(instance: Instance, shape: tuple[int, ...]) -> Mask:
    """The pixels (rows, columns) that an instance claims."""
    mask = np.zeros(shape, dtype=np.bool_)
    row0, column0, row1, column1 = instance.box
    mask[row0:row1, column0:column1] = instance.mask >= 0.5
    return mask


def lesion_map(instances: Sequence[Instance], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """For each pixel (rows, columns) the score of the surest real tumour that claims it."""
    result = np.zeros(shape, dtype=np.float32)
    for each in instances:
        if each.kind == "real":
            mask = painted(each, shape)
            result[mask] = np.maximum(result[mask], each.score)
    return result


def iou(one: Mask, other: Mask) -> float:
    return float((one & other).sum() / max(1, (one | other).sum()))


def _lesions(truth: Mask) -> list[Mask]:
    marks, count = ndimage.label(truth, structure=np.ones((3, 3, 3)))
    each = [marks == label for label in range(1, count + 1)]
    return [lesion for lesion in each if lesion.sum() >= _LEAST_VOXELS]


def _passing(scores: Sequence[float]) -> NDArray[np.int64]:
    """How many of them reach each of THRESHOLDS."""
    return np.array([sum(score >= threshold for score in scores) for threshold in THRESHOLDS], np.int64)


def _shares(said: SlicePredictions, place: int) -> NDArray[np.float32]:
    """The edit types of what the U-Net flags, weighted by its probability."""
    weight = np.where(said.edit[place] >= 0.5, said.edit[place], 0.0)
    return np.asarray((said.edit_type[place] * weight).sum(axis=(1, 2)) / max(float(weight.sum()), 1e-6), np.float32)


def _told(
    edit: NDArray[np.float32], shares: NDArray[np.float32], on: Sequence[Instance], proposer: LoadedModel
) -> NDArray[np.float32]:
    """The shares, after Mask R-CNN said of what the U-Net flags whether there is a lesion."""
    flagged = edit >= 0.5
    seen, gone = (
        max((e.score for e in on if (e.kind == "removed") is away and (painted(e, flagged.shape) & flagged).any()),
            default=0.0)
        for away in (False, True)
    )  # fmt: skip
    lesion = (seen + 0.1) / (seen + gone + 0.2)
    factors = {"added": lesion, "removed": 1 - lesion}
    return shares * np.array([factors.get(name, 0.5) for name in proposer.card.edit_types], np.float32)


def _logit(score: float) -> float:
    bounded = min(score, _SUREST)
    return float(np.log(bounded / (1 - bounded)))
