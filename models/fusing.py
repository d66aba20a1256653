"""Learns how to judge whole series, from trials on the patients kept for calibration: few, so as little as possible.

Two ways are fitted: the strongest run of slices alone, and its fusion with what else is known (models.fusion). Each
patient is judged by what was learned from the others; only where the fusion is better there does it go into the card.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from models import fusion
from models.calibration import logistic, longest_as_good, turns
from models.card import Calibration, Fusion, Logistic, Thresholds, strongest_run
from models.figures import auc, calibration_error
from models.tampering.families import TRAINED
from models.trials import StudyTrial, Trials

FloatArray = NDArray[np.float64]

_PENALTIES = (0.003, 0.01, 0.03, 0.1)
_FREE = 1e-3  # penalty of the run that would decide alone
_FEWEST = 4  # patients to fuse on, and patients for a calibration of a group's own
_FEWEST_GENUINE = 8  # series of a group
_BETTER = 0.005  # of log loss; a fusion that gains less is not worth its numbers
_AS_WELL = 0.01  # of AUC, by which the fusion may rank worse
_MORE_FLAGGED, _LOUDER = 2.0, 1.0  # a factor, and logits, by which a series may be louder than those calibrated on


@dataclass(frozen=True)
class Judging:
    """How series are judged, for a card; `fused` None: by the strongest run alone."""

    fused: Fusion | None
    thresholds: Thresholds
    told: dict[str, Any]


@dataclass(frozen=True, eq=False)
class _Series:
    """Genuine calibration series and edited ones; `values` (series, features)."""

    trials: Sequence[StudyTrial]
    values: FloatArray
    edited: NDArray[np.bool_]
    patients: NDArray[np.str_]
    depths: NDArray[np.str_]

    def among(self, chosen: NDArray[np.bool_]) -> "_Series":
        trials = [trial for trial, wanted in zip(self.trials, chosen, strict=True) if wanted]
        return _Series(trials, self.values[chosen], self.edited[chosen], self.patients[chosen], self.depths[chosen])

    @property
    def run(self) -> int:
        """Which feature is the run of slices that would decide alone; runs are the first features."""
        return longest_as_good(self.values[:, : len(fusion.RUNS)], self.edited)

    @property
    def weights(self) -> FloatArray:
        """Genuine and edited as equally frequent."""
        share = max(int(self.edited.sum()), 1), max(int((~self.edited).sum()), 1)
        return np.where(self.edited, 0.5 / share[0], 0.5 / share[1])


_Fitted = Callable[[_Series], FloatArray]  # what judges other series: their logits


def judge(
    trials: Trials, calibration: Calibration, thresholds: Thresholds, trained: Sequence[str] = TRAINED
) -> Judging:
    """Choose between fusion and the strongest run, and where REVIEW and SUSPECT begin.

    `calibration` and `thresholds` are of the strongest run alone. Trials without evidence cannot be fused.
    """
    series = _series([each for each in trials.studies if each.family is None or each.family in trained], calibration)
    genuine = ~series.edited
    runs = [strongest_run(trial.logits, calibration.run) for trial in series.trials if trial.family is None]
    alone = turns(runs, calibration.study)
    told: dict[str, Any] = {
        "patients": len(set(series.patients)),
        "genuine_series": int(genuine.sum()),
        "edited_series": int(series.edited.sum()),
    }
    reason = _refusal(series)
    if not reason:
        scores = _left_out(series, lambda rest: _weigher(rest, _penalty(rest)))
        told["leave_one_patient_out"] = {
            "strongest run": _figures(_left_out(series, lambda rest: _weigher(rest, None)), series),
            "fusion": _figures(scores, series),
        }
        reason = _not_better(*told["leave_one_patient_out"].values())
    if reason:
        return Judging(None, thresholds, told | {"by": "strongest run", "why": reason, **alone.told()})
    penalty = _penalty(series)
    fused, words = _fused(series, scores, penalty)
    calibrated = [
        _log_odds(fused.groups.get(str(depth), fused.pooled), score)
        for depth, score in zip(series.depths[genuine], scores[genuine], strict=True)
    ]
    chosen = turns(calibrated, Logistic())
    told |= {"by": "fusion", "why": "better on patients left out", "penalty": penalty, "groups": words}
    told |= chosen.told() | {"without_fusion": alone.told()}
    return Judging(fused, thresholds.model_copy(update={"review": chosen.review, "suspect": chosen.suspect}), told)


def _series(trials: Sequence[StudyTrial], calibration: Calibration) -> _Series:
    found = [trial.evidence or fusion.Evidence() for trial in trials]
    rows = [
        [*fusion.features(trial.logits, each, calibration).values()] for trial, each in zip(trials, found, strict=True)
    ]
    return _Series(
        trials,
        np.array(rows, np.float64).reshape(len(trials), len(fusion.FEATURES)),
        np.array([trial.family is not None for trial in trials], np.bool_),
        np.array([f"{trial.source} {trial.patient}" for trial in trials], np.str_),
        np.array([each.depth for each in found], np.str_),
    )


def _refusal(series: _Series) -> str:
    """Why there is nothing to fuse."""
    if any(trial.evidence is None for trial in series.trials):
        return "no evidence beside the logits was kept of these trials"
    patients = {kind: len(set(series.patients[series.edited == kind])) for kind in (False, True)}
    if min(patients.values()) < _FEWEST:
        return f"{min(patients.values())} patients to learn from; at least {_FEWEST} are needed"
    return ""


def _left_out(series: _Series, fit: Callable[[_Series], _Fitted]) -> FloatArray:
    """The logit of each series by what `fit` learned from all other patients."""
    scores = np.zeros(len(series.trials))
    for patient in sorted(set(series.patients)):
        own = series.patients == patient
        scores[own] = fit(series.among(~own))(series.among(own))
    return scores


def _weigher(series: _Series, penalty: float | None) -> _Fitted:
    weights, offset = _fit(series, penalty)
    return lambda other: np.asarray(other.values @ weights + offset)


def _penalty(series: _Series) -> float:
    """The penalty that serves patients left out best."""

    def loss(penalty: float) -> float:
        return _loss(_left_out(series, lambda rest: _weigher(rest, penalty)), series)

    return min(_PENALTIES, key=loss)


def _fit(series: _Series, penalty: float | None) -> tuple[FloatArray, float]:
    """Weights of the features and an offset: logistic regression, each weight of the sign that makes sense.

    The run that would decide alone is free; the others are drawn to none by `penalty`, held there where it is None.
    """
    names, weight = list(fusion.FEATURES), series.weights
    mean = weight @ series.values
    spread = np.sqrt(weight @ (series.values - mean) ** 2)
    alive = spread > 1e-6
    if penalty is None:
        alive &= np.arange(len(names)) == series.run
    scaled = np.where(alive, (series.values - mean) / np.where(alive, spread, 1.0), 0.0)
    strength = np.full(len(names), penalty or _FREE)
    strength[series.run] = _FREE
    sign = np.where(series.edited, -1.0, 1.0)

    def loss(parameters: FloatArray) -> tuple[float, FloatArray]:
        wrong = sign * (scaled @ parameters[:-1] + parameters[-1])
        slope = weight * sign / (1.0 + np.exp(-wrong))
        value = weight @ np.logaddexp(0.0, wrong) + strength @ parameters[:-1] ** 2
        return float(value), np.append(scaled.T @ slope + 2 * strength * parameters[:-1], slope.sum())

    bounds = [(0.0, None) if sign > 0 else (None, 0.0) for sign in fusion.FEATURES.values()]
    found = minimize(loss, np.zeros(len(names) + 1), jac=True, bounds=[*bounds, (None, None)], method="L-BFGS-B").x
    weights = np.where(alive, found[:-1] / np.where(alive, spread, 1.0), 0.0)
    return weights, float(found[-1] - weights @ mean)


def _fused(series: _Series, scores: FloatArray, penalty: float) -> tuple[Fusion, dict[str, str]]:
    """The fusion of all patients, calibrated by `scores` of patients left out; and how each group is calibrated."""
    weights, offset = _fit(series, penalty)
    groups, words = {}, {}
    for depth in sorted(set(series.depths)):
        own = series.depths == depth
        part = series.among(own)
        patients, genuine = len(set(part.patients)), int((~part.edited).sum())
        if patients >= _FEWEST and genuine >= _FEWEST_GENUINE and part.edited.any():
            groups[str(depth)] = logistic(scores[own], part.edited)
            words[str(depth)] = f"calibrated on its own {genuine} genuine series of {patients} patients"
        else:
            words[str(depth)] = (
                f"calibrated with all others: {genuine} genuine series of {patients} patients are too few"
            )
    named = {name: float(weight) for name, weight in zip(fusion.FEATURES, weights, strict=True) if weight}
    return Fusion(
        weights=named,
        offset=offset,
        pooled=logistic(scores, series.edited),
        groups=groups,
        loudest=_loudest(series),
        through_plane=bool(set(fusion.CONSISTENCY) & set(named)),
    ), words


def _loudest(series: _Series) -> dict[str, float]:
    loud = [fusion.loudness(trial.logits, trial.evidence or fusion.Evidence()) for trial in series.trials]
    return {
        fusion.FLAGGED: _MORE_FLAGGED * max(each[fusion.FLAGGED] for each in loud),
        fusion.FLOOR: _LOUDER + max(each[fusion.FLOOR] for each in loud),
    }


def _figures(scores: FloatArray, series: _Series) -> dict[str, float]:
    said = 1.0 / (1.0 + np.exp(-scores))
    genuine = scores[~series.edited]
    return {
        "auc": auc(scores[series.edited], genuine),
        "log_loss": _loss(scores, series),
        "calibration_error": calibration_error(said, series.edited),
        "found_above_all_genuine": float((scores[series.edited] > genuine.max()).mean()),
    }


def _loss(scores: FloatArray, series: _Series) -> float:
    return float(series.weights @ np.logaddexp(0.0, np.where(series.edited, -scores, scores)))


def _not_better(alone: dict[str, float], fused: dict[str, float]) -> str:
    """Why the fusion is not worth its numbers."""
    gain = alone["log_loss"] - fused["log_loss"]
    if gain < _BETTER:
        return f"on patients left out the fusion lowers the log loss by {gain:.3f}; {_BETTER} is the least that counts"
    if fused["auc"] < alone["auc"] - _AS_WELL:
        return f"on patients left out the fusion ranks worse: AUC {fused['auc']:.3f}, alone {alone['auc']:.3f}"
    return ""


def _log_odds(calibrated: Logistic, logit: float) -> float:
    return calibrated.slope * float(logit) + calibrated.offset
