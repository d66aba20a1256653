"""Figures of single slices: ranking against the genuine twins, edited pixels, false alarms."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.card import ModelCard
from models.figures import auc, f1, intervals, sensitivity_at, upper_bound
from models.trials import PIXEL_THRESHOLDS, SliceTrial

Figures = dict[str, Any]
_FEWEST = 3  # patients; what one or two of them show is no interval
_BOUNDED = ("auc", "sensitivity_at_5_percent", "sensitivity_at_1_percent", "pixel_f1_mean", "pixel_iou_mean")


def images(edited: Sequence[SliceTrial], card: ModelCard, *, bounds: bool = False) -> Figures:
    """How edited slices rank above their twins, and how well their pixels are marked.

    Pixel F1 and IoU are means over all edited slices, 0 where nothing was found; `pixel_iou_found` over those alone of
    which something was found, as the field publishes it. `bounds`: with 95 % intervals by patient.
    """
    scores, twins = (np.array([getattr(trial, name) for trial in edited]) for name in ("logit", "twin"))
    counts = pixels(edited, card)
    overlap = iou(counts)
    found = counts[:, 0] > 0
    figures = {
        "edited_slices": len(edited),
        "auc": auc(scores, twins),
        "sensitivity_at_5_percent": sensitivity_at(scores, twins, 0.05),
        "sensitivity_at_1_percent": sensitivity_at(scores, twins, 0.01),
        "sensitivity_at_threshold": share(card.slice_probabilities(scores) >= card.thresholds.slice),
        "pixel_f1_mean": mean(f1(counts)),
        "pixel_f1_pooled": float(f1(counts.sum(axis=0))),
        "pixel_iou_mean": mean(overlap),
        "pixel_iou_found": mean(overlap[found]),
        "slices_with_found_pixels": share(found),
        "type_right": mean([trial.type_right for trial in edited]),
    }
    return figures | ({"intervals": _intervals(edited, scores, twins, f1(counts), overlap)} if bounds else {})


def _intervals(
    edited: Sequence[SliceTrial], scores: NDArray[Any], twins: NDArray[Any], marked: NDArray[Any], overlap: NDArray[Any]
) -> Figures:
    def measure(chosen: NDArray[np.int64]) -> list[float]:
        one, other = scores[chosen], twins[chosen]
        return [
            auc(one, other),
            sensitivity_at(one, other, 0.05),
            sensitivity_at(one, other, 0.01),
            float(marked[chosen].mean()),
            float(overlap[chosen].mean()),
        ]

    ends = between(patients(edited), measure, len(_BOUNDED))
    return dict(zip(_BOUNDED, ends, strict=True))


def between(
    groups: Sequence[str], measure: Callable[[NDArray[np.int64]], Sequence[float]], count: int
) -> list[list[float]]:
    """The 95 % interval of each of `count` measures by patient; NaN where there are too few patients to redraw."""
    if len(set(groups)) < _FEWEST:
        return [[float("nan")] * 2] * count
    low, high = intervals(groups, measure, seed=1)
    return [[float(low[k]), float(high[k])] for k in range(count)]


def alarms(genuine: Sequence[SliceTrial], card: ModelCard) -> Figures:
    """Genuine slices above the slice threshold, and pixels flagged on them."""
    passed = card.slice_probabilities(np.array([trial.logit for trial in genuine])) >= card.thresholds.slice
    return {
        "genuine_slices": len(genuine),
        "per_1000": 1000 * share(passed),
        "per_1000_at_most": 1000 * upper_bound(int(passed.sum()), len(genuine)),
        "flagged_pixels_a_slice": mean(pixels(genuine, card)[:, 1]),
    }


def pixels(trials: Sequence[SliceTrial], card: ModelCard) -> NDArray[np.int64]:
    """(slices, 3): pixels found, wrongly found and missed at the card's threshold."""
    index = int(np.argmin(np.abs(PIXEL_THRESHOLDS - card.thresholds.pixel)))
    return np.array([trial.pixels[index] for trial in trials], dtype=np.int64).reshape(-1, 3)


def iou(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Intersection over union from (…, 3) counts of found, wrongly found and missed pixels."""
    return np.asarray(counts[..., 0] / np.maximum(counts.sum(axis=-1), 1), dtype=np.float64)


def patients(trials: Sequence[Any]) -> list[str]:
    """What intervals redraw: whole patients."""
    return [f"{trial.source}/{trial.patient}" for trial in trials]


def share(values: Any) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


def mean(values: Any) -> float:
    """The mean of what is known; NaN of nothing."""
    known = np.asarray(values, dtype=np.float64)
    known = known[np.isfinite(known)]
    return float(known.mean()) if known.size else float("nan")
