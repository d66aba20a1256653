"""The card of a whole-image network as a page: what a person reads before trusting it."""

from models.images.card import ImageModelCard
from models.reports import Report
from models.reports.terminal import markdown


def readable(card: ImageModelCard, report: Report) -> str:
    """The card as Markdown, with every table of the report that it was measured by."""
    organs = ", ".join(card.organs)
    thresholds = card.thresholds
    lines = [
        f"# {card.name} {card.version}",
        "",
        f"Says of a grey image which organ it shows ({organs}, or none that it knows) and whether a scanner made it",
        f"({card.network}). Licence of the weights: {card.licence}. Not a medical",
        "device.",
        "",
        f"SHA-256 of the weights: `{card.digest}`.",
        "",
        *report.summary,
        "",
        f"Thresholds: an image is called synthetic at {thresholds.image:.3f}, a series goes to REVIEW at",
        f"{thresholds.review:.3f} and is SUSPECT at {thresholds.suspect:.3f}; an organ is named at",
        f"{thresholds.organ:.2f} or more. Farther than {card.strangeness.get('limit')} standard deviations from",
        "every organ in the network's feature space an image is called unknown.",
        "",
    ]
    for section in report.sections:
        if not section.tables:
            continue
        lines += [f"## {section.title}", ""]
        for paragraph in section.paragraphs:
            lines += [paragraph, ""]
        for table in section.tables:
            lines += [f"**{table.caption}**", "", markdown(table), *([table.note, ""] if table.note else [])]
    lines += ["## Data", "", *(f"- `{name}`: {text}" for name, text in card.data.items()), ""]
    lines += ["## Generators that it was trained against", ""]
    lines += [f"- `{name}`: {text}" for name, text in card.generators.items()]
    lines += ["", "## Known failures", "", *(f"- {text}" for text in card.known_failures)]
    return "\n".join(lines) + "\n"
