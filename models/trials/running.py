"""Tries a model on one case after the other: genuine first, then one edit of each family, with its twin at hand."""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from models import fusion
from models.datasets import Case
from models.errors import NoPlaceToEdit
from models.registry import LoadedModel, SlicePredictions
from models.tampering.benign import resized
from models.tampering.compose import Tampered, tamper_volume
from models.tampering.material import Donor, Material
from models.trials import showing
from models.trials.boxes import boxes
from models.trials.conditions import CONDITIONS
from models.trials.records import PIXEL_THRESHOLDS, Plan, ScanTrial, SliceTrial, StudyTrial, Trials
from models.trials.regions import regions

_EDITED = 30  # pixels of a slice that must have changed for it to count as edited
_WITHOUT_TUMOUR = ("brain-ms", "t1-healthy")  # sources whose patients have none
_KEPT = 3  # misses of a case, and half as many alarms, that are kept for the eye


def run(
    model: LoadedModel,
    cases: Sequence[Case],
    families: Sequence[str],
    donors: Sequence[Donor],
    plan: Plan,
    seed: int,
    *,
    more: Sequence[str] = (),
) -> Iterator[Trials]:
    """The trials of one case after the other, so that a caller can show progress; the seed decides the edits.

    `more` families are tried after `families`; edits and conditions of those do not depend on them.
    """
    for case in cases:
        tried = _Tried(model, case, donors, plan, Trials())
        rngs = [np.random.default_rng([seed, zlib.crc32(case.series.encode()), *stream]) for stream in ((), (1,), (2,))]
        (tried.singles if case.separate else tried.series)(families, more, rngs)
        made = tried.trials
        made.misses = showing.worst(made.misses, _KEPT, of_one=_KEPT)
        made.alarms = showing.worst(made.alarms, _KEPT // 2, of_one=_KEPT)
        yield made


@dataclass
class _Tried:
    """One case, and what was written down of it so far."""

    model: LoadedModel
    case: Case
    donors: Sequence[Donor]
    plan: Plan
    trials: Trials

    def series(self, families: Sequence[str], more: Sequence[str], rngs: list[np.random.Generator]) -> None:
        case, plan = self.case, self.plan
        volume = np.array(case.images)
        genuine = self.model.predict(volume.astype(np.float32), case.spacing)
        for index in range(len(volume)):
            self._genuine(volume, index, genuine, index)
        self._scan(None, False, genuine)
        self._study(None, False, genuine.image_logit, genuine.edit, volume)
        native = volume.dtype.itemsize > 1
        made = []
        for names, rng in ((families, rngs[0]), (more, rngs[1])):
            repeats = plan.native_edits if native else plan.edits
            for family in names:
                for _ in range(int(repeats) + int(rng.random() < repeats % 1)):
                    touched = bool(rng.random() < 0.5)
                    tampered = self._tampered(volume, family, rng, touched)
                    if tampered is not None and (tampered.volume != volume).any():
                        self._edited_series(volume, genuine, tampered, touched, counted=family in families)
                        if family in families:
                            made.append((tampered, touched))
        wanted = plan.native_conditions if native else plan.conditions
        rng = rngs[2]
        for place in rng.permutation(len(made))[: int(wanted) + int(rng.random() < wanted % 1)]:
            tampered, touched = made[int(place)]
            index = int(tampered.mask.sum(axis=(1, 2)).argmax())
            around = slice(max(0, index - 1), index + 2)
            self._conditions(volume[around], tampered, around, index, touched)

    def _edited_series(
        self, volume: NDArray[Any], genuine: SlicePredictions, tampered: Tampered, touched: bool, *, counted: bool
    ) -> None:
        case = self.case
        edited = np.flatnonzero((tampered.volume != volume).any(axis=(1, 2)))
        logits = genuine.image_logit.copy()
        seen = list(range(max(0, edited[0] - 1), min(len(volume), edited[-1] + 2)))
        said = self.model.predict(tampered.volume.astype(np.float32), case.spacing, only=seen)
        logits[seen] = said.image_logit
        edit = genuine.edit.copy()
        edit[seen] = said.edit
        self._study(tampered.family, touched, logits, edit, tampered.volume)
        if counted:
            self.trials.edits.append(zlib.crc32(np.ascontiguousarray(tampered.volume[seen]).tobytes()))
        self._scan(tampered.family, touched, said, tampered.mask[seen])
        for place, index in enumerate(seen):
            if tampered.mask[index].sum() >= _EDITED:
                self._edited(volume, tampered, index, (said, place), float(genuine.image_logit[index]), touched)

    def singles(self, families: Sequence[str], more: Sequence[str], rngs: list[np.random.Generator]) -> None:
        """A case of slices that do not belong together: each is looked at alone, a sample of them is edited."""
        case, plan = self.case, self.plan
        order = rngs[0].permutation(len(case.images))[: plan.single_genuine]
        logits = {}
        for index in (int(each) for each in order):
            slice_ = np.array(case.images[index])[np.newaxis]
            said = self.model.predict(slice_.astype(np.float32))
            logits[index] = float(said.image_logit[0])
            self._genuine(slice_, 0, said, index)
            self._scan(None, False, said)
        made = []
        for names, rng in ((families, rngs[0]), (more, rngs[1])):
            for family in names:
                for index in rng.choice(order, size=min(plan.single_edits, len(order)), replace=False):
                    slice_ = np.array(case.images[int(index)])[np.newaxis]
                    touched = bool(rng.random() < 0.5)
                    tampered = self._tampered(slice_, family, rng, touched)
                    if tampered is None or tampered.mask.sum() < _EDITED:
                        continue
                    said = self.model.predict(tampered.volume.astype(np.float32))
                    self._scan(family, touched, said, tampered.mask)
                    self._edited(slice_, tampered, 0, (said, 0), logits[int(index)], touched, int(index))
                    if family in families:
                        self.trials.edits.append(zlib.crc32(np.ascontiguousarray(tampered.volume).tobytes()))
                        made.append((slice_, tampered, touched, int(index)))
        for place in rngs[2].permutation(len(made))[: plan.single_conditions]:
            slice_, tampered, touched, index = made[int(place)]
            self._conditions(slice_, tampered, slice(0, 1), index, touched)

    def _tampered(self, volume: NDArray[Any], family: str, rng: np.random.Generator, touched: bool) -> Tampered | None:
        spacing = None if self.case.separate else self.case.spacing
        try:
            return tamper_volume(volume, family, rng, spacing=spacing, donors=self.donors, touched_up=touched)
        except NoPlaceToEdit:
            return None

    def _genuine(self, volume: NDArray[Any], index: int, said: SlicePredictions, number: int) -> None:
        """Slice `index` of `volume`, which is image `number` of the case."""
        logit = float(said.image_logit[index])
        none = np.zeros(volume.shape[1:], dtype=np.bool_)
        self.trials.slices.append(self._slice(None, False, logit, logit, (said, index), none, number))
        if logit > max((each.logit for each in self.trials.alarms), default=-np.inf):
            about = self._about(number, None, False, logit)
            self.trials.alarms.append(showing.shown(about, (volume, volume), index, none, said.edit[index]))

    def _edited(
        self,
        volume: NDArray[Any],
        tampered: Tampered,
        index: int,
        answer: tuple[SlicePredictions, int],
        twin: float,
        touched: bool,
        number: int | None = None,
    ) -> None:
        said, place = answer
        mask, logit = tampered.mask[index], float(said.image_logit[place])
        number = index if number is None else number
        self.trials.slices.append(self._slice(tampered, touched, logit, twin, answer, mask, number))
        if len(self.trials.misses) < _KEPT or logit < max(each.logit for each in self.trials.misses):
            about = self._about(number, tampered.family, touched, logit)
            pair = (volume, tampered.volume)
            self.trials.misses.append(showing.shown(about, pair, index, mask, said.edit[place]))
            self.trials.misses = showing.worst(self.trials.misses, _KEPT, of_one=_KEPT)

    def _conditions(self, genuine: NDArray[Any], tampered: Tampered, around: slice, number: int, touched: bool) -> None:
        """The middle of a slab after each condition, edited and genuine; neighbours are looked at, the rest is not."""
        middle = 0 if self.case.separate else number - around.start
        edited, mask = tampered.volume[around], tampered.mask[around][middle]
        if mask.sum() < _EDITED:
            return
        material = Material.of(genuine.astype(np.float32))
        for name, (condition, factor) in CONDITIONS.items():
            pair = [condition(slab.astype(np.float32), material) for slab in (genuine, edited)]
            if not self.model.card.covers(*pair[0].shape[1:]):
                continue
            first, second = (self.model.predict(np.rint(slab), self.case.spacing, only=[middle]) for slab in pair)
            where = mask if factor == 1.0 else resized(mask.astype(np.uint8), factor, cv2.INTER_NEAREST) > 0
            logits = float(second.image_logit[0]), float(first.image_logit[0])
            made = self._slice(tampered, touched, *logits, (second, 0), where, number)
            self.trials.conditions.append(replace(made, condition=name))

    def _slice(
        self,
        tampered: Tampered | None,
        touched: bool,
        logit: float,
        twin: float,
        answer: tuple[SlicePredictions, int],
        mask: NDArray[np.bool_],
        number: int,
    ) -> SliceTrial:
        case, (said, place) = self.case, answer
        edit, types = said.edit[place], said.edit_type[place]
        right = float("nan")
        names = self.model.card.edit_types
        if tampered is not None and tampered.edit_type.value in names:
            true = names.index(tampered.edit_type.value)
            right = float((types.argmax(axis=0)[mask] == true).mean())
        weight = np.where(edit >= 0.5, edit, 0.0)
        tumour = getattr(said, "tumour", None)  # of models that tell: (slices,), probability of a real tumour
        return SliceTrial(
            source=case.source,
            patient=case.patient,
            family=tampered.family if tampered else None,
            touched_up=touched,
            logit=logit,
            twin=twin,
            pixels=_counts(edit, mask),
            type_right=right,
            series=case.series,
            index=number,
            position=float("nan") if case.separate else number / max(len(case.images) - 1, 1),
            edit_type=tampered.edit_type.value if tampered else None,
            size=float(2 * np.sqrt(mask.sum() / np.pi) / mask.shape[1]),
            tumour=shows_tumour(case, number),
            tumour_said=float("nan") if tumour is None else float(tumour[place]),
            shares=(types * weight).sum(axis=(1, 2)) / max(float(weight.sum()), 1e-6),
        )

    def _study(
        self,
        family: str | None,
        touched: bool,
        logits: NDArray[np.float32],
        edit: NDArray[np.float32],
        volume: NDArray[Any],
    ) -> None:
        """A whole series: of its pixels, what a study-level decision needs is kept and no more."""
        case = self.case
        found = fusion.evidence(edit, logits, volume, case.spacing, through_plane=self.plan.through_plane)
        self.trials.studies.append(StudyTrial(case.source, case.patient, family, touched, logits, found))

    def _scan(
        self, family: str | None, touched: bool, said: SlicePredictions, mask: NDArray[np.bool_] | None = None
    ) -> None:
        """What is pointed at in a scan, and with the `mask` of its edit what hits that."""
        case = self.case

        def trial(scores: NDArray[np.float32]) -> ScanTrial:
            return ScanTrial(case.source, case.patient, family, touched, case.separate, scores)

        self.trials.scans.append(trial(regions(said.edit, mask)))
        if said.density is not None:
            self.trials.boxes.append(trial(boxes(said.density, mask)))

    def _about(self, number: int, family: str | None, touched: bool, logit: float) -> dict[str, Any]:
        case = self.case
        return {
            "source": case.source,
            "series": case.series,
            "index": number,
            "family": family,
            "touched_up": touched,
            "logit": logit,
        }


def shows_tumour(case: Case, number: int) -> bool | None:
    """Whether a slice shows a marked tumour; None where its source marks none."""
    if case.boxes is not None:
        return True
    if case.lesion is not None:
        return bool(np.asarray(case.lesion[number]).any())
    return False if case.source in _WITHOUT_TUMOUR else None


def _counts(edit: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(thresholds, 3): pixels found, wrongly found and missed."""
    at = np.searchsorted(PIXEL_THRESHOLDS, edit, side="right")  # so many thresholds a pixel passes
    passed = [
        np.bincount(at[where], minlength=len(PIXEL_THRESHOLDS) + 1)[::-1].cumsum()[::-1][1:] for where in (mask, ~mask)
    ]
    return np.stack([passed[0], passed[1], int(mask.sum()) - passed[0]], axis=1).astype(np.int64)
