"""The measures that are reported: of ranking, of alarms, of pixels; each from plain arrays."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta, rankdata

FloatArray = NDArray[np.float64]
Scores = Sequence[float] | NDArray[np.floating]


def auc(positive: Scores, negative: Scores) -> float:
    """The chance that an edited image scores above a genuine one (ties count half); NaN when either is missing."""
    if not len(positive) or not len(negative):
        return float("nan")
    ranks = rankdata(np.concatenate([positive, negative]))[: len(positive)]
    return float((ranks.sum() - len(positive) * (len(positive) + 1) / 2) / (len(positive) * len(negative)))


def sensitivity_at(positive: Scores, negative: Scores, false_alarms: float) -> float:
    """The share of edited images above the score that `false_alarms` (0..1) of the genuine ones exceed."""
    if not len(positive) or not len(negative):
        return float("nan")
    return float((np.asarray(positive) > np.quantile(negative, 1 - false_alarms)).mean())


def f1(counts: NDArray[np.int64]) -> FloatArray:
    """F1 from (…, 3) counts of found, wrongly found and missed pixels."""
    true, false, missed = (counts[..., column].astype(np.float64) for column in range(3))
    return np.asarray(2 * true / np.maximum(2 * true + false + missed, 1))


def upper_bound(alarms: int, of: int, confidence: float = 0.95) -> float:
    """The rate of false alarms that is not exceeded with this confidence (Clopper-Pearson)."""
    return 1.0 if of == 0 or alarms >= of else float(beta.ppf(confidence, alarms + 1, of - alarms))


def interval(
    groups: Sequence[str], measure: Callable[[NDArray[np.int64]], float], seed: int, rounds: int = 200
) -> tuple[float, float]:
    """The 95 % bootstrap interval of `measure` (of the indices of a resample) when whole patients are redrawn."""
    low, high = intervals(groups, lambda chosen: [measure(chosen)], seed, rounds)
    return float(low[0]), float(high[0])


def intervals(
    groups: Sequence[str], measure: Callable[[NDArray[np.int64]], Sequence[float]], seed: int, rounds: int = 200
) -> tuple[FloatArray, FloatArray]:
    """The lower and the upper ends of `interval` for several measures of the same resamples; NaN where one has none."""
    names, place = np.unique(np.asarray(groups), return_inverse=True)
    order = np.argsort(place, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(place))[:-1])
    rng = np.random.default_rng(seed)
    values = np.array(
        [
            measure(np.concatenate([members[each] for each in rng.choice(len(names), size=len(names))]))
            for _ in range(rounds)
        ],
        dtype=np.float64,
    )
    ends = np.full((2, values.shape[1]), np.nan)
    some = np.isfinite(values).any(axis=0)
    ends[:, some] = np.nanquantile(values[:, some], (0.025, 0.975), axis=0)
    return ends[0], ends[1]


def calibration_error(probability: FloatArray, outcome: NDArray[np.bool_], bins: int = 10) -> float:
    """The expected calibration error over equal bins of probability (Naeini 2015)."""
    place = np.minimum((probability * bins).astype(int), bins - 1)
    gaps = [
        (place == k).mean() * abs(probability[place == k].mean() - outcome[place == k].mean())
        for k in range(bins)
        if (place == k).any()
    ]
    return float(sum(gaps))


def balanced_calibration_error(genuine: FloatArray, edited: FloatArray, bins: int = 10) -> float:
    """`calibration_error` with both kinds weighted as equally frequent; NaN when either is missing."""
    if not len(genuine) or not len(edited):
        return float("nan")
    said = np.concatenate([genuine, edited])
    gap = np.concatenate([genuine / len(genuine), (edited - 1.0) / len(edited)]) / 2
    place = np.minimum((said * bins).astype(int), bins - 1)
    return float(np.abs(np.bincount(place, weights=gap)).sum())
