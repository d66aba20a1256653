"""What the field publishes and what we set out to reach, beside what was measured.

The published figures are those of the seeds of this field as ../shared/notes/detection.md collects them; they come from
other images and other edits, so that a difference of a few points says nothing.
"""

from dataclasses import dataclass

from models.evaluation.slices import Figures
from models.reports import Cell, Measured, Table


@dataclass(frozen=True)
class Measure:
    """A row: its name, what was published, and the targets on the same families, and on unseen families and sources."""

    name: str
    published: str
    same: str
    unseen: str


FOUR_CLASS = Measure("four-class accuracy", "93.2 %", "at least 96 %", "at least 88 %")
AUC = Measure("image AUC", "–", "at least .99", "at least .93, touched up .85")
FROC = {
    "0.1": Measure("regions found at 0.1 false alarms a scan", "–", "at least .85", "at least .60"),
    "0.5": Measure("regions found at 0.5 false alarms a scan", "–", "at least .93", "at least .75"),
    "1": Measure("regions found at 1 false alarm a scan", "–", "at least .95", "at least .82"),
}
F1 = Measure("edited-pixel F1, misses count 0", "–", "at least .93", "at least .75")
IOU = Measure("edited-pixel IoU, misses count 0", "–", "at least .88", "at least .62")
IOU_FOUND = Measure("edited-pixel IoU where something was found", ".88", "–", "–")
ALARMS = Measure("false alarms in 1,000 images", "37.5", "at most 10", "at most 10")
STUDIES = Measure("false alarms (SUSPECT) in 1,000 studies", "–", "at most 5", "at most 10")
ECE = Measure("expected calibration error", "–", "at most .03", "at most .07")


def field_table(figures: Figures) -> Table:
    """The table that papers print: ours on known sources and trained families, and where neither was ever seen."""
    known, strange = figures["known_sources"], figures["unseen"]["families and sources"]
    bounds, froc, classes = known["intervals"], figures["froc"]["known sources"], figures["classes"]
    studies, alarms = figures["studies"]["all"], figures["false_alarms"]["all"]
    error = figures["reliability"]["known sources"]
    rows: list[list[Cell]] = [
        _row(FOUR_CLASS, _bounded(classes["accuracy_four"], classes["accuracy_four_interval"])),
        _row(
            Measure("the same without telling tumour from none", "–", "–", "–"),
            _bounded(classes["accuracy_three"], classes["accuracy_three_interval"]),
        ),
        _row(AUC, _bounded(known["auc"], bounds["auc"]), strange["auc"]),
        *(_row(FROC[rate], _bounded(value, froc["intervals"][rate])) for rate, value in froc["sensitivity"].items()),
        _row(F1, _bounded(known["pixel_f1_mean"], bounds["pixel_f1_mean"]), strange["pixel_f1_mean"]),
        _row(IOU, _bounded(known["pixel_iou_mean"], bounds["pixel_iou_mean"]), strange["pixel_iou_mean"]),
        _row(IOU_FOUND, known["pixel_iou_found"], strange["pixel_iou_found"]),
        _row(ALARMS, Measured(alarms["per_1000"], high=alarms["per_1000_at_most"], digits=1)),
        _row(
            STUDIES,
            Measured(
                1000 * studies["genuine_at_suspect"] / max(studies["genuine"], 1),
                high=studies["suspect_per_1000_at_most"],
                of=studies["genuine"],
                digits=0,
            ),
        ),
        _row(ECE, _bounded(error["error"], error["interval"])),
    ]
    return Table(
        "Beside what is published",
        ["measure", "published", "ours", "target", "ours, never trained family and source", "target there"],
        rows,
        "Published figures come from other images and edits. Ours: trained families on held-out patients of known "
        "sources; false alarms over all sources. Intervals: 95 %, whole patients redrawn.",
    )


def _row(measure: Measure, ours: Cell, unseen: Cell = None) -> list[Cell]:
    return [measure.name, measure.published, ours, measure.same, unseen, measure.unseen]


def _bounded(value: float, ends: list[float]) -> Measured:
    return Measured(value, ends[0], ends[1])
