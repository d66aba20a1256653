"""The figures of a model of instances as tables: for the terminal, for the page and for the card."""

from collections.abc import Sequence

from models.card import ModelCard
from models.evaluation import tabulated
from models.evaluation.slices import Figures
from models.reports import Cell, Measured, Report, Section, Table, text_of
from models.reports.terminal import markdown


def sections(figures: Figures) -> list[Section]:
    """Real tumours, edits, and the four classes of both networks, where there are two."""
    parts = [
        Section(
            "Real tumours",
            f"From a score of {figures['lesion_threshold']:.1f}, chosen on calibration patients. Found: a third of the "
            "lesion's voxels. Dice: with all regions that touch it, 0 where none does.",
            tables=[_real(figures)],
        ),
        Section(
            "Edits",
            "Found: an instance lies on the edit, at the score that one in twenty genuine slices passes.",
            tables=[_edits(figures), _families(figures)],
        ),
    ]
    if "classes" in figures:
        found = figures["classes"]
        accuracy = _between(found["accuracy_four"], found["accuracy_four_interval"], percent=True)
        alone = Measured(figures["accuracy_four_kind_of_unet"], percent=True)
        text = (
            f"{figures['proposer']} says whether a slice was edited, both networks what kind of edit it is, this one "
            f"whether there is a tumour. Accuracy, each class weighing the same: {accuracy}; {alone} where the U-Net "
            "alone says what kind. Published elsewhere, on other images and edits: 93.2 %."
        )
        parts.append(Section("Four classes", text, tables=tabulated.four_classes(figures)))
    return parts


def page(card: ModelCard, figures: Figures) -> Report:
    """The whole report."""
    real, whole = figures["real"]["all"], f"{card.name} {card.version}"
    found, dice = (_bounded(real, name) for name in ("found", "dice"))
    summary = (
        f"Of {real['lesions']} real lesions of held-out patients a share of {found} is found, with a Dice of {dice}, "
        f"and {Measured(real['false_a_series'], digits=2)} false lesions a series."
    )
    return Report(f"{whole}: real, added and removed tumours", sections(figures), [summary])


def readable(card: ModelCard) -> str:
    """The card as Markdown."""
    parts = [
        f"# {card.name} {card.version}\n",
        f"Finds tumours in brain MR as instances, real, added or removed, each with a mask ({card.network}). Licence\n"
        f"of the weights: {card.licence}, the strictest of the data sets used. Not a medical device.\n",
        f"SHA-256 of the weights: `{card.digest}`.\n",
        "Answers on edits " + ("count" if card.judges_edits else "do not count") + " in a verdict.\n",
    ]
    for section in sections(card.figures):
        parts += [f"## {section.title}\n", *(f"{text}\n" for text in section.paragraphs)]
        for table in section.tables:
            parts.append(f"**{table.caption}**\n\n{markdown(table)}" + (f"\n{table.note}\n" if table.note else ""))
    domain = {name: f"{text_of(low)} to {text_of(high)}" for name, (low, high) in card.domain.items()}
    for title, lines in (
        ("Domain (outside it: abstain)", [f"`{name}`: {text}" for name, text in domain.items()]),
        ("Data", [f"`{name}`: {text}" for name, text in card.data.items()]),
        ("Known failures", list(card.known_failures)),
    ):
        parts += [f"## {title}\n", "\n".join(f"- {line}" for line in lines) + "\n"]
    return "\n".join(parts)


def _real(figures: Figures) -> Table:
    columns = ["of", "series", "lesions", "found", "Dice", "Dice of those found", "Dice of a series",
               "found on slices", "false lesions a series", "slices without", "of these marked"]  # fmt: skip
    rows: list[list[Cell]] = [
        [
            name, row["series"], row["lesions"],
            _bounded(row, "found"), _bounded(row, "dice"), Measured(row["dice_found"], digits=2),
            Measured(row["dice_series"], digits=2), Measured(row["on_slices"], digits=2),
            _bounded(row, "false_a_series"), row["slices_without"], Measured(row["false_slices"], digits=2),
        ]
        for name, row in figures["real"].items()
    ]  # fmt: skip
    return Table("Real tumours of held-out patients", columns, rows)


def _edits(figures: Figures) -> Table:
    row = figures["edits"]
    rows: list[list[Cell]] = [["Mask R-CNN alone", Measured(row["auc"]), None]]
    if "gain" in row:
        rows += [
            ["the U-Net alone", _bounded(row, "unet_auc", 3), Measured(row["unet_at_5_percent"], digits=2)],
            [
                "both, mean of their log-odds",
                _bounded(row, "both_auc", 3),
                Measured(row["both_at_5_percent"], digits=2),
            ],
            ["gained by both", _bounded(row, "gain", 3), None],
        ]
    note = f"{row['edited_slices']:,} edited slices against {row['genuine_slices']:,} genuine ones."
    return Table("Edited slices", ["by", "AUC", "found at 5 %"], rows, note)


def _families(figures: Figures) -> Table:
    rows: list[list[Cell]] = []
    for kind, row in figures["kinds"].items():
        right = Measured(row["kind_right"], digits=2)
        rows.append([f"{kind}, all", row["edited_slices"], Measured(row["found_at_5_percent"], digits=2), right])
        rows += [[name, None, Measured(value, digits=2), None] for name, value in row["families"].items()]
    return Table("Edits that an instance lies on", ["edits", "slices", "found", "kind right where found"], rows)


def _bounded(row: Figures, key: str, digits: int = 2) -> Measured:
    return _between(row[key], row["intervals"][key], digits)


def _between(value: float, ends: Sequence[float], digits: int = 3, *, percent: bool = False) -> Measured:
    return Measured(value, ends[0], ends[1], digits=digits, percent=percent)


def tables(figures: Figures) -> Sequence[Table]:
    """All of them."""
    return [table for section in sections(figures) for table in section.tables]
