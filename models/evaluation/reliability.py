"""Whether probabilities mean what they say: expected calibration error and the bins that it is made of."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.card import ModelCard
from models.evaluation.slices import Figures, between, patients
from models.figures import calibration_error
from models.trials import SliceTrial

_BINS = 10


def balanced(edited: Sequence[SliceTrial], genuine: Sequence[SliceTrial]) -> tuple[list[SliceTrial], NDArray[np.bool_]]:
    """As many genuine slices as edited ones, the balance that the calibration was fitted for; and which are edited."""
    rng = np.random.default_rng(1)
    count = min(len(edited), len(genuine))
    chosen = [group[int(k)] for group in (edited, genuine) for k in rng.permutation(len(group))[:count]]
    return chosen, np.repeat([True, False], count)


def reliability(edited: Sequence[SliceTrial], genuine: Sequence[SliceTrial], card: ModelCard) -> Figures:
    """The calibration error with its interval, and of each filled bin what was said and what was true."""
    chosen, outcome = balanced(edited, genuine)
    if not chosen:
        return {"slices": 0, "error": float("nan"), "interval": [float("nan")] * 2, "bins": []}
    said = card.slice_probabilities(np.array([trial.logit for trial in chosen])).astype(np.float64)
    ends = between(patients(chosen), lambda picked: [calibration_error(said[picked], outcome[picked])], 1)
    place = np.minimum((said * _BINS).astype(int), _BINS - 1)
    bins = [
        {"said": float(said[inside].mean()), "edited": float(outcome[inside].mean()), "slices": int(inside.sum())}
        for k in range(_BINS)
        if (inside := place == k).any()
    ]
    error = calibration_error(said, outcome)
    return {"slices": len(chosen), "error": error, "interval": ends[0], "bins": bins}
