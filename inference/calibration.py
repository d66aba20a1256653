"""From logits to probabilities, after each model's card; and from several models to one."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from inference.detectors import Detection
from models.card import ModelCard, Thresholds

UNKNOWN = 0.5  # the score of a study of which nothing could be analysed
_SURE = 1e-6  # a calibrated probability says no more than its sample can


def fuse(detections: Sequence[Detection]) -> Detection:
    """One answer of several detectors on one volume: the mean, and the class of the surest.

    The logits of the result are the mean of theirs and only good for ranking: use `slice_scores` and `study_score`.
    """
    if len(detections) == 1:
        return detections[0]
    edit = np.asarray(np.mean([detection.edit for detection in detections], axis=0), np.float32)
    classes, surest = detections[0].classes.copy(), detections[0].edit.copy()
    for detection in detections[1:]:
        better = detection.edit > surest
        classes[better], surest[better] = detection.classes[better], detection.edit[better]
    logits = np.asarray(np.mean([detection.logits for detection in detections], axis=0), np.float32)
    return Detection(edit, logits, classes)


def slice_scores(cards: Sequence[ModelCard], logits: Sequence[NDArray[np.float32]]) -> tuple[float, ...]:
    """The calibrated probability of each slice that it was edited."""
    each = [card.slice_probabilities(answers) for card, answers in zip(cards, logits, strict=True)]
    return tuple(pooled([float(answer[place]) for answer in each]) for place in range(len(each[0])))


def run_score(cards: Sequence[ModelCard], logits: Sequence[NDArray[np.float32]], first: int, last: int) -> float:
    """The calibrated probability that slices `first` to `last` (inside) hold an edit.

    A shorter stretch than a card's run is judged by a run around it, as the whole series is.
    """
    return pooled(
        [
            card.study_probability(answers[max(0, first - card.calibration.run + 1) : last + card.calibration.run])
            for card, answers in zip(cards, logits, strict=True)
        ]
    )


def study_score(cards: Sequence[ModelCard], logits: Sequence[NDArray[np.float32]]) -> float:
    """The calibrated probability that a volume holds an edit."""
    return run_score(cards, logits, 0, len(logits[0]) - 1)


def pooled(probabilities: Sequence[float]) -> float:
    """Several models' probabilities as one: the mean of their log-odds."""
    bounded = np.clip(np.asarray(probabilities, np.float64), _SURE, 1 - _SURE)
    return float(1 / (1 + np.exp(-np.mean(np.log(bounded / (1 - bounded))))))


def thresholds_of(cards: Sequence[ModelCard]) -> Thresholds:
    """Where decisions turn for a model set: the mean of its members'."""
    if not cards:
        return Thresholds()
    if len(cards) == 1:
        return cards[0].thresholds
    return Thresholds(
        **{
            name: float(np.mean([getattr(card.thresholds, name) for card in cards]))
            for name in ("pixel", "slice", "review", "suspect")
        }
    )
