"""From logits to probabilities, after each model's card; and from several models to one."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from inference.detectors import Detection
from inference.volume import Volume
from models import fusion
from models.card import INSTANCES, ModelCard, Thresholds
from models.fusion import Evidence

UNKNOWN = 0.5  # the score of a study of which nothing could be analysed
_SURE = 1e-6  # a calibrated probability says no more than its sample can


def fuse(detections: Sequence[Detection]) -> Detection:
    """One answer of several detectors on one volume: the mean of those that judge all pixels, the class of the surest.

    Where a detector of instances sees an edit, its probability counts if it is the higher one; where it sees none it
    says nothing. Real tumours stay apart, the highest of each pixel: they are no evidence of an edit. The logits of the
    result are the mean of all and only good for ranking: use `slice_scores` and `study_score`.
    """
    if len(detections) == 1:
        return detections[0]
    dense = [detection for detection in detections if detection.lesion is None] or list(detections)
    sparse = [detection for detection in detections if detection.lesion is not None]
    edit = dense[0].edit.copy()
    if len(dense) > 1:
        edit = np.asarray(np.mean([detection.edit for detection in dense], axis=0), np.float32)
    for detection in sparse:
        np.maximum(edit, detection.edit, out=edit)
    classes, surest = detections[0].classes.copy(), detections[0].edit.copy()
    for detection in detections[1:]:
        better = detection.edit > surest
        classes[better], surest[better] = detection.classes[better], detection.edit[better]
    logits = np.asarray(np.mean([detection.logits for detection in detections], axis=0), np.float32)
    return Detection(edit, logits, classes, lesion=lesions(detections))


def lesions(detections: Sequence[Detection]) -> NDArray[np.float32] | None:
    """The probability that a pixel belongs to a real tumour, of the surest detector; None where none looks for them."""
    maps = [detection.lesion for detection in detections if detection.lesion is not None]
    if len(maps) < 2:  # a study's maps are large: one is not copied
        return maps[0] if maps else None
    return np.asarray(np.maximum.reduce(maps), np.float32)


def slice_scores(cards: Sequence[ModelCard], logits: Sequence[NDArray[np.float32]]) -> tuple[float, ...]:
    """The calibrated probability of each slice that it was edited."""
    each = [card.slice_probabilities(answers) for card, answers, _ in _judges(cards, logits)]
    return tuple(pooled([float(answer[place]) for answer in each]) for place in range(len(each[0])))


Known = Sequence[Evidence | None]  # what each model's map says of a volume; empty: nothing is known


def known(cards: Sequence[ModelCard], detections: Sequence[Detection], volume: Volume) -> list[Evidence | None]:
    """What each map says of a volume beside its logits, for models whose cards fuse it."""
    return [
        fusion.evidence(
            detection.edit,
            detection.logits,
            volume.voxels,
            volume.spacing,
            through_plane=card.fusion.through_plane,
        )
        if card.fusion is not None
        else None
        for card, detection in zip(cards, detections, strict=True)
    ]


def run_score(
    cards: Sequence[ModelCard], logits: Sequence[NDArray[np.float32]], first: int, last: int, evidence: Known = ()
) -> float:
    """The calibrated probability that slices `first` to `last` (inside) hold an edit.

    A shorter stretch than a run that counts is judged by one around it, as the whole series is. `evidence` is of the
    whole series, of a stretch of it too: no stretch is more likely to be edited than the series.
    """
    return pooled(
        [
            fusion.probability(card, answers[max(0, first - fusion.reach(card) + 1) : last + fusion.reach(card)], found)
            for card, answers, found in _judges(cards, logits, evidence)
        ]
    )


def unlike(cards: Sequence[ModelCard], logits: Sequence[NDArray[np.float32]], evidence: Known) -> tuple[str, ...]:
    """Why a volume is unlike all that who judges was calibrated on; empty where one of them knows such volumes."""
    each = [fusion.unlike(card, answers, found) for card, answers, found in _judges(cards, logits, evidence)]
    return tuple(reason for reasons in each for reason in reasons) if all(each) else ()


def _judges(
    cards: Sequence[ModelCard], logits: Sequence[NDArray[np.float32]], evidence: Known = ()
) -> list[tuple[ModelCard, NDArray[np.float32], Evidence | None]]:
    """Who has a say on edits; all where nobody has."""
    answers = list(zip(cards, logits, evidence or [None] * len(cards), strict=True))
    return [answer for answer in answers if answer[0].judges_edits] or answers


def study_score(cards: Sequence[ModelCard], logits: Sequence[NDArray[np.float32]], evidence: Known = ()) -> float:
    """The calibrated probability that a volume holds an edit."""
    return run_score(cards, logits, 0, len(logits[0]) - 1, evidence)


def pooled(probabilities: Sequence[float]) -> float:
    """Several models' probabilities as one: the mean of their log-odds."""
    bounded = np.clip(np.asarray(probabilities, np.float64), _SURE, 1 - _SURE)
    return float(1 / (1 + np.exp(-np.mean(np.log(bounded / (1 - bounded))))))


def thresholds_of(cards: Sequence[ModelCard]) -> Thresholds:
    """Where decisions turn for a model set: the mean of its members' that have a say.

    Pixels are decided by models that judge every one of them, real tumours by models of instances, edits of a study by
    those whose cards say that they judge edits; each by all where there is none of its kind.
    """
    if len(cards) == 1:
        return cards[0].thresholds
    judges = [card for card in cards if card.judges_edits] or cards
    said = {"slice": judges, "review": judges, "suspect": judges}
    said["pixel"] = [card for card in judges if card.task != INSTANCES] or judges
    said["lesion"] = [card for card in cards if card.task == INSTANCES] or cards
    return Thresholds(
        **{name: float(np.mean([getattr(card.thresholds, name) for card in of])) for name, of in said.items()}
    )
