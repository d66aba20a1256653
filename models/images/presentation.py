"""The report of an evaluation for people: every table comes from its figures alone, pictures from what was said."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from models.images import evidence
from models.images.evaluation import Evaluation
from models.images.measures import Figures
from models.images.published import NOT_FOUND, PUBLISHED
from models.reports import Cell, Measured, Report, Section, Table

_CANNOT = (
    "The generators are the project's own, small, trained on a few hundred images of each organ at low resolution: no "
    "image of a commercial or published generator was at hand, and one that is better than these may pass unseen.",
    "The genuine images of an organ other than brain MR come from one source each. What is measured for chest, kidney, "
    "lung and knee holds for that source; images of a second hospital may behave as the other brain sources do, or "
    "worse.",
    "Intervals redraw patients (or runs of neighbouring images, where patients are not named). They do not show what "
    "another training, or another training of the generators, would give.",
    "Bounds on false alarms treat images as independent; slices of one patient are not, so the true bounds are wider. "
    "The number of patients stands beside each.",
    "The kidney, lung and knee images are published without a verified origin; whether all of them are genuine is the "
    "word of their publishers.",
    "Probabilities are calibrated for as many synthetic as genuine images. Where synthetic ones are rare they are too "
    "high; rank and threshold hold, the number does not.",
)


def report(evaluation: Evaluation, *, pictures: bool = True) -> Report:
    """The whole report; without `pictures`, what the terminal shows."""
    figures, card = evaluation.figures, evaluation.card
    shown = evidence.drawn(evaluation) if pictures else {}
    sections = [
        _measured(figures),
        _organ(figures),
        _eight(figures),
        _synthesis(figures),
        _left_out(figures),
        _other_sources(figures),
        _robustness(figures),
        _calibration(figures),
        _series(figures, card.thresholds.review, card.thresholds.suspect),
        _unknown(figures, evaluation.cost),
        _audits(figures),
        _compared(figures),
        Section("Worst cases", "The most confident misses and false alarms, as the network saw them."),
        Section("The generators", "Test images of each kind, as the generator made them."),
        Section("What this report cannot show", _CANNOT),
    ]
    kept = [
        Section(each.title, each.text, each.tables, shown.get(each.title, ()))
        for each in sections
        if each.tables or shown.get(each.title) or each.title == "What this report cannot show"
    ]
    return Report(f"{card.name} {card.version}: whole images that no scanner made", kept, summary(figures, card.name))


def summary(figures: Figures, name: str) -> list[str]:
    """The few sentences at the top: what was reached and what was missed."""
    rows = targets(figures)
    missed = [row for row in rows if row[3] == "missed"]
    overall, organ = figures["overall"], figures["organ"]["genuine"]
    lines = [
        f"{name} named the organ of {organ['right']:,} of {organ['images']:,} genuine images of held-out patients "
        f"({organ['wrong']} wrong, {organ['abstained']} withheld). It told {overall['synthetic']:,} images of "
        f"generators that it was trained against from {overall['genuine']:,} genuine ones that went the same way with "
        f"an AUC of {_m(overall, 'auc')}; {overall['missed_images']} were missed and {overall['false_alarm_images']} "
        "genuine ones flagged at its threshold."
    ]
    if missed:
        lines.append(
            "Missed of what was aimed at: " + "; ".join(f"{row[0]} ({row[2]}, aim {row[1]})" for row in missed)
        )
    return [*lines, "Not a medical device. No finding is proof, and no silence either."]


def targets(figures: Figures) -> list[tuple[str, str, Cell, str]]:
    """What was aimed at: name, aim, figure, and whether it was reached; what was not measured is no success."""
    overall, organ = figures["overall"], figures["organ"]["genuine"]
    rows: list[tuple[str, str, Measured, bool | None]] = [
        _aim("organ, held-out patients", "≥ 99.5 %", organ["accuracy"], 0.995, of=organ["images"], percent=True),
        _aim("AUC, seen generators", "≥ 0.995", overall["auc"], 0.995, overall["auc_interval"]),
        _aim("F1, seen generators", "≥ 0.98", overall["f1"], 0.98, overall["f1_interval"]),
    ]
    left = figures["left_out_generator"]
    for way, label, aim in (
        ("clean", "AUC, left-out generator, worst", 0.93),
        ("JPEG 80", "the same after JPEG 80", 0.88),
    ):
        found = {kind: row[way] for kind, row in left.items() if way in row}
        worst = min(found, key=lambda kind: found[kind]["auc"]) if found else ""
        value, ends = (found[worst]["auc"], found[worst]["auc_interval"]) if found else (None, None)
        rows.append(_aim(f"{label}{f': {worst}' if worst else ''}", f"≥ {aim}", value, aim, ends))
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


def _measured(figures: Figures) -> Section:
    protocol = figures["protocol"]
    images = [
        *((name, "genuine", row["images"], row["patients"]) for name, row in protocol["genuine"].items()),
        *((name, "synthetic", row["images"], row["patients"]) for name, row in protocol["synthetic"].items()),
    ]
    text = (
        "Images of patients that no part of training, calibration or choice of thresholds has seen; seed "
        f"{protocol['seed']}. A synthetic image is compared with a genuine one of its organ that went the same way: "
        "brought to the same resolution, given the histogram of the same third image and the same amount of noise, "
        "stored at the same depth."
    )
    aims = Table("What was aimed at", ("what", "aim", "measured", ""), targets(figures))
    counts = Table(
        "Images",
        ("source or kind of generator", "", "images", "patients or runs"),
        images,
        note="Of a free sample each image counts as a patient; where a source names none, a run of neighbours does.",
    )
    return Section("What was measured", text, [aims, counts])


def _organ(figures: Figures) -> Section:
    organ = figures["organ"]
    rows: list[tuple[Cell, ...]] = []
    sets = [
        ("genuine, as stored", organ["genuine"]),
        ("genuine, down the save path", organ["genuine_saved"]),
        ("synthetic", organ["synthetic"]),
        *((f"other source: {name}", row) for name, row in organ["other_sources"].items()),
    ]
    for name, row in sets:
        rows.append(
            (
                name,
                row["images"],
                row["patients"],
                row["wrong"],
                row["abstained"],
                Measured(row["accuracy"], percent=True, digits=4),
                Measured(row["errors_at_most"], percent=True, digits=4),
                Measured(row["accuracy_of_likeliest"], percent=True, digits=4),
            )
        )
    columns = ("", "images", "patients", "wrong", "withheld", "right", "errors at most (95 %)", "likeliest right")
    note = (
        "A withheld answer counts as an error in “right”; “likeliest right” is what it would be if none were withheld."
    )
    tables = [Table("Answers about the organ", columns, rows, note)]
    wrong = [
        (each["image"], each["organ"], each["said"])
        for found in (organ["genuine"], *organ["other_sources"].values())
        for each in found["wrong_answers"]
    ]
    if wrong:
        tables.append(Table("Every wrong answer about a genuine image", ("image", "organ", "said"), wrong[:60]))
    return Section("Organ", (), tables)


def _eight(figures: Figures) -> Section:
    eight = figures["eight_classes"]
    rows: list[tuple[Cell, ...]] = [
        (name, *_percents(row, "precision", "recall", "f1"), row["images"]) for name, row in eight["classes"].items()
    ]
    rows.append(
        (
            "all eight",
            None,
            Measured(eight["accuracy"], percent=True),
            Measured(eight["macro_f1"], percent=True),
            eight["images"],
        )
    )
    ours = Table(
        "Eight classes, in the form that the field publishes",
        ("class", "precision", "recall", "F1", "images"),
        rows,
        "Accuracy of all stands under recall. An answer that was withheld counts as a miss.",
    )
    matrix = Table(
        "Confusion matrix: truth in rows, answers in columns",
        ("truth", *eight["answers"]),
        [(label, *counts) for label, counts in zip(eight["labels"], eight["counts"], strict=True)],
    )
    beside = Table(
        "Beside published figures",
        ("system", "task", "figure", "read in", "why it is not like for like"),
        [
            (
                "this network, seen generators, held-out patients",
                "eight classes, fakes by the project's own generators",
                f"accuracy {_percent(eight['accuracy'])}, macro F1 {_percent(eight['macro_f1'])}",
                "this report",
                "–",
            ),
            *((each.system, each.task, each.figure, each.source, each.differs) for each in PUBLISHED),
        ],
        NOT_FOUND,
    )
    return Section(
        "Eight classes",
        "Brain MR, chest X-ray, kidney CT and lung CT, real and fake; knee stands in the picture.",
        [ours, matrix, beside],
    )


def _percents(row: Mapping[str, Any], *names: str) -> list[Cell]:
    return [Measured(row[name], percent=True) for name in names]


def _percent(value: float | None) -> str:
    return str(Measured(value, percent=True, digits=4))


def _m(row: Mapping[str, Any], name: str, *, percent: bool = False, digits: int = 3) -> Measured:
    low, high = row[f"{name}_interval"]
    return Measured(row[name], low, high, digits=digits, percent=percent)


_SEPARATION = (
    "synthetic",
    "genuine",
    "AUC (95 %)",
    "found at 1 % false alarms",
    "at 5 %",
    "F1",
    "missed",
    "false alarms",
)


def _separated(name: str, row: Mapping[str, Any]) -> tuple[Cell, ...]:
    return (
        name,
        row["synthetic"],
        row["genuine"],
        _m(row, "auc"),
        _m(row, "found_at_1_percent", percent=True),
        _m(row, "found_at_5_percent", percent=True),
        _m(row, "f1"),
        row["missed_images"],
        row["false_alarm_images"],
    )


def _synthesis(figures: Figures) -> Section:
    unseen = set(figures["unseen_kinds"])
    rows = [_separated("all seen kinds", figures["overall"])]
    if figures["unseen"]:
        rows.append(_separated("all kinds never trained against", figures["unseen"]))
    kinds = [
        _separated(f"{kind} (never trained against)" if kind in unseen else kind, row)
        for kind, row in figures["by_kind"].items()
    ]
    organs = [_separated(organ, row) for organ, row in figures["by_organ"].items()]
    instances = [_separated(name, row) for name, row in figures["by_instance"].items()]
    tables = [
        Table(
            "Synthetic images against genuine ones",
            ("", *_SEPARATION),
            rows,
            "F1 is that of as many genuine images as synthetic ones.",
        ),
        Table("By kind of generator", ("kind", *_SEPARATION), kinds),
        Table("Within each organ", ("organ", *_SEPARATION), organs),
    ]
    if len(instances) > len(kinds):
        tables.append(Table("By training of a generator", ("kind and training", *_SEPARATION), instances))
    return Section("Genuine or synthetic", (), tables)


def _left_out(figures: Figures) -> Section:
    rows = [
        _separated(f"{kind}, {way}", row)
        for kind, ways in figures["left_out_generator"].items()
        for way, row in ways.items()
    ]
    text = "Each row is another network, trained without any image of that kind and asked about that kind alone."
    return Section(
        "Generators left out", text, [Table("Left-out generators", ("kind", *_SEPARATION), rows)] if rows else []
    )


def _other_sources(figures: Figures) -> Section:
    rows = [
        (
            name,
            row["images"],
            row["patients"],
            row["alarms"],
            Measured(row["per_1000"], high=row["per_1000_at_most"], digits=1),
            row["patients_with_alarms"],
            row["abstained"],
            row["alarms_not_abstained"],
        )
        for name, row in figures["false_alarms"].items()
    ]
    alarms = Table(
        "Genuine images called synthetic, as their source has them",
        (
            "source",
            "images",
            "patients",
            "flagged",
            "in 1,000 (95 % bound)",
            "patients flagged",
            "organ withheld",
            "flagged and organ named",
        ),
        rows,
        "Where the organ is withheld the gateway abstains; the last column is what it would raise.",
    )
    left = [_separated(name, row) for name, row in figures["left_out_source"].items()]
    tables = [alarms]
    if left:
        tables.append(
            Table("Sources never trained on, beside synthetic images of their organ", ("source", *_SEPARATION), left)
        )
    return Section("Other sources", (), tables)


def _robustness(figures: Figures) -> Section:
    rows = [
        (*_separated(way, row), Measured(row["organ_accuracy"], percent=True), Measured(row["ece"]))
        for way, row in figures["robustness"].items()
    ]
    columns = ("treatment of both", *_SEPARATION, "organ right", "ECE")
    return Section("Robustness", "The same pairs, both treated alike.", [Table("Treatments", columns, rows)])


def _calibration(figures: Figures) -> Section:
    rows = [(name, row["images"], Measured(row["ece"])) for name, row in figures["calibration"].items()]
    note = "Over ten bins, with as many genuine images as synthetic ones."
    return Section("Calibration", (), [Table("Expected calibration error", ("", "images", "ECE"), rows, note)])


def _series(figures: Figures, review: float, suspect: float) -> Section:
    rows = [
        (
            name,
            row["series"],
            row["at_review"],
            row["at_suspect"],
            Measured(row["median_probability"]),
            row["organ_named"],
        )
        for name, row in figures["series"].items()
    ]
    columns = (
        "series of",
        "series",
        f"at review ({review:.2f})",
        f"at suspect ({suspect:.2f})",
        "median probability",
        "organ named",
    )
    note = "Synthetic series are images of one generator and source together; a run or a patient's images otherwise."
    return Section("Series", "Images of a series judged together.", [Table("Verdicts on series", columns, rows, note)])


def _unknown(figures: Figures, cost: Figures) -> Section:
    rows = [
        (
            row["input"],
            row["size"],
            row["organ"],
            row["right"],
            row["reason"] or f"{row['likeliest']} at {row['likeliest_share']:.2f}",
            Measured(row["probability"], digits=2),
            Measured(cost.get(row["input"], {}).get("seconds"), digits=3),
            Measured(cost.get(row["input"], {}).get("more_mib"), digits=0),
        )
        for row in figures["unknown_inputs"]
    ]
    columns = ("input", "size", "said", "as it should", "why", "probability of synthesis", "seconds", "MiB more")
    note = "Seconds and memory are of this run on this machine, and no part of the figures that repeat."
    return Section("Unknown inputs", (), [Table("Images of no organ that is known", columns, rows, note)])


def _audits(figures: Figures) -> Section:
    names = sorted({name for row in figures["audits"].values() if isinstance(row, Mapping) for name in row})
    rows = [
        (audit, *(_plain(row.get(name)) for name in names))
        for audit, row in figures["audits"].items()
        if isinstance(row, Mapping)
    ]
    text = (
        "Classifiers that see only what must not matter, by patient: down the save path they should be near 0.5. The "
        "better of two classifiers stands here."
    )
    return Section(
        "Audits",
        text,
        [Table("Area under the curve of simple classifiers", ("what they see", *names), rows)] if rows else [],
    )


def _plain(value: Any) -> Cell:
    if isinstance(value, list):
        return " to ".join(f"{each:.3f}" if isinstance(each, float) else str(each) for each in value)
    return value if isinstance(value, str | int | float) or value is None else str(value)


def _compared(figures: Figures) -> Section:
    found = figures.get("compared", {})
    rows = []
    for name, row in found.items():
        treated = row["robustness"]
        rows.append(
            (
                name,
                _m(row["overall"], "auc"),
                _m(row["overall"], "f1"),
                _m(row["overall"], "found_at_1_percent", percent=True),
                Measured(row["organ"]["accuracy"], percent=True, digits=4),
                _m(treated["JPEG 80"], "auc"),
                min(row["by_kind"], key=lambda kind: row["by_kind"][kind]["auc"]),
                Measured(min(each["auc"] for each in row["by_kind"].values())),
                Measured(row["calibration"]["all"]["ece"]),
            )
        )
    columns = (
        "network",
        "AUC",
        "F1",
        "found at 1 %",
        "organ right",
        "AUC after JPEG 80",
        "worst kind",
        "its AUC",
        "ECE",
    )
    return Section(
        "Networks compared",
        "The same images, the same treatments.",
        [Table("Networks side by side", columns, rows)] if rows else [],
    )


def tables(evaluation: Evaluation) -> Iterator[Table]:
    yield from report(evaluation, pictures=False).tables
