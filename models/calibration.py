"""Turns logits into probabilities and chooses thresholds, from trials on patients kept for this alone."""

from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize

from models.card import Calibration, Logistic, Thresholds
from models.figures import f1
from models.tampering.families import TRAINED
from models.trials import PIXEL_THRESHOLDS, Trials

_QUIET_SLICES = 0.01  # share of genuine slices that may pass the slice threshold
_REVIEW_STUDIES = 0.05  # share of genuine series that may pass the review threshold
_MARGIN = 0.5  # logits between the loudest genuine series and the suspect threshold


def fit(trials: Trials, run: int) -> Calibration:
    """Logistic calibration of slices and studies, each with genuine and edited weighted as equally frequent."""
    slices = [trial for trial in trials.slices if trial.family is None or trial.family in TRAINED]
    studies = [trial for trial in trials.studies if trial.family is None or trial.family in TRAINED]
    return Calibration(
        slice=_logistic([trial.logit for trial in slices], [trial.family is not None for trial in slices]),
        study=_logistic([trial.logit for trial in studies], [trial.family is not None for trial in studies]),
        run=run,
    )


def thresholds(trials: Trials, calibration: Calibration) -> Thresholds:
    """Thresholds that keep genuine series quiet.

    `pixel`: best F1 over all edited slices. `slice`: passed by 1 % of genuine slices. `review`: passed by 5 % of
    genuine series; `suspect`: half a logit above the loudest of them. None is set below even odds.
    """
    edited = np.sum([trial.pixels for trial in trials.slices if trial.family in TRAINED], axis=0)
    genuine = [trial.logit for trial in trials.slices if trial.family is None]
    series = [trial.logit for trial in trials.studies if trial.family is None]
    suspect = max(series) + _MARGIN
    review = float(np.quantile(series, 1 - _REVIEW_STUDIES))
    return Thresholds(
        pixel=float(PIXEL_THRESHOLDS[int(np.argmax(f1(edited)))]),
        slice=_at_least_even(calibration.slice, float(np.quantile(genuine, 1 - _QUIET_SLICES))),
        review=_at_least_even(calibration.study, review),
        suspect=_at_least_even(calibration.study, suspect),
    )


def _at_least_even(logistic: Logistic, logit: float) -> float:
    return float(np.clip(logistic.probability(logit), 0.5, 0.9999))


def _logistic(logits: Sequence[float], edited: Sequence[bool]) -> Logistic:
    x, y = np.asarray(logits, dtype=np.float64), np.asarray(edited)
    weight = np.where(y, 0.5 / max(int(y.sum()), 1), 0.5 / max(int((~y).sum()), 1))

    def loss(parameters: np.ndarray) -> float:
        z = np.exp(parameters[0]) * x + parameters[1]
        return float((weight * np.logaddexp(0.0, np.where(y, -z, z))).sum() + 1e-4 * parameters[0] ** 2)

    found = minimize(loss, np.zeros(2), method="Nelder-Mead", options={"xatol": 1e-4, "fatol": 1e-8, "maxiter": 2000})
    return Logistic(slope=float(np.exp(found.x[0])), offset=float(found.x[1]))
