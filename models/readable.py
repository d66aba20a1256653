"""The card as a page: what a person reads before trusting the model."""

from collections.abc import Sequence

from models.card import ModelCard
from models.evaluation import Figures, tabulated
from models.evaluation.published import field_table
from models.reports import Table, text_of
from models.reports.terminal import markdown


def readable(card: ModelCard) -> str:
    """The card as Markdown, with every measured figure that a table of the report holds."""
    figures = card.figures
    parts = [
        f"# {card.name} {card.version}\n",
        f"Marks edited pixels in brain MR ({card.network}). Licence of the weights: {card.licence}, the strictest\n"
        "of the data sets used. Not a medical device.\n",
        f"SHA-256 of the weights: `{card.digest}`.\n",
        *_summary(figures),
        _table(field_table(figures)),
        *_tables("Edited slices", ranking(figures)),
        *_tables("Four classes", tabulated.four_classes(figures)),
        *_tables("Regions", [tabulated.froc(figures), *tabulated.froc_of_boxes(figures)]),
        *_tables(
            f"False alarms at the slice threshold ({card.thresholds.slice:.3f})",
            [tabulated.alarms("Genuine slices called edited", figures["false_alarms"])],
        ),
        *_tables(
            f"Series, at review ({card.thresholds.review:.3f}) and suspect ({card.thresholds.suspect:.3f})",
            [tabulated.studies(figures)],
        ),
        *(_list("How a series is judged", judging(card)) if card.judging else []),
        *_tables("Calibration", [tabulated.reliability(figures)]),
        *_tables("Compression, matrix, noise", [tabulated.ranking("After each condition", figures["by_condition"])]),
        *_list("Domain (outside it: abstain)", [_range(name, ends) for name, ends in card.domain.items()]),
        *_list("Data", [f"`{name}`: {text}" for name, text in card.data.items()]),
        *_list("Known failures", card.known_failures),
        "How these figures are measured: [docs/evaluation.md](../../docs/evaluation.md).\n",
    ]
    return "\n".join(parts)


def judging(card: ModelCard) -> list[str]:
    """Whether series are judged by a fusion, why, on how much that rests, and which false alarms cannot be excluded."""
    told = card.judging
    lines = [
        f"by: {told['by']}; {told['why']}",
        f"calibrated on {told['genuine_series']} genuine and {told['edited_series']} edited series of "
        f"{told['patients']} patients",
    ]
    for name, row in told.get("leave_one_patient_out", {}).items():
        lines.append(
            f"{name}, on patients left out: AUC {row['auc']:.3f}, log loss {row['log_loss']:.3f}, "
            f"calibration error {row['calibration_error']:.3f}"
        )
    if card.fusion is not None:
        weights = (f"{name} {weight:+.3g}" for name, weight in card.fusion.weights.items())
        lines.append(f"weights: {', '.join(weights)}; offset {card.fusion.offset:+.3g}")
        lines += [f"{name}: {words}" for name, words in told["groups"].items()]
    for name in ("review", "suspect"):
        bound = told[f"{name}_bound"]
        words = "as wanted" if bound["reached"] else f"{bound['wanted']:.0%} cannot be shown by so few"
        lines.append(
            f"{name} from {told[name]:.3f}: {bound['alarms']} of {bound['of']} genuine series pass, at most "
            f"{bound['at_most']:.1%} of such series with 95 % confidence ({words})"
        )
    return lines


def ranking(figures: Figures) -> list[Table]:
    """The tables of edited slices: all, by source, by family."""
    never = {name: f"{name} (held out)" for name in figures["never_trained"]}
    rows = {
        "all trained families": figures["overall"],
        "of these, known sources": figures["known_sources"],
        **{f"never trained: {name}": row for name, row in figures["unseen"].items()},
        **figures["by_touch_up"],
    }
    families = {never.get(name, name): row for name, row in figures["families"].items()}
    return [
        tabulated.ranking("All", rows),
        tabulated.ranking("By source (trained families)", figures["sources"]),
        tabulated.ranking("By family (all sources)", families),
    ]


def _summary(figures: Figures) -> list[str]:
    overall, known = (tabulated.bounded(figures[name], "auc") for name in ("overall", "known_sources"))
    return [
        f"Image AUC of trained edit families on held-out patients, 95 % by patient: **{overall}**\n"
        f"({figures['edited_slices']} edited slices against the genuine ones at their places); **{known}** without\n"
        "sources never seen.\n",
        f"Edits that were tried (SHA-256): `{figures['edits']}`.\n",
    ]


def _tables(title: str, tables: Sequence[Table]) -> list[str]:
    return [f"## {title}\n", *(_table(table) for table in tables)]


def _table(table: Table) -> str:
    note = f"\n{table.note}\n" if table.note else ""
    return f"**{table.caption}**\n\n{markdown(table)}{note}"


def _list(title: str, lines: Sequence[str]) -> list[str]:
    return [f"## {title}\n", "\n".join(f"- {line}" for line in lines) + "\n"]


def _range(name: str, ends: Sequence[float]) -> str:
    low, high = ends
    return f"{name.replace('_', ' ')}: {text_of(low)} to {text_of(high)}"
