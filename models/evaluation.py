"""Measures a model on held-out patients and writes what it did down: `evaluate(...)` for any split, table and JSON.

Image AUC compares each edited slice with the genuine slices at the same places of the same patients, so that empty
slices at the ends of a series do not flatter it. False alarms are counted over every genuine slice.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track
from rich.table import Table

from models import datasets
from models.card import ModelCard
from models.figures import auc, calibration_error, f1, interval, sensitivity_at, upper_bound
from models.registry import LoadedModel
from models.splits import UNSEEN, Split
from models.tampering import donors
from models.tampering.families import HELD_OUT, TRAINED
from models.trials import PIXEL_THRESHOLDS, Plan, SliceTrial, Trials, run

Report = dict[str, Any]


def evaluate(
    model: LoadedModel,
    data: Path,
    cache: Path,
    *,
    split: Split = Split.TEST,
    seed: int = 7,
    plan: Plan | None = None,
    quiet: bool = False,
) -> Report:
    """Try every edit family on every series of `split` and report; the same seed gives the same edits.

    Raises MissingData when a source is absent.
    """
    return report(trials_of(model, data, cache, split=split, seed=seed, plan=plan, quiet=quiet), model.card)


def trials_of(
    model: LoadedModel,
    data: Path,
    cache: Path,
    *,
    split: Split,
    seed: int,
    plan: Plan | None = None,
    quiet: bool = False,
) -> Trials:
    """The trials that `evaluate` reports on; lesions to clone come from the same split."""
    cases = [case for case in datasets.load(data, cache) if case.split is split]
    found = donors.of_cases(cases, np.random.default_rng(seed), limit=200)
    made = Trials()
    parts = run(model, cases, (*TRAINED, *HELD_OUT), found, plan or Plan(), seed)
    for part in track(parts, f"trials on {split.value} patients", total=len(cases), disable=quiet):
        made.slices += part.slices
        made.studies += part.studies
    return made


def report(trials: Trials, card: ModelCard) -> Report:
    """Every figure, by source and by family; `card` gives calibration and thresholds."""
    slices = trials.slices
    trained = [trial for trial in slices if trial.family in TRAINED]
    known = [trial for trial in trained if trial.source not in UNSEEN]
    genuine = [trial for trial in slices if trial.family is None]
    sources = sorted({trial.source for trial in slices})
    families = [name for name in (*TRAINED, *HELD_OUT) if any(trial.family == name for trial in slices)]
    return {
        "edited_slices": len(trained),
        "genuine_slices": len(genuine),
        "patients": len({(trial.source, trial.patient) for trial in slices}),
        "overall": _images(trained, card) | {"auc_interval": _auc_interval(trained)},
        "known_sources": _images(known, card) | {"auc_interval": _auc_interval(known)},
        "sources": {name: _images([t for t in trained if t.source == name], card) for name in sources},
        "families": {name: _images([t for t in slices if t.family == name], card) for name in families},
        "touched_up": _images([t for t in trained if t.touched_up], card),
        "as_edited": _images([t for t in trained if not t.touched_up], card),
        "false_alarms": {
            name: _alarms([t for t in genuine if name in (t.source, "all")], card) for name in (*sources, "all")
        },
        "studies": _studies(trials, card),
        "calibration_error": _calibration_error(trained, genuine, card),
    }


def _images(edited: Sequence[SliceTrial], card: ModelCard) -> Report:
    scores, twins = [trial.logit for trial in edited], [trial.twin for trial in edited]
    counts = np.array([trial.pixels[_pixel_index(card)] for trial in edited]).reshape(-1, 3)
    return {
        "edited_slices": len(edited),
        "auc": auc(scores, twins),
        "sensitivity_at_5_percent": sensitivity_at(scores, twins, 0.05),
        "sensitivity_at_1_percent": sensitivity_at(scores, twins, 0.01),
        "sensitivity_at_threshold": _share(card.slice_probabilities(np.array(scores)) >= card.thresholds.slice),
        "pixel_f1_mean": float(f1(counts).mean()) if len(counts) else float("nan"),
        "pixel_f1_pooled": float(f1(counts.sum(axis=0))),
        "type_right": float(np.nanmean([trial.type_right for trial in edited])) if edited else float("nan"),
    }


def _auc_interval(edited: Sequence[SliceTrial]) -> list[float]:
    scores, twins = (np.array([getattr(trial, name) for trial in edited]) for name in ("logit", "twin"))
    groups = [f"{trial.source}/{trial.patient}" for trial in edited]
    return list(interval(groups, lambda chosen: auc(scores[chosen], twins[chosen]), seed=1))


def _alarms(genuine: Sequence[SliceTrial], card: ModelCard) -> Report:
    passed = card.slice_probabilities(np.array([trial.logit for trial in genuine])) >= card.thresholds.slice
    pixels = [trial.pixels[_pixel_index(card)][1] for trial in genuine]
    return {
        "genuine_slices": len(genuine),
        "per_1000": 1000 * _share(passed),
        "per_1000_at_most": 1000 * upper_bound(int(passed.sum()), len(genuine)),
        "flagged_pixels_a_slice": float(np.mean(pixels)) if pixels else float("nan"),
    }


def _studies(trials: Trials, card: ModelCard) -> Report:
    def probability(logits: Iterable[float]) -> np.ndarray:
        return card.calibration.study.probability(np.array(list(logits)))

    def figures(wanted: Callable[[str], bool]) -> Report:
        genuine = [card.study_logit(t.logits) for t in trials.studies if t.family is None and wanted(t.source)]
        edited = [card.study_logit(t.logits) for t in trials.studies if t.family in TRAINED and wanted(t.source)]
        said, found = probability(genuine), probability(edited)
        review, suspect = card.thresholds.review, card.thresholds.suspect
        return {
            "genuine": len(genuine),
            "edited": len(edited),
            "auc": auc(edited, genuine),
            "genuine_at_review": int((said >= review).sum()),
            "genuine_at_suspect": int((said >= suspect).sum()),
            "edited_at_review": _share(found >= review),
            "edited_at_suspect": _share(found >= suspect),
        }

    sources = sorted({trial.source for trial in trials.studies})
    return {name: figures(lambda source, name=name: name in (source, "all")) for name in (*sources, "all")}  # type: ignore[misc]


def _calibration_error(edited: Sequence[SliceTrial], genuine: Sequence[SliceTrial], card: ModelCard) -> float:
    """With as many genuine slices as edited ones: the balance that the calibration was fitted for."""
    rng = np.random.default_rng(1)
    count = min(len(edited), len(genuine))
    if not count:
        return float("nan")
    logits = [
        trial.logit
        for group in (edited, genuine)
        for trial in (group[int(k)] for k in rng.permutation(len(group))[:count])
    ]
    outcome = np.repeat([True, False], count)
    return calibration_error(card.slice_probabilities(np.array(logits)).astype(np.float64), outcome)


def _pixel_index(card: ModelCard) -> int:
    return int(np.argmin(np.abs(PIXEL_THRESHOLDS - card.thresholds.pixel)))


def _share(values: Any) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


def tables(figures: Report) -> list[Table]:
    """The report for people: ranking by source and family, false alarms, studies."""
    images = Table(
        "edited slices of", "slices", "AUC", "found at 5 %", "at 1 %", "pixel F1", "type right", title="Images"
    )
    rows = {
        "all trained families": figures["overall"],
        "of these, known sources": figures["known_sources"],
        **figures["sources"],
        **figures["families"],
    }
    rows |= {"touched up": figures["touched_up"], "as edited": figures["as_edited"]}
    for name, row in rows.items():
        shares = [
            row[key] for key in ("sensitivity_at_5_percent", "sensitivity_at_1_percent", "pixel_f1_mean", "type_right")
        ]
        label = f"{name} (never trained)" if name in HELD_OUT else name
        images.add_row(label, str(row["edited_slices"]), f"{row['auc']:.3f}", *(f"{value:.2f}" for value in shares))
    alarms = Table("genuine slices of", "slices", "alarms in 1,000", "at most (95 %)", title="False alarms")
    for name, row in figures["false_alarms"].items():
        alarms.add_row(name, str(row["genuine_slices"]), f"{row['per_1000']:.1f}", f"{row['per_1000_at_most']:.1f}")
    studies = Table(
        "series of",
        "genuine",
        "edited",
        "AUC",
        "genuine at review",
        "at suspect",
        "edited at review",
        "at suspect",
        title="Series",
    )
    for name, row in figures["studies"].items():
        numbers = [str(row[key]) for key in ("genuine_at_review", "genuine_at_suspect")]
        shares = [f"{row[key]:.2f}" for key in ("edited_at_review", "edited_at_suspect")]
        studies.add_row(name, str(row["genuine"]), str(row["edited"]), f"{row['auc']:.3f}", *numbers, *shares)
    return [images, alarms, studies]
