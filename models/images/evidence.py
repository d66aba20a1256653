"""Pictures of a report on whole images: curves, confusion, reliability, worst cases, contact sheets of generators."""

from collections.abc import Sequence

import numpy as np

from models.images.card import ImageModelCard
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
    figures, card = evaluation.figures, evaluation.card
    return {
        "Eight classes": [_confusion(figures)],
        "Genuine or synthetic": [_roc(evaluation), _kinds(figures)],
        "Robustness": [_ways(figures)],
        "Calibration": [_reliability(evaluation.paired, card)],
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
            f"{kind}: {len(found[kind])} test images, every {max(1, len(found[kind]) // _OF_A_KIND)}th shown",
            lines=1,
        )
        for kind in kinds
    ]


def _confusion(figures: Figures) -> Picture:
    ten = figures["ten_classes"]
    counts = np.array(ten["counts"], dtype=np.int64)
    caption = f"All ten classes, {ten['images']:,} images"
    return pictures.confusion(counts, ten["labels"], caption, answers=ten["answers"])


def _roc(evaluation: Evaluation) -> Picture:
    made, real = split(evaluation.paired)
    negative = [trial.logit for trial in real]
    curves = {
        kind: ([trial.logit for trial in found], negative)
        for kind, found in sorted(grouped(made, lambda trial: trial.subject.kind))
    }
    return pictures.roc(curves, "Each kind of generator against all genuine images that went the same way")


def _kinds(figures: Figures) -> Picture:
    values = {kind: _auc(row) for kind, row in figures["by_kind"].items()}
    lowest = min([0.9, *(each.low for each in values.values() if each.low is not None)])
    return pictures.bars(
        values, "AUC by kind of generator, 95 % by patient", axis="AUC", limits=(lowest, 1.0), target=0.995
    )


def _ways(figures: Figures) -> Picture:
    rows = figures["robustness"]
    values = {way: _auc(row) for way, row in rows.items()}
    lowest = min([0.8, *(each.low for each in values.values() if each.low is not None)])
    return pictures.bars(values, "AUC by treatment, 95 % by patient", axis="AUC", limits=(lowest, 1.0))


def _auc(row: Figures) -> Measured:
    low, high = row["auc_interval"]
    return Measured(row["auc"], low, high, of=row["synthetic"])


def _reliability(paired: Sequence[Trial], card: ImageModelCard) -> Picture:
    made, real = split(paired)
    seen = seen_kinds(card, sorted({trial.subject.kind for trial in made}))
    chosen = [*(trial for trial in made if trial.subject.kind in seen), *real]
    outcome = np.array([trial.subject.synthetic for trial in chosen], dtype=np.bool_)
    return pictures.reliability(
        {"seen kinds": (probabilities(chosen, card), outcome)}, f"Reliability over {len(chosen):,} images"
    )


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
