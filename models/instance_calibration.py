"""Chooses what a model of instances says and when, from patients kept for this alone.

What is demanded of one that ships was written down before any test patient was looked at: on calibration patients it
finds 60 % of the real lesions at no more than one false lesion a series.
"""

from collections.abc import Sequence

import numpy as np

from models.calibration import logistic
from models.card import Calibration, ModelCard
from models.errors import NotWorthShipping
from models.evaluation.slices import Figures
from models.instance_evaluation import ALL, edits, real
from models.instance_trials import THRESHOLDS, InstanceTrials

LEAST_FOUND, MOST_FALSE = 0.6, 1.0
LEAST_GAIN = 0.005  # of AUC; less is no reason to let a second network into a verdict


def lesion_threshold(trials: InstanceTrials) -> float:
    """The score from which a real tumour counts: of those with at most one false lesion a series, the best Dice.

    Where there is none, the one with the fewest false lesions.
    """
    figures = [real(trials, at, ALL) for at in range(len(THRESHOLDS))]
    quiet = [at for at, each in enumerate(figures) if each["false_a_series"] <= MOST_FALSE]
    if not quiet:
        return float(THRESHOLDS[int(np.argmin([each["false_a_series"] for each in figures]))])
    return float(THRESHOLDS[max(quiet, key=lambda at: figures[at]["dice"])])


def calibrated(trials: InstanceTrials) -> Calibration:
    """The answers on edits of single slices as probabilities, edited and genuine taken as equally frequent."""
    edited = [each.trial.family is not None for each in trials.slices]
    if len(set(edited)) < 2:
        return Calibration()
    fitted = logistic([each.edited for each in trials.slices], edited)
    return Calibration(slice=fitted, study=fitted)


def judges(trials: InstanceTrials, card: ModelCard, proposer: ModelCard | None) -> tuple[bool, Figures]:
    """Whether the U-Net finds edited slices better with this model than without, beyond chance; and what was measured.

    `card` holds the calibration of these trials.
    """
    figures = edits(trials.slices, card, proposer)
    if "gain" not in figures:
        return False, figures
    return bool(figures["gain"] >= LEAST_GAIN and figures["intervals"]["gain"][0] > 0), figures


def require(trials: InstanceTrials, threshold: float) -> Figures:
    """The figures of calibration patients at the `threshold`; raises NotWorthShipping where they miss the rule."""
    figures = real(trials, int(np.abs(THRESHOLDS - threshold).argmin()), ALL)
    if not meets(figures):
        raise NotWorthShipping(
            f"on calibration patients {figures['found']:.0%} of {figures['lesions']} real lesions are found with "
            f"{figures['false_a_series']:.2f} false ones a series; {LEAST_FOUND:.0%} with at most {MOST_FALSE:g} is "
            f"what ships. Train longer: more --stages with the same name go on from the checkpoint"
        )
    return figures


def meets(figures: Figures) -> bool:
    """The rule."""
    return bool(figures["found"] >= LEAST_FOUND and figures["false_a_series"] <= MOST_FALSE)


def thresholds_tried(trials: InstanceTrials) -> Sequence[tuple[float, float, float, float]]:
    """(threshold, lesions found, Dice, false lesions a series) of all that could be chosen."""
    each = [(float(threshold), real(trials, at, ALL)) for at, threshold in enumerate(THRESHOLDS)]
    return [(value, row["found"], row["dice"], row["false_a_series"]) for value, row in each]
