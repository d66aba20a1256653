"""The report as sections, tables and pictures: what models.reports writes as one page."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.card import ModelCard
from models.evaluation import families, regions
from models.evaluation import tabulated as tables
from models.evaluation.published import field_table
from models.evaluation.reliability import balanced
from models.evaluation.slices import Figures
from models.reports import Cell, Measured, Picture, Report, Section, Table
from models.reports.pictures import bars, confusion, froc, lines, reliability, roc
from models.reports.sheets import FOUND, TRUE, Tile, contact_sheet
from models.splits import UNSEEN
from models.trials import Shown, SliceTrial, Trials
from models.trials.showing import worst


def page(trials: Trials, card: ModelCard, figures: Figures, *, extra: Sequence[Section] = ()) -> Report:
    """The report on `trials`, whose `figures` come from models.evaluation.report; `extra` sections stand before the
    worst cases.

    The worst cases show images of third parties: the page is for reading, not for publishing.
    """
    sections = [
        Section("Beside the field", tables=[field_table(figures)]),
        _classes(figures),
        _ranking(trials, card, figures),
        _regions(trials, card, figures),
        _calibration(trials, card, figures),
        _conditions(figures),
        _groups(figures),
        Section(
            "False alarms and series",
            tables=[tables.alarms("False alarms", figures["false_alarms"]), tables.studies(figures)],
        ),
        *extra,
        _worst(trials, card),
        _made(card, figures),
    ]
    return Report(f"{card.name} {card.version}: what it finds and misses", sections, _summary(figures))


def _summary(figures: Figures) -> list[str]:
    known = figures["known_sources"]
    strange, alarms, whole = figures["unseen"], figures["false_alarms"]["all"], figures["studies"]["all"]
    return [
        f"Edited slices of trained families, held-out patients of known sources: AUC "
        f"{tables.bounded(known, 'auc')}; "
        f"{tables.bounded(known, 'sensitivity_at_5_percent', percent=True)} are found at "
        f"5 % false alarms, so {Measured(1 - known['sensitivity_at_5_percent'], percent=True)} are missed there.",
        f"Families never trained: AUC {Measured(strange['families, known sources']['auc'])} on known sources; sources "
        f"never trained: {Measured(strange['sources, trained families']['auc'])}; both: "
        f"{Measured(strange['families and sources']['auc'])}.",
        f"{Measured(alarms['per_1000'], high=alarms['per_1000_at_most'], digits=1)} of 1,000 genuine slices are called "
        f"edited. Of {whole['genuine']} genuine series {whole['genuine_at_review']} reach REVIEW and "
        f"{whole['genuine_at_suspect']} of them SUSPECT; of {whole['edited']} edited ones "
        f"{Measured(whole['edited_at_suspect'], percent=True)} are called SUSPECT.",
    ]


def _classes(figures: Figures) -> Section:
    found = figures["classes"]
    if not found["truths"]:
        return Section("Four classes", "No slice was edited to a claim, and no source marks its tumours.")
    picture = confusion(np.array(found["matrix"]), found["truths"], "Truth and answer", answers=found["answers"])
    return Section("Four classes", tables=tables.four_classes(figures), pictures=[picture])


def _ranking(trials: Trials, card: ModelCard, figures: Figures) -> Section:
    own = families.trained(card)
    edited = [trial for trial in trials.slices if trial.family is not None]
    parts = {
        "trained families, known sources": [t for t in edited if t.family in own and t.source not in UNSEEN],
        "never trained families, known sources": [t for t in edited if t.family not in own and t.source not in UNSEEN],
        "trained families, source never seen": [t for t in edited if t.family in own and t.source in UNSEEN],
    }
    curves = {name: ([t.logit for t in part], [t.twin for t in part]) for name, part in parts.items() if part}
    named = {
        f"{name} (never trained)" if name in figures["never_trained"] else name: row
        for name, row in (figures["families"] | figures["later_families"]).items()
    }
    found = {name: tables.bounded(row, "auc", of=row["edited_slices"]) for name, row in named.items()}
    rows = {"all trained families": figures["overall"], "of these, known sources": figures["known_sources"]}
    return Section(
        "Edited slices against their genuine twins",
        tables=[
            tables.ranking("All", rows | {f"never trained: {name}": row for name, row in figures["unseen"].items()}),
            tables.ranking("By source (trained families)", figures["sources"]),
            tables.ranking("By family (all sources)", named),
        ],
        pictures=[
            roc(curves, "ROC of edited slices against the genuine slices at their places"),
            bars(found, "AUC by family, all sources", axis="AUC", limits=(0.4, 1.0)),
        ],
    )


def _regions(trials: Trials, card: ModelCard, figures: Figures) -> Section:
    own = families.trained(card)
    scans = [scan for scan in trials.scans if scan.family is None or scan.family in own]
    parts = {
        "known sources": [s for s in scans if s.source not in UNSEEN and not s.alone],
        **{name: [s for s in scans if s.source == name] for name in sorted({scan.source for scan in scans})},
    }
    curves = {name: regions.points(part) for name, part in parts.items()}
    return Section(
        "Regions",
        "An edit is found when a region lies in it by a fifth and covers a tenth of it; by the boxes of a density map, "
        "when one overlaps the box around it on some slice by an intersection over union of 0.3.",
        tables=[tables.froc(figures), *tables.froc_of_boxes(figures)],
        pictures=[froc(curves, "FROC: edits hit against false alarms on genuine scans")],
    )


def _calibration(trials: Trials, card: ModelCard, figures: Figures) -> Section:
    own = families.trained(card)

    def curve(wanted: Sequence[SliceTrial]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        edited = [t for t in wanted if t.family in own]
        chosen, outcome = balanced(edited, [t for t in wanted if t.family is None])
        return card.slice_probabilities(np.array([t.logit for t in chosen])), outcome

    parts = {"all": trials.slices, "known sources": [t for t in trials.slices if t.source not in UNSEEN]}
    curves = {name: curve(part) for name, part in parts.items()}
    return Section(
        "Calibration",
        tables=[tables.reliability(figures)],
        pictures=[reliability(curves, "What was said and what was true, as many genuine slices as edited")],
    )


def _conditions(figures: Figures) -> Section:
    rows = figures["by_condition"]
    noted = "One slice of each of a part of the edits, with its neighbours alone; compare with “as stored”."
    twins: list[list[Cell]] = [
        [name, row["edited_slices"], Measured(row["twins_per_1000"], digits=0)] for name, row in rows.items()
    ]
    steps = list(range(len(rows)))
    curve = {
        "AUC": (steps, [row["auc"] for row in rows.values()]),
        "found at 5 %": (steps, [row["sensitivity_at_5_percent"] for row in rows.values()]),
        "pixel F1": (steps, [row["pixel_f1_mean"] for row in rows.values()]),
    }
    captions = ", ".join(f"{k} {name}" for k, name in enumerate(rows))
    return Section(
        "Compression, matrix, noise",
        tables=[
            tables.ranking("The same edits after each condition", rows, noted),
            Table("Genuine twins called edited", ["condition", "slices", "in 1,000"], twins),
        ],
        pictures=[lines(curve, captions, across="condition", up="share", limits=(0, 1))],
    )


def _groups(figures: Figures) -> Section:
    names = {
        "by_touch_up": "By touch-up",
        "by_position": "By position in the series",
        "by_size": "By size: diameter as a share of the slice's width",
        "by_tumour": "By what the genuine slice shows",
        "by_edit_type": "By what the edit claims",
    }
    return Section(
        "Where, how large, what",
        "Trained families on held-out patients of known sources.",
        tables=[
            *(tables.ranking(caption, figures[key]) for key, caption in names.items()),
            tables.alarms("False alarms by position", figures["alarms_by_position"]),
            tables.alarms("False alarms by what the slice shows", figures["alarms_by_tumour"]),
        ],
    )


def _worst(trials: Trials, card: ModelCard) -> Section:
    def tile(case: Shown) -> Tile:
        said = case.said >= 255 * card.thresholds.pixel
        words = f"{case.family}, touched up" if case.touched_up else case.family or "genuine"
        chance = float(card.slice_probabilities(np.array([case.logit]))[0])
        label = f"{words}\n{case.source} {case.series}\nslice {case.index + 1}, said {chance:.2f}"
        return Tile(case.given, label, [(case.mask, TRUE), (said, FOUND)])

    def sheet(cases: Sequence[Shown], caption: str) -> Picture:
        return contact_sheet([tile(case) for case in cases], caption, columns=4, size=208, lines=4)

    misses, alarms = worst(trials.misses), worst(trials.alarms)
    return Section(
        "The worst cases",
        "Green: where the edit is. Orange: what was flagged. Images of third parties: not for publication.",
        pictures=[
            *([sheet(misses, "Edited slices with the lowest scores")] if misses else []),
            *([sheet(alarms, "Genuine slices with the highest scores")] if alarms else []),
        ],
    )


def _made(card: ModelCard, figures: Figures) -> Section:
    rows: list[list[Cell]] = [
        ["weights (SHA-256)", card.digest],
        ["edits (SHA-256)", figures["edits"]],
        ["trained families", ", ".join(families.trained(card))],
        ["never trained families", ", ".join(figures["never_trained"]) or "none"],
        ["families that could not be made here", ", ".join(families.not_here(card)) or "none"],
        ["sources never trained", ", ".join(UNSEEN)],
        ["patients", figures["patients"]],
        [
            "slice, review, suspect thresholds",
            ", ".join(
                f"{value:.3f}" for value in (card.thresholds.slice, card.thresholds.review, card.thresholds.suspect)
            ),
        ],
    ]
    return Section(
        "How it was made",
        "Two evaluations with the same digest of edits were tried on the very same images.",
        tables=[Table("What this report rests on", ["what", "value"], rows)],
    )
