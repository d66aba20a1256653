"""The sections of a report on whole images; every table comes from the figures alone."""

from collections.abc import Mapping
from typing import Any

from models.images.aims import targets
from models.images.measures import Figures
from models.images.published import NOT_FOUND, PUBLISHED
from models.reports import Cell, Measured, Section, Table


def measured(figures: Figures) -> Section:
    protocol = figures["protocol"]
    images = [
        *((name, "genuine", row["images"], row["patients"]) for name, row in protocol["genuine"].items()),
        *((name, "synthetic", row["images"], row["patients"]) for name, row in protocol["synthetic"].items()),
    ]
    text = (
        "Images of patients that neither training nor calibration has seen; seed "
        f"{protocol['seed']}. A synthetic image is compared with a genuine one of its organ that went the same way: "
        "brought to the same resolution, given the histogram of the same third image and the same amount of noise, "
        "stored at the same depth (“made alike”). “As they came”: as the generator and the source left them, which is "
        "what a gateway meets, and where size and noise may help to tell them apart."
    )
    aims = Table("What was aimed at", ("what", "aim", "measured", ""), targets(figures))
    counts = Table(
        "Images",
        ("source or kind of generator", "", "images", "patients or runs"),
        images,
        note="Of a free sample each image counts as a patient; where a source names none, a run of neighbours does.",
    )
    return Section("What was measured", text, [aims, counts])


def organ(figures: Figures) -> Section:
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


def eight(figures: Figures) -> Section:
    came, alike = figures["as_they_came"]["eight_classes"], figures["eight_classes"]
    tables = []
    for how, eight in (("as they came", came), ("made alike", alike)):
        rows: list[tuple[Cell, ...]] = [
            (name, *_percents(row, "precision", "recall", "f1"), row["images"])
            for name, row in eight["classes"].items()
        ]
        of_all = Measured(eight["accuracy"], percent=True), Measured(eight["macro_f1"], percent=True)
        rows.append(("all eight", None, *of_all, eight["images"]))
        tables.append(
            Table(
                f"Eight classes, in the form that the field publishes, {how}",
                ("class", "precision", "recall", "F1", "images"),
                rows,
                "Accuracy of all stands under recall. An answer that was withheld counts as a miss.",
            )
        )
        tables.append(
            Table(
                f"Confusion matrix, {how}: truth in rows, answers in columns",
                ("truth", *eight["answers"]),
                [(label, *counts) for label, counts in zip(eight["labels"], eight["counts"], strict=True)],
            )
        )
    ours = [
        (
            f"this network, {how}",
            "eight classes, fakes by the project's own generators",
            f"accuracy {_percent(eight['accuracy'])}, macro F1 {_percent(eight['macro_f1'])}",
            "this report",
            "held-out patients",
        )
        for how, eight in (("as they came", came), ("made alike", alike))
    ]
    theirs = [(each.system, each.task, each.figure, each.source, each.differs) for each in PUBLISHED]
    columns = ("system", "task", "figure", "read in", "why it is not like for like")
    tables.append(Table("Beside published figures", columns, [*ours, *theirs], NOT_FOUND))
    text = "Brain MR, chest X-ray, kidney CT and lung CT, real and fake; knee stands in the picture."
    return Section("Eight classes", text, tables)


def _percents(row: Mapping[str, Any], *names: str) -> list[Cell]:
    return [Measured(row[name], percent=True) for name in names]


def _percent(value: float | None) -> str:
    return str(Measured(value, percent=True, digits=4))


def interval_of(row: Mapping[str, Any], name: str, *, percent: bool = False, digits: int = 3) -> Measured:
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
        interval_of(row, "auc"),
        interval_of(row, "found_at_1_percent", percent=True),
        interval_of(row, "found_at_5_percent", percent=True),
        interval_of(row, "f1"),
        row["missed_images"],
        row["false_alarm_images"],
    )


def synthesis(figures: Figures) -> Section:
    came = figures["as_they_came"]
    rows, kinds = [], []
    for how, found in (("made alike", figures), ("as they came", came)):
        rows.append(_separated(f"all seen kinds, {how}", found["overall"]))
        if found["unseen"]:
            rows.append(_separated(f"all kinds never trained against, {how}", found["unseen"]))
        unseen = set(found["unseen_kinds"])
        kinds.append(
            Table(
                f"By kind of generator, {how}",
                ("kind", *_SEPARATION),
                [
                    _separated(f"{kind} (never trained against)" if kind in unseen else kind, row)
                    for kind, row in found["by_kind"].items()
                ],
            )
        )
    organs = [_separated(organ, row) for organ, row in figures["by_organ"].items()]
    instances = [_separated(name, row) for name, row in figures["by_instance"].items()]
    note = "F1 is that of as many genuine images as synthetic ones, at the card's threshold."
    tables = [
        Table("Synthetic images against genuine ones", ("", *_SEPARATION), rows, note),
        *kinds,
        Table("Within each organ, made alike", ("organ", *_SEPARATION), organs),
    ]
    if len(instances) > len(figures["by_kind"]):
        tables.append(Table("By training of a generator, made alike", ("kind and training", *_SEPARATION), instances))
    return Section("Genuine or synthetic", (), tables)


def left_out(figures: Figures) -> Section:
    rows = [
        _separated(f"{kind}, {way}", row)
        for kind, ways in figures["left_out_generator"].items()
        for way, row in ways.items()
    ]
    text = (
        "Networks that were trained without any image of the kind, asked about that kind alone; such a network may "
        "have been trained for fewer steps, and without another kind too, so that not all that it misses is for want "
        "of the kind. F1, misses and false alarms are by the calibration of the whole network where such a network has "
        "none of its own."
    )
    return Section(
        "Generators left out", text, [Table("Left-out generators", ("kind", *_SEPARATION), rows)] if rows else []
    )


def other_sources(figures: Figures) -> Section:
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


def robustness(figures: Figures) -> Section:
    columns = ("treatment of both", *_SEPARATION, "organ right", "ECE")
    tables = [
        Table(
            f"Treatments of images {how}",
            columns,
            [
                (*_separated(way, row), Measured(row["organ_accuracy"], percent=True), Measured(row["ece"]))
                for way, row in found.items()
            ],
        )
        for how, found in (
            ("made alike", figures["robustness"]),
            ("as they came", figures["as_they_came"]["robustness"]),
        )
    ]
    return Section("Robustness", "The same images, genuine and synthetic treated alike.", tables)


def calibration(figures: Figures) -> Section:
    rows = [
        (f"{name}, {how}", row["images"], Measured(row["ece"]))
        for how, found in (("made alike", figures), ("as they came", figures["as_they_came"]))
        for name, row in found["calibration"].items()
    ]
    note = "Over ten bins, with as many genuine images as synthetic ones."
    return Section("Calibration", (), [Table("Expected calibration error", ("", "images", "ECE"), rows, note)])


def series(figures: Figures, review: float, suspect: float) -> Section:
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


def unknown(figures: Figures, cost: Figures) -> Section:
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


def audits(figures: Figures) -> Section:
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


def compared(figures: Figures) -> Section:
    found = figures.get("compared", {})
    rows = []
    for name, row in found.items():
        treated = row["robustness"]
        rows.append(
            (
                name,
                interval_of(row["overall"], "auc"),
                interval_of(row["as_they_came"], "auc"),
                interval_of(row["overall"], "f1"),
                interval_of(row["overall"], "found_at_1_percent", percent=True),
                Measured(row["organ"]["accuracy"], percent=True, digits=4),
                interval_of(treated["JPEG 80"], "auc"),
                min(row["by_kind"], key=lambda kind: row["by_kind"][kind]["auc"]),
                Measured(min(each["auc"] for each in row["by_kind"].values())),
                Measured(row["calibration"]["all"]["ece"]),
            )
        )
    columns = (
        "network",
        "AUC, made alike",
        "as they came",
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
