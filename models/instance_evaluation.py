"""What a model of instances was measured to do: real lesions, edits beside the U-Net, the four classes of both.

A lesion is found when what is called real covers a third of its voxels; its Dice is with all regions that touch it, so
that neither what was missed nor what was marked beside it is forgiven. A false lesion is a region of 100 voxels and
more of which less than a tenth is tumour. Intervals are 95 %, whole patients redrawn.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.card import ModelCard
from models.evaluation.classes import classes
from models.evaluation.slices import Figures, between, mean, patients, share
from models.figures import auc, sensitivity_at
from models.instance_trials import THRESHOLDS, InstanceTrials, LesionTrial, SeriesTrial, SliceSeen
from models.tampering.families import FAMILIES, EditType

ALL = "all"
FALSE_ALARMS = 0.05


def report(trials: InstanceTrials, card: ModelCard, proposer: ModelCard | None) -> Figures:
    """Every figure at the thresholds and with the calibration of `card`; `proposer` is the U-Net's."""
    at = _place(card.thresholds.lesion)
    groups = sorted({series.group for series in trials.series})
    return {
        "lesion_threshold": float(THRESHOLDS[at]),
        "proposer": "none" if proposer is None else f"{proposer.name} {proposer.version}",
        "real": {name: real(trials, at, name) for name in (*groups, ALL)},
        "edits": edits(trials.slices, card, proposer),
        "kinds": {
            kind.value: edited_slices(trials.slices, [s for s in trials.slices if s.trial.edit_type == kind.value])
            for kind in (EditType.ADDED, EditType.REMOVED)
        },
        **_classes(trials.slices, card, proposer),
    }


def real(trials: InstanceTrials, at: int, group: str) -> Figures:
    """Real lesions of one group (`ALL`: of every one) at the threshold in place `at`."""
    lesions = [each for each in trials.lesions if group in (each.group, ALL)]
    series = [each for each in trials.series if group in (each.group, ALL)]
    bad = [each for each in series if each.slices_without]
    return {
        "series": len(series),
        "patients": len({each.patient for each in series}),
        "lesions": len(lesions),
        "found": share([each.found[at] for each in lesions]),
        "dice": mean([each.dice[at] for each in lesions]),
        "dice_found": mean([each.dice[at] for each in lesions if each.found[at]]),
        "dice_series": mean([each.dice[at] for each in series]),
        "on_slices": _ratio([each.parts_found[at] for each in series], [each.parts for each in series]),
        "false_a_series": share([each.false[at] for each in series]),
        "slices_without": sum(each.slices_without for each in bad),
        "false_slices": _ratio([each.false_slices[at] for each in bad], [each.slices_without for each in bad]),
        "intervals": _intervals(lesions, series, at),
    }


def _intervals(lesions: Sequence[LesionTrial], series: Sequence[SeriesTrial], at: int) -> Figures:
    found, dice = (np.array([getattr(each, name)[at] for each in lesions]) for name in ("found", "dice"))
    false = np.array([each.false[at] for each in series])
    of_lesions = between(
        [each.patient for each in lesions], lambda chosen: [found[chosen].mean(), dice[chosen].mean()], 2
    )
    of_series = between([each.patient for each in series], lambda chosen: [false[chosen].mean()], 1)
    return {"found": of_lesions[0], "dice": of_lesions[1], "false_a_series": of_series[0]}


def edits(slices: Sequence[SliceSeen], card: ModelCard, proposer: ModelCard | None) -> Figures:
    """Edited against genuine slices, by Mask R-CNN alone, by the U-Net alone and by the mean of their log-odds.

    The mean is what an analysis takes of models that judge edits. `gain` is what it adds to the U-Net's AUC.
    """
    edited = np.array([each.trial.family is not None for each in slices], np.bool_)
    alone = np.array([each.edited for each in slices])
    figures: Figures = {
        "edited_slices": int(edited.sum()),
        "genuine_slices": int((~edited).sum()),
        "auc": auc(alone[edited], alone[~edited]),
    }
    if proposer is None:
        return figures
    unet = np.array([each.trial.logit for each in slices])
    both = (_log_odds(proposer, unet) + _log_odds(card, alone)) / 2

    def measure(chosen: NDArray[np.int64]) -> list[float]:
        of, them = edited[chosen], (unet[chosen], both[chosen])
        one, two = (auc(each[of], each[~of]) for each in them)
        return [one, two, two - one]

    ends = between(patients([each.trial for each in slices]), measure, 3)
    values = measure(np.arange(len(slices)))
    return figures | {
        **dict(zip(("unet_auc", "both_auc", "gain"), values, strict=True)),
        "unet_at_5_percent": sensitivity_at(unet[edited], unet[~edited], FALSE_ALARMS),
        "both_at_5_percent": sensitivity_at(both[edited], both[~edited], FALSE_ALARMS),
        "intervals": dict(zip(("unet_auc", "both_auc", "gain"), ends, strict=True)),
    }


def edited_slices(slices: Sequence[SliceSeen], chosen: Sequence[SliceSeen]) -> Figures:
    """Edits of `chosen` slices that an instance lies on, at the score that one in twenty genuine slices passes."""
    genuine = [1 / (1 + np.exp(-each.edited)) for each in slices if each.trial.family is None]
    bound = float(np.quantile(genuine, 1 - FALSE_ALARMS)) if genuine else 1.0
    hits = [each for each in chosen if each.there > bound]
    return {
        "edited_slices": len(chosen),
        "score_at_5_percent": bound,
        "found_at_5_percent": len(hits) / len(chosen) if chosen else float("nan"),
        "kind_right": share([each.right for each in hits]),
        "families": {
            name: share([each.there > bound for each in chosen if each.trial.family == name])
            for name in sorted({str(each.trial.family) for each in chosen})
            if name in FAMILIES
        },
    }


def _classes(slices: Sequence[SliceSeen], card: ModelCard, proposer: ModelCard | None) -> Figures:
    """The four classes of both networks: whether edited is the U-Net's answer, the kind that of both."""
    if proposer is None:
        return {}
    judge = proposer.model_copy(
        update={"thresholds": proposer.thresholds.model_copy(update={"lesion": card.thresholds.lesion})}
    )
    both = classes([replace(each.trial, shares=each.shares) for each in slices], judge)
    alone = classes([each.trial for each in slices], judge)
    return {"classes": both, "accuracy_four_kind_of_unet": alone["accuracy_four"]}


def _log_odds(card: ModelCard, logits: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(card.calibration.slice.slope * logits + card.calibration.slice.offset)


def _place(threshold: float) -> int:
    return int(np.abs(THRESHOLDS - threshold).argmin())


def _ratio(some: Sequence[Any], of: Sequence[int]) -> float:
    return float(sum(some) / sum(of)) if sum(of) else float("nan")
