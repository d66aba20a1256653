"""Turns logits into probabilities and chooses thresholds, from trials on patients kept for this alone."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from models.card import Calibration, Logistic, Thresholds, strongest_run
from models.figures import auc, f1, upper_bound
from models.fusion import RUNS
from models.tampering.families import TRAINED
from models.trials import PIXEL_THRESHOLDS, StudyTrial, Trials

_AS_GOOD = 0.012  # of AUC
_QUIET_SLICES = 0.01  # share of genuine slices that may pass the slice threshold
_REVIEW, _SUSPECT = 0.05, 0.01  # rates of genuine series at each threshold that shall not be exceeded
_MARGIN = 1.0  # logits above the loudest genuine series, for SUSPECT, where there are too few series for the bound
_ABOVE = 1e-3  # logits: a series at a threshold passes it


@dataclass(frozen=True)
class Bound:
    """What is known of false alarms at a threshold: `alarms` in `of` genuine series, `at_most` with 95 % confidence.

    Clopper-Pearson, series taken as independent. `reached`: whether that is the rate that was `wanted`; where it is
    not, the threshold is that of no alarm, plus `margin` logits.
    """

    alarms: int
    of: int
    at_most: float
    wanted: float
    reached: bool
    margin: float = 0.0


@dataclass(frozen=True)
class Turns:
    """Where decisions on series turn, as calibrated probabilities, with their bounds."""

    review: float
    suspect: float
    bounds: dict[str, Bound]

    def told(self) -> dict[str, object]:
        """For a card."""
        return {"review": self.review, "suspect": self.suspect} | {
            f"{name}_bound": asdict(bound) for name, bound in self.bounds.items()
        }


def fit(trials: Trials, trained: Sequence[str] = TRAINED) -> Calibration:
    """Logistic calibration of slices and series, each with genuine and edited weighted as equally frequent.

    Edited are the families that the model was `trained` on.
    """
    slices = [trial for trial in trials.slices if trial.family is None or trial.family in trained]
    run = run_of([trial for trial in trials.studies if trial.family is None or trial.family in trained])
    edited, genuine = _series(trials, run, trained)
    return Calibration(
        slice=logistic([trial.logit for trial in slices], [trial.family is not None for trial in slices]),
        study=logistic([*edited, *genuine], [True] * len(edited) + [False] * len(genuine)),
        run=run,
    )


def run_of(studies: Sequence[StudyTrial]) -> int:
    """The longest run that ranks edited series above genuine ones about as well as the best.

    The longer, the less a single slice decides.
    """
    scores = np.array([[strongest_run(trial.logits, length) for length in RUNS] for trial in studies], np.float64)
    return RUNS[longest_as_good(scores, np.array([trial.family is not None for trial in studies], np.bool_))]


def longest_as_good(scores: NDArray[np.float64], edited: NDArray[np.bool_]) -> int:
    """Which of RUNS, whose `scores` (series, runs) are given, `run_of` takes."""
    ranking = [auc(column[edited], column[~edited]) for column in scores.T]
    return max(place for place, value in enumerate(ranking) if value >= max(ranking) - _AS_GOOD)


def thresholds(trials: Trials, calibration: Calibration, trained: Sequence[str] = TRAINED) -> Thresholds:
    """Thresholds that keep genuine images quiet.

    `pixel`: best F1 over all edited slices. `slice`: passed by 1 % of genuine slices. `review` and `suspect`: what
    `turns` says of the strongest run alone. None is set below even odds.
    """
    edited = np.sum([trial.pixels for trial in trials.slices if trial.family in trained], axis=0)
    genuine = [trial.logit for trial in trials.slices if trial.family is None]
    series = turns(_series(trials, calibration.run, trained)[1], calibration.study)
    return Thresholds(
        pixel=float(PIXEL_THRESHOLDS[int(np.argmax(f1(edited)))]),
        slice=_at_least_even(calibration.slice, float(np.quantile(genuine, 1 - _QUIET_SLICES))),
        review=series.review,
        suspect=series.suspect,
    )


def turns(genuine: Sequence[float], logistic: Logistic) -> Turns:
    """Thresholds on the logits of genuine series that `logistic` makes probabilities of, and the bounds they reach.

    At `review` no more than 5 % of genuine series pass with 95 % confidence, at `suspect` no more than 1 %. Fewer than
    59 and 299 series cannot show that, whatever they score: then none of them passes, `suspect` keeps a margin, and
    the bound says what they do show.
    """
    review, at_review = _bounded(genuine, _REVIEW)
    suspect, at_suspect = _bounded(genuine, _SUSPECT, _MARGIN)
    first = _at_least_even(logistic, review)
    last = max(first, _at_least_even(logistic, suspect))
    return Turns(first, last, {"review": at_review, "suspect": at_suspect})


def _bounded(genuine: Sequence[float], wanted: float, margin: float = 0.0) -> tuple[float, Bound]:
    """The lowest logit that so few genuine series exceed that the bound is the wanted one."""
    falling, of = sorted(genuine, reverse=True), len(genuine)
    allowed = max((alarms for alarms in range(of) if upper_bound(alarms, of) <= wanted), default=None)
    if allowed is None:
        return falling[0] + (margin or _ABOVE), Bound(0, of, upper_bound(0, of), wanted, reached=False, margin=margin)
    return falling[allowed] + _ABOVE, Bound(allowed, of, upper_bound(allowed, of), wanted, reached=True)


def _series(trials: Trials, run: int, trained: Sequence[str]) -> tuple[list[float], list[float]]:
    """The logits of edited (trained families) and of genuine series."""
    edited = [strongest_run(trial.logits, run) for trial in trials.studies if trial.family in trained]
    return edited, [strongest_run(trial.logits, run) for trial in trials.studies if trial.family is None]


def _at_least_even(logistic: Logistic, logit: float) -> float:
    return float(np.clip(logistic.probability(logit), 0.5, 0.9999))


def logistic(logits: Sequence[float] | NDArray[np.float64], edited: Sequence[bool] | NDArray[np.bool_]) -> Logistic:
    """Platt's scaling with both classes weighted as equally frequent.

    A class of n says 1 / (n + 2) for the other one, as Platt (1999) has it: no few series, however well they are told
    apart, make anything certain.
    """
    x, y = np.asarray(logits, dtype=np.float64), np.asarray(edited, np.bool_)
    count = np.where(y, max(int(y.sum()), 1), max(int((~y).sum()), 1))
    weight, doubt = 0.5 / count, 1.0 / (count + 2.0)

    def loss(parameters: NDArray[np.float64]) -> float:
        z = np.where(y, -1.0, 1.0) * (np.exp(parameters[0]) * x + parameters[1])
        wrong = (1.0 - doubt) * np.logaddexp(0.0, z) + doubt * np.logaddexp(0.0, -z)
        return float((weight * wrong).sum() + 1e-4 * parameters[0] ** 2)

    found = minimize(loss, np.zeros(2), method="Nelder-Mead", options={"xatol": 1e-4, "fatol": 1e-8, "maxiter": 2000})
    return Logistic(slope=float(np.exp(found.x[0])), offset=float(found.x[1]))
