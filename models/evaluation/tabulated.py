"""The figures as tables, for the terminal and for the page."""

from collections.abc import Mapping, Sequence

from models.evaluation.slices import Figures
from models.reports import Cell, Measured, Table


def tables(figures: Figures) -> list[Table]:
    """What a person at a terminal reads first: ranking by source and family, false alarms, series."""
    rows = {
        "all trained families": figures["overall"],
        "of these, known sources": figures["known_sources"],
        **figures["sources"],
        **{_named(name, figures): row for name, row in (figures["families"] | figures["later_families"]).items()},
        "touched up": figures["touched_up"],
        "as edited": figures["as_edited"],
    }
    return [ranking("Images", rows), alarms("False alarms", figures["false_alarms"]), studies(figures)]


def ranking(caption: str, rows: Mapping[str, Figures], note: str = "") -> Table:
    """A row of edited slices for each group."""
    keys = ("sensitivity_at_5_percent", "sensitivity_at_1_percent", "pixel_f1_mean", "pixel_iou_mean", "type_right")
    columns = ["edited slices of", "slices", "AUC", "found at 5 %", "at 1 %", "pixel F1", "IoU", "type right"]
    cells = [
        [name, row["edited_slices"], bounded(row, "auc"), *(bounded(row, key, 2) for key in keys)]
        for name, row in rows.items()
    ]
    return Table(caption, columns, cells, note)


def alarms(caption: str, rows: Mapping[str, Figures]) -> Table:
    """Genuine slices called edited, with the rate that is not exceeded."""
    columns = ["genuine slices of", "slices", "alarms in 1,000", "flagged pixels a slice"]
    cells: list[list[Cell]] = [
        [
            name,
            row["genuine_slices"],
            Measured(row["per_1000"], high=row["per_1000_at_most"], digits=1),
            Measured(row["flagged_pixels_a_slice"], digits=1),
        ]
        for name, row in rows.items()
    ]
    return Table(
        caption, columns, cells, "At most: with 95 % confidence (Clopper-Pearson), slices taken as independent."
    )


def studies(figures: Figures) -> Table:
    """Series as a decision sees them, and beside it as the strongest run of slices alone would see them."""
    columns = [
        "series of",
        "genuine",
        "edited",
        "AUC",
        "ECE",
        "genuine at review",
        "at suspect",
        "edited at review",
        "at suspect",
    ]
    rows = dict(figures["studies"])
    whole = rows.get("all", {}).get("without_fusion")
    if whole is not None:
        rows["all, by the strongest run alone"] = whole
    counts, shares = ("genuine", "edited"), ("edited_at_review", "edited_at_suspect")
    cells: list[list[Cell]] = [
        [
            name,
            *(row[key] for key in counts),
            Measured(row["auc"]),
            Measured(row.get("calibration_error", float("nan"))),
            row["genuine_at_review"],
            row["genuine_at_suspect"],
            *(Measured(row[key], digits=2) for key in shares),
        ]
        for name, row in rows.items()
    ]
    return Table("Series", columns, cells, "ECE: calibration error, genuine and edited series weighted alike.")


def froc(figures: Figures, *, of: str = "froc", caption: str = "Regions (FROC)") -> Table:
    """Regions found at fixed false alarms a scan; `of` "froc_boxes": boxes of a density map."""
    rates = list(figures[of]["known sources"]["sensitivity"])
    columns = ["scans of", "genuine scans", "edits", *(f"found at {rate} a scan" for rate in rates), "found at all"]
    cells: list[list[Cell]] = [
        [
            name,
            row["genuine_scans"],
            row["edits"],
            *(_between(row["sensitivity"][rate], row["intervals"][rate]) for rate in rates),
            Measured(row["found_at_all"], digits=2),
        ]
        for name, row in figures[of].items()
    ]
    note = "False alarms are counted on genuine scans; a source of single images counts each as a scan."
    return Table(caption, columns, cells, note)


def froc_of_boxes(figures: Figures) -> list[Table]:
    """The same of the boxes of a density map; empty of a model without one."""
    caption = "Boxes of the density map (FROC)"
    return [froc(figures, of="froc_boxes", caption=caption)] if figures.get("froc_boxes") else []


def four_classes(figures: Figures) -> Sequence[Table]:
    """The confusion matrix, and precision, recall and F1 of each class."""
    found = figures["classes"]
    matrix = Table(
        "Confusion matrix (slices)",
        ["truth", *found["answers"]],
        [[name, *row] for name, row in zip(found["truths"], found["matrix"], strict=True)],
        ""
        if found["tells_tumours"]
        else "This model does not tell a tumour from none: what it does not call edited is “not edited”.",
    )
    keys = ("precision", "recall", "f1")
    rows: list[list[Cell]] = [
        [name, row["slices"], *(Measured(row[key], digits=3) for key in keys)] for name, row in found["classes"].items()
    ]
    return matrix, Table("Each class", ["class", "slices", "precision", "recall", "F1"], rows)


def reliability(figures: Figures) -> Table:
    """Calibration error by source."""
    cells: list[list[Cell]] = [
        [name, row["slices"], _between(row["error"], row["interval"], 3)]
        for name, row in figures["reliability"].items()
    ]
    note = "As many genuine slices as edited ones, drawn once; at another balance the probabilities are off."
    return Table("Expected calibration error", ["slices of", "slices", "error"], cells, note)


def bounded(row: Figures, key: str, digits: int = 3, *, percent: bool = False, of: int | None = None) -> Measured:
    """A figure of a row with its interval, where it has one."""
    low, high = row.get("intervals", {}).get(key, (None, None))
    return Measured(row[key], low, high, of, digits, percent)


def _between(value: float, ends: Sequence[float], digits: int = 2) -> Measured:
    return Measured(value, ends[0], ends[1], digits=digits)


def _named(name: str, figures: Figures) -> str:
    return f"{name} (never trained)" if name in figures["never_trained"] else name
