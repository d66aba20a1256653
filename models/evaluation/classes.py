"""The four classes in the form that the field publishes: real tumour, no tumour, added, removed.

A model that marks edits alone tells no tumour from none: what it does not call edited is then "not edited", right for
both genuine classes in `accuracy_three`, and `accuracy_four` is not known. Edits that claim nothing about a tumour are
a row of their own and count in neither. Slices of sources that mark no tumours have no genuine class and are left out.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.card import ModelCard
from models.evaluation.slices import Figures, between, mean, patients
from models.trials import SliceTrial

REAL, NONE, ADDED, REMOVED, RESYNTHESISED, NOT_EDITED = (
    "real tumour",
    "no tumour",
    "added tumour",
    "removed tumour",
    "resynthesised",
    "not edited",
)
TRUTHS = (REAL, NONE, ADDED, REMOVED, RESYNTHESISED)
FOUR = (REAL, NONE, ADDED, REMOVED)
_OF_TYPE = {"added": ADDED, "removed": REMOVED, "resynthesised": RESYNTHESISED}


def truth(trial: SliceTrial) -> str | None:
    """The class of a slice; None where nobody marked whether it shows a tumour."""
    if trial.edit_type is not None:
        return _OF_TYPE.get(trial.edit_type)
    return None if trial.tumour is None else REAL if trial.tumour else NONE


def answer(trial: SliceTrial, card: ModelCard) -> str:
    """What the model calls a slice: edited above the slice threshold, and then by the types of what it flagged."""
    if card.slice_probabilities(np.array([trial.logit]))[0] >= card.thresholds.slice:
        return _OF_TYPE[card.edit_types[int(np.argmax(trial.shares))]]
    if np.isnan(trial.tumour_said):
        return NOT_EDITED
    return REAL if trial.tumour_said >= card.thresholds.lesion else NONE


def classes(trials: Sequence[SliceTrial], card: ModelCard) -> Figures:
    """The confusion matrix and what is read from it; each class weighs the same in an accuracy."""
    judged = [(trial, name) for trial in trials if (name := truth(trial)) is not None]
    said = [answer(trial, card) for trial, _ in judged]
    names = [name for name, wanted in zip(TRUTHS, _any(TRUTHS, [name for _, name in judged]), strict=True) if wanted]
    answers = [name for name in (*TRUTHS, NOT_EDITED) if name in said or name in (ADDED, REMOVED)]
    true = np.array([TRUTHS.index(name) for _, name in judged], dtype=np.int64)
    told = np.array([(*TRUTHS, NOT_EDITED).index(name) for name in said], dtype=np.int64)
    matrix = [
        [int(((true == TRUTHS.index(row)) & (told == (*TRUTHS, NOT_EDITED).index(column))).sum()) for column in answers]
        for row in names
    ]
    tells = NOT_EDITED not in said
    exact, three = true == told, _three(true) == _three(told)
    groups = patients([trial for trial, _ in judged])

    def measure(chosen: NDArray[np.int64]) -> list[float]:
        return [_balanced(true[chosen], right[chosen]) for right in (exact, three)]

    ends = between(groups, measure, 2)
    return {
        "truths": names,
        "answers": answers,
        "matrix": matrix,
        "tells_tumours": tells,
        "accuracy_four": _balanced(true, exact) if tells else float("nan"),
        "accuracy_four_interval": ends[0] if tells else [float("nan")] * 2,
        "accuracy_three": _balanced(true, three),
        "accuracy_three_interval": ends[1],
        "classes": {name: _class(TRUTHS.index(name), true, told, tells) for name in names if name in FOUR},
    }


def _class(index: int, true: NDArray[np.int64], told: NDArray[np.int64], tells: bool) -> Figures:
    """Precision, recall and F1 of one class; the two genuine ones count as one where the model does not tell them."""
    if index <= TRUTHS.index(NONE) and not tells:
        true, told, index = _three(true), _three(told), 0
    counted = true != TRUTHS.index(RESYNTHESISED)
    is_, said = (true == index)[counted], (told == index)[counted]
    right = int((is_ & said).sum())
    precision, recall = (right / count if count else float("nan") for count in (int(said.sum()), int(is_.sum())))
    both = int(is_.sum()) + int(said.sum())
    return {"slices": int(is_.sum()), "precision": precision, "recall": recall, "f1": 2 * right / both if both else 0.0}


def _three(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Genuine, whatever it shows, as 0."""
    genuine = np.isin(codes, (TRUTHS.index(REAL), TRUTHS.index(NONE), len(TRUTHS)))
    return np.where(genuine, 0, codes)


def _balanced(true: NDArray[np.int64], right: NDArray[np.bool_]) -> float:
    codes = [TRUTHS.index(name) for name in FOUR]
    return mean([right[true == code].mean() for code in codes if (true == code).any()])


def _any(names: Sequence[str], found: Sequence[str]) -> list[bool]:
    return [name in found for name in names]
