"""Pictures of a report on whole images: curves, confusion, reliability, worst cases, contact sheets of generators."""

from collections.abc import Sequence

import numpy as np

from models.images.evaluation import Evaluation, seen_kinds
from models.images.measures import Figures, grouped, probabilities
from models.images.subjects import Subject, spread
from models.images.trials import Trial, split
from models.reports import Measured, Picture, pictures
from models.reports.sheets import Tile, contact_sheet

_WORST = 12
_OF_A_KIND = 18


def drawn(evaluation: Evaluation) -> dict[str, list[Picture]]:
    """The pictures by the title of the section that they stand in."""
    figures = evaluation.figures
    return {
        "Eight classes": [_confusion(figures)],
        "Genuine or synthetic": [
            _roc(evaluation.paired, "made alike"),
            _roc([*evaluation.left, *_known(evaluation)], "as they came"),
            _kinds(figures, "made alike"),
            _kinds(figures["as_they_came"], "as they came"),
        ],
        "Robustness": [_ways(figures, "made alike"), _ways(figures["as_they_came"], "as they came")],
        "Calibration": [_reliability(evaluation)],
        "Worst cases": _worst(evaluation),
        "The generators": sheets([pair.made for pair in evaluation.pairs]),
    }


def sheets(made: Sequence[Subject]) -> list[Picture]:
    """A contact sheet of each kind, evenly over organs: images that no scanner made, as their generator made them."""
    kinds = sorted({subject.kind for subject in made})
    found = {kind: [subject for subject in made if subject.kind == kind] for kind in kinds}
    return [
        contact_sheet(
            [Tile(subject.pixels, subject.organ) for subject in spread(found[kind], _OF_A_KIND)],
            f"{kind}: {min(_OF_A_KIND, len(found[kind]))} of {len(found[kind])} test images",
            lines=1,
        )
        for kind in kinds
    ]


def _confusion(figures: Figures) -> Picture:
    ten = figures["ten_classes"]
    counts = np.array(ten["counts"], dtype=np.int64)
    caption = f"All ten classes, {ten['images']:,} images"
    return pictures.confusion(counts, ten["labels"], caption, answers=ten["answers"])


def _known(evaluation: Evaluation) -> list[Trial]:
    return [trial for trial in evaluation.stored if trial.subject.known]


def _roc(said: Sequence[Trial], how: str) -> Picture:
    made, real = split(said)
    negative = [trial.logit for trial in real]
    curves = {
        kind: ([trial.logit for trial in found], negative)
        for kind, found in sorted(grouped(made, lambda trial: trial.subject.kind))
    }
    return pictures.roc(curves, f"Each kind of generator against all genuine images of known sources, {how}")


def _kinds(figures: Figures, how: str) -> Picture:
    values = {kind: _auc(row) for kind, row in figures["by_kind"].items()}
    lowest = min([0.9, *(each.low for each in values.values() if each.low is not None)])
    return pictures.bars(
        values, f"AUC by kind of generator, {how}, 95 % by patient", axis="AUC", limits=(lowest, 1.0), target=0.995
    )


def _ways(figures: Figures, how: str) -> Picture:
    rows = figures["robustness"]
    values = {way: _auc(row) for way, row in rows.items()}
    lowest = min([0.8, *(each.low for each in values.values() if each.low is not None)])
    return pictures.bars(values, f"AUC by treatment, {how}, 95 % by patient", axis="AUC", limits=(lowest, 1.0))


def _auc(row: Figures) -> Measured:
    low, high = row["auc_interval"]
    return Measured(row["auc"], low, high, of=row["synthetic"])


def _reliability(evaluation: Evaluation) -> Picture:
    card = evaluation.card
    curves = {}
    for how, said in (
        ("made alike", evaluation.paired),
        ("as they came", [*evaluation.left, *_known(evaluation)]),
    ):
        seen = seen_kinds(card, sorted({trial.subject.kind for trial in said if trial.subject.synthetic}))
        chosen = [trial for trial in said if not trial.subject.synthetic or trial.subject.kind in seen]
        outcome = np.array([trial.subject.synthetic for trial in chosen], dtype=np.bool_)
        curves[f"{how}, {len(chosen):,} images"] = (probabilities(chosen, card), outcome)
    return pictures.reliability(curves, "Reliability over all images, whatever their balance")


def _worst(evaluation: Evaluation) -> list[Picture]:
    """The most confident misses and false alarms; pixels as the network saw them."""
    card, seed = evaluation.card, evaluation.figures["protocol"]["seed"]
    said = probabilities(evaluation.paired, card)
    order = np.argsort(said, kind="stable")
    synthetic = np.array([trial.subject.synthetic for trial in evaluation.paired], dtype=np.bool_)
    misses = [int(k) for k in order if synthetic[k] and said[k] < card.thresholds.image][:_WORST]
    alarms = [int(k) for k in order[::-1] if not synthetic[k] and said[k] >= card.thresholds.image][:_WORST]

    def tile(place: int) -> Tile:
        trial = evaluation.paired[place]
        pixels = evaluation.pairs[place // 2].saved(seed)[place % 2]
        name = trial.subject.kind or trial.subject.source
        return Tile(pixels, f"{name}, {trial.subject.organ}\np = {said[place]:.3f}")

    found = []
    if misses:
        found.append(contact_sheet([tile(k) for k in misses], "Synthetic images that were believed most", lines=3))
    if alarms:
        found.append(
            contact_sheet([tile(k) for k in alarms], "Genuine images that were doubted most, saved alike", lines=3)
        )
    others = sorted(evaluation.stored, key=lambda trial: -card.image_probability(trial.logit))
    flagged = [t for t in others if card.image_probability(t.logit) >= card.thresholds.image][:_WORST]
    if flagged:
        tiles = [
            Tile(
                np.array(trial.subject.pixels),
                f"{trial.subject.source}\np = {card.image_probability(trial.logit):.3f}, {trial.organ}",
            )
            for trial in flagged
        ]
        found.append(contact_sheet(tiles, "Genuine images that were doubted most, as their sources have them", lines=3))
    return found
