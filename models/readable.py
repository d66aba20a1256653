"""The card as a page: what a person reads before trusting the model."""

from models.card import ModelCard


def readable(card: ModelCard) -> str:
    """The card as Markdown, with every measured figure."""
    figures = card.figures
    overall, known = figures["overall"], figures["known_sources"]
    (low, high), (from_, to) = overall["auc_interval"], known["auc_interval"]
    lines = [
        f"# {card.name} {card.version}",
        "",
        f"Marks edited pixels in brain MR ({card.network}). Licence of the weights: {card.licence}, the strictest",
        "of the data sets used. Not a medical device.",
        "",
        f"SHA-256 of the weights: `{card.digest}`.",
        "",
        f"Image AUC of trained edit families on held-out patients: **{overall['auc']:.3f}** (95 % by patient:",
        f"{low:.3f} to {high:.3f}; {overall['edited_slices']} edited slices against the genuine ones at their places),",
        f"**{known['auc']:.3f}** ({from_:.3f} to {to:.3f}) without the scanner never seen.",
        "",
        "## Edited slices",
        "",
        "| | slices | AUC | found at 5 % false alarms | at 1 % | found at threshold | pixel F1 | type right |",
        "|---|---|---|---|---|---|---|---|",
    ]
    rows = {
        "all trained families": overall,
        "of these, known sources": known,
        **figures["sources"],
        **figures["families"],
    }
    rows |= {"touched up": figures["touched_up"], "as edited": figures["as_edited"]}
    for name, row in rows.items():
        keys = (
            "sensitivity_at_5_percent",
            "sensitivity_at_1_percent",
            "sensitivity_at_threshold",
            "pixel_f1_mean",
            "type_right",
        )
        label = f"{name} (held out)" if card.families.get(name) == "held out" else name
        lines.append(
            f"| {label} | {row['edited_slices']} | {row['auc']:.3f} | "
            + " | ".join(f"{row[k]:.2f}" for k in keys)
            + " |"
        )
    lines += ["", f"## False alarms at the slice threshold ({card.thresholds.slice:.3f})", ""]
    lines += ["| genuine slices of | slices | in 1,000 | at most (95 %) |", "|---|---|---|---|"]
    for name, row in figures["false_alarms"].items():
        lines.append(f"| {name} | {row['genuine_slices']} | {row['per_1000']:.1f} | {row['per_1000_at_most']:.1f} |")
    lines += [
        "",
        f"## Series, at review ({card.thresholds.review:.3f}) and suspect ({card.thresholds.suspect:.3f})",
        "",
    ]
    lines += ["| series of | genuine | edited | AUC | genuine at review | at suspect | edited at review | at suspect |"]
    lines += ["|---|---|---|---|---|---|---|---|"]
    for name, row in figures["studies"].items():
        lines.append(
            f"| {name} | {row['genuine']} | {row['edited']} | {row['auc']:.3f} | {row['genuine_at_review']} | "
            f"{row['genuine_at_suspect']} | {row['edited_at_review']:.2f} | {row['edited_at_suspect']:.2f} |"
        )
    lines += ["", "## Domain (outside it: abstain)", ""]
    lines += [f"- {name.replace('_', ' ')}: {low:.3g} to {high:.3g}" for name, (low, high) in card.domain.items()]
    lines += ["", f"Calibration error of slices (balanced): {figures['calibration_error']:.3f}.", "", "## Data", ""]
    lines += [f"- `{name}`: {text}" for name, text in card.data.items()]
    lines += ["", "## Known failures", ""]
    lines += [f"- {text}" for text in card.known_failures]
    return "\n".join(lines) + "\n"
