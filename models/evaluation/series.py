"""Figures of whole series, as a study-level decision sees them."""

from collections.abc import Sequence

import numpy as np

from models import fusion
from models.card import ModelCard
from models.evaluation.slices import Figures, share
from models.figures import auc, balanced_calibration_error, upper_bound
from models.trials import StudyTrial


def series(studies: Sequence[StudyTrial], trained: Sequence[str], card: ModelCard) -> Figures:
    """How many genuine series reach REVIEW and SUSPECT, and what share of the edited ones.

    Where the card has a fusion, `without_fusion` says the same of the strongest run of slices alone.
    """
    wanted = [each for each in studies if each.family is None or each.family in trained]
    figures = _judged(wanted, card, card.thresholds.review, card.thresholds.suspect)
    other = card.judging.get("without_fusion")
    if card.fusion is not None and other is not None:
        alone = card.model_copy(update={"fusion": None})
        figures["without_fusion"] = _judged(wanted, alone, other["review"], other["suspect"])
        figures["unlike_any_calibrated"] = {
            kind: sum(bool(each.evidence and fusion.unlike(card, each.logits, each.evidence)) for each in group)
            for kind, group in _kinds(wanted).items()
        }
    return figures


def _judged(studies: Sequence[StudyTrial], card: ModelCard, review: float, suspect: float) -> Figures:
    genuine, edited = _kinds(studies).values()
    said, found = (
        np.array([fusion.probability(card, each.logits, each.evidence) for each in group], np.float64)
        for group in (genuine, edited)
    )
    loud = int((said >= suspect).sum())
    return {
        "genuine": len(genuine),
        "edited": len(edited),
        "auc": auc(
            *([fusion.logit(card, each.logits, each.evidence) for each in group] for group in (edited, genuine))
        ),
        "calibration_error": balanced_calibration_error(said, found),
        "genuine_at_review": int((said >= review).sum()),
        "genuine_at_suspect": loud,
        "suspect_per_1000_at_most": 1000 * upper_bound(loud, len(genuine)),
        "edited_at_review": share(found >= review),
        "edited_at_suspect": share(found >= suspect),
    }


def _kinds(studies: Sequence[StudyTrial]) -> dict[str, list[StudyTrial]]:
    return {
        "genuine": [each for each in studies if each.family is None],
        "edited": [each for each in studies if each.family is not None],
    }
