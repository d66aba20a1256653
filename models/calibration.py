"""Turns logits into probabilities and chooses thresholds, from trials on patients kept for this alone."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from models.card import Calibration, Logistic, Thresholds, strongest_run
from models.figures import auc, f1
from models.tampering.families import TRAINED
from models.trials import PIXEL_THRESHOLDS, Trials

_RUNS = (1, 2, 3, 4)
_AS_GOOD = 0.012  # of AUC
_QUIET_SLICES = 0.01  # share of genuine slices that may pass the slice threshold
_REVIEW_STUDIES = 0.05  # share of genuine series that may pass the review threshold
_MARGIN = 1.0  # logits between the loudest genuine series and the suspect threshold: few series to calibrate on


def fit(trials: Trials, trained: Sequence[str] = TRAINED) -> Calibration:
    """Logistic calibration of slices and series, each with genuine and edited weighted as equally frequent.

    Edited are the families that the model was `trained` on.

    The run is the longest that ranks edited series above genuine ones about as well as the best: the longer, the less a
    single slice decides.
    """
    slices = [trial for trial in trials.slices if trial.family is None or trial.family in trained]
    ranking = {length: auc(*_series(trials, length, trained)) for length in _RUNS}
    run = max(length for length, value in ranking.items() if value >= max(ranking.values()) - _AS_GOOD)
    edited, genuine = _series(trials, run, trained)
    return Calibration(
        slice=logistic([trial.logit for trial in slices], [trial.family is not None for trial in slices]),
        study=logistic([*edited, *genuine], [True] * len(edited) + [False] * len(genuine)),
        run=run,
    )


def thresholds(trials: Trials, calibration: Calibration, trained: Sequence[str] = TRAINED) -> Thresholds:
    """Thresholds that keep genuine series quiet.

    `pixel`: best F1 over all edited slices. `slice`: passed by 1 % of genuine slices. `review`: passed by 5 % of
    genuine series; `suspect`: one logit above the loudest of them. None is set below even odds.
    """
    edited = np.sum([trial.pixels for trial in trials.slices if trial.family in trained], axis=0)
    genuine = [trial.logit for trial in trials.slices if trial.family is None]
    series = _series(trials, calibration.run, trained)[1]
    return Thresholds(
        pixel=float(PIXEL_THRESHOLDS[int(np.argmax(f1(edited)))]),
        slice=_at_least_even(calibration.slice, float(np.quantile(genuine, 1 - _QUIET_SLICES))),
        review=_at_least_even(calibration.study, float(np.quantile(series, 1 - _REVIEW_STUDIES))),
        suspect=_at_least_even(calibration.study, max(series) + _MARGIN),
    )


def _series(trials: Trials, run: int, trained: Sequence[str]) -> tuple[list[float], list[float]]:
    """The logits of edited (trained families) and of genuine series."""
    edited = [strongest_run(trial.logits, run) for trial in trials.studies if trial.family in trained]
    return edited, [strongest_run(trial.logits, run) for trial in trials.studies if trial.family is None]


def _at_least_even(logistic: Logistic, logit: float) -> float:
    return float(np.clip(logistic.probability(logit), 0.5, 0.9999))


def logistic(logits: Sequence[float], edited: Sequence[bool]) -> Logistic:
    """Platt's scaling with both classes weighted as equally frequent."""
    x, y = np.asarray(logits, dtype=np.float64), np.asarray(edited)
    weight = np.where(y, 0.5 / max(int(y.sum()), 1), 0.5 / max(int((~y).sum()), 1))

    def loss(parameters: NDArray[np.float64]) -> float:
        z = np.exp(parameters[0]) * x + parameters[1]
        return float((weight * np.logaddexp(0.0, np.where(y, -z, z))).sum() + 1e-4 * parameters[0] ** 2)

    found = minimize(loss, np.zeros(2), method="Nelder-Mead", options={"xatol": 1e-4, "fatol": 1e-8, "maxiter": 2000})
    return Logistic(slope=float(np.exp(found.x[0])), offset=float(found.x[1]))
