"""What whole-image networks are aimed at, and what was reached of it."""

from collections.abc import Iterator, Sequence

from models.images.measures import Figures
from models.reports import Cell, Measured


def targets(figures: Figures) -> list[tuple[str, str, Cell, str]]:
    """What was aimed at: name, aim, figure, and whether it was reached; what was not measured is no success."""
    overall, organ = figures["overall"], figures["organ"]["genuine"]
    rows: list[tuple[str, str, Measured, bool | None]] = [
        _aim("organ, held-out patients", "≥ 99.5 %", organ["accuracy"], 0.995, of=organ["images"], percent=True),
        _aim("AUC, seen generators", "≥ 0.995", overall["auc"], 0.995, overall["auc_interval"]),
        _aim("F1, seen generators", "≥ 0.98", overall["f1"], 0.98, overall["f1_interval"]),
    ]
    came = figures["as_they_came"]["overall"]
    rows += [
        _aim("AUC, seen generators, as they came", "≥ 0.995", came["auc"], 0.995, came["auc_interval"]),
        _aim("F1, seen generators, as they came", "≥ 0.98", came["f1"], 0.98, came["f1_interval"]),
        *_left_out_aims(figures["left_out_generator"]),
    ]
    others = figures["false_alarms"].get("all other sources")
    rate = None if others is None else others["per_1000"]
    rows.append(
        (
            "false alarms in 1,000 genuine images of other sources",
            "≤ 10",
            Measured(rate, high=None if others is None else others["per_1000_at_most"], digits=1),
            None if rate is None else rate <= 10,
        )
    )
    words = {True: "reached", False: "missed", None: "not measured"}
    return [(name, aim, figure, words[reached]) for name, aim, figure, reached in rows]


def _left_out_aims(left: Figures) -> Iterator[tuple[str, str, Measured, bool | None]]:
    """The worst of the kinds that a network was trained without."""
    for way, label, aim in (
        ("clean", "AUC, left-out generator, worst", 0.93),
        ("JPEG 80", "the same after JPEG 80", 0.88),
        ("clean, as they came", "AUC, left-out generator, as they came, worst", 0.93),
        ("JPEG 80, as they came", "the same after JPEG 80, as they came", 0.88),
    ):
        found = {kind: row[way] for kind, row in left.items() if way in row and row[way]["auc"] is not None}
        worst = min(found, key=lambda kind: float(found[kind]["auc"])) if found else ""
        value, ends = (found[worst]["auc"], found[worst]["auc_interval"]) if found else (None, None)
        yield _aim(f"{label}{f': {worst}' if worst else ''}", f"≥ {aim}", value, aim, ends)


def _aim(
    name: str,
    aim: str,
    value: float | None,
    least: float,
    ends: Sequence[float] | None = None,
    *,
    of: int | None = None,
    percent: bool = False,
) -> tuple[str, str, Measured, bool | None]:
    low, high = ends or (None, None)
    return (
        name,
        aim,
        Measured(value, low, high, of=of, percent=percent, digits=4),
        None if value is None else value >= least,
    )
