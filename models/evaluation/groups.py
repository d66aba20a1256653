"""The same figures for parts of the cases: where in the series, how large, what came between the attacker and us."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from models.card import ModelCard
from models.evaluation.slices import Figures, alarms, images
from models.trials import SliceTrial
from models.trials.conditions import CONDITIONS

POSITIONS = ("first third", "middle third", "last third")
SIZES = {"below 5 %": 0.05, "5 to 10 %": 0.10, "10 to 15 %": 0.15, "above 15 %": float("inf")}
TUMOUR = {True: "shows a marked tumour", False: "shows none", None: "its source marks none"}
TOUCHED = {False: "as edited", True: "touched up"}


def groups(edited: Sequence[SliceTrial], genuine: Sequence[SliceTrial], card: ModelCard) -> Figures:
    """Edited slices by position, size, tumour, edit type and touch-up; genuine ones by position and tumour."""

    def parts(name: Callable[[SliceTrial], str], names: Sequence[str]) -> Figures:
        return {group: images([t for t in edited if name(t) == group], card, bounds=True) for group in names}

    def quiet(name: Callable[[SliceTrial], str], names: Sequence[str]) -> Figures:
        return {group: alarms([t for t in genuine if name(t) == group], card) for group in names}

    return {
        "by_position": parts(position, POSITIONS),
        "by_size": parts(size, tuple(SIZES)),
        "by_tumour": parts(lambda trial: TUMOUR[trial.tumour], tuple(TUMOUR.values())),
        "by_edit_type": parts(lambda trial: trial.edit_type or "", card.edit_types),
        "by_touch_up": parts(lambda trial: TOUCHED[trial.touched_up], tuple(TOUCHED.values())),
        "alarms_by_position": quiet(position, POSITIONS),
        "alarms_by_tumour": quiet(lambda trial: TUMOUR[trial.tumour], tuple(TUMOUR.values())),
    }


def position(trial: SliceTrial) -> str:
    """Which third of its series a slice is in; nothing for one that belongs to no series."""
    return POSITIONS[min(int(3 * trial.position), 2)] if math.isfinite(trial.position) else ""


def size(trial: SliceTrial) -> str:
    """The diameter of the edit as a share of the slice's width."""
    return next(name for name, limit in SIZES.items() if trial.size < limit)


def conditions(trials: Sequence[SliceTrial], card: ModelCard) -> Figures:
    """The same edits and twins after each condition, and how often a twin alone is called edited."""
    figures = {}
    for name in CONDITIONS:
        chosen = [trial for trial in trials if trial.condition == name]
        twins = [replace(trial, logit=trial.twin) for trial in chosen]
        figures[name] = images(chosen, card, bounds=True) | {"twins_per_1000": alarms(twins, card)["per_1000"]}
    return figures
