"""Figures of whole series, as a study-level decision sees them."""

from collections.abc import Sequence

import numpy as np

from models.card import ModelCard
from models.evaluation.slices import Figures, share
from models.figures import auc, upper_bound
from models.trials import StudyTrial


def series(studies: Sequence[StudyTrial], trained: Sequence[str], card: ModelCard) -> Figures:
    """How many genuine series reach REVIEW and SUSPECT, and what share of the edited ones."""
    genuine = [card.study_logit(each.logits) for each in studies if each.family is None]
    edited = [card.study_logit(each.logits) for each in studies if each.family in trained]
    said, found = (card.calibration.study.probability(np.array(logits)) for logits in (genuine, edited))
    review, suspect = card.thresholds.review, card.thresholds.suspect
    loud = int((said >= suspect).sum())
    return {
        "genuine": len(genuine),
        "edited": len(edited),
        "auc": auc(edited, genuine),
        "genuine_at_review": int((said >= review).sum()),
        "genuine_at_suspect": loud,
        "suspect_per_1000_at_most": 1000 * upper_bound(loud, len(genuine)),
        "edited_at_review": share(found >= review),
        "edited_at_suspect": share(found >= suspect),
    }
