"""The report of an evaluation for people: tables from its figures alone, pictures from what was said."""

from models.images import evidence, sections
from models.images.aims import targets
from models.images.evaluation import Evaluation
from models.images.measures import Figures
from models.images.sections import interval_of
from models.reports import Report, Section

_CANNOT = (
    "The generators are the project's own, small, trained on a few hundred images of each organ at low resolution: no "
    "image of a commercial or published generator was at hand, and one that is better than these may pass unseen.",
    "Every image of these generators was made from genuine ones: rebuilt, blended, translated, or denoised from under "
    "noise. An image that was made from nothing at all was not measured.",
    "As they came, images of these generators differ from genuine ones in size, weight and border (see the audits); "
    "what is found there need not be found in images whose maker hides that.",
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
    parts = [
        sections.measured(figures),
        sections.organ(figures),
        sections.eight(figures),
        sections.synthesis(figures),
        sections.left_out(figures),
        sections.other_sources(figures),
        sections.robustness(figures),
        sections.calibration(figures),
        sections.series(figures, card.thresholds.review, card.thresholds.suspect),
        sections.unknown(figures, evaluation.cost),
        sections.audits(figures),
        sections.compared(figures),
        Section("Worst cases", "The most confident misses and false alarms, as the network saw them."),
        Section("The generators", "Test images of each kind, as the generator made them."),
        Section("What this report cannot show", _CANNOT),
    ]
    kept = [
        Section(each.title, each.text, each.tables, shown.get(each.title, ()))
        for each in parts
        if each.tables or shown.get(each.title) or each.title == "What this report cannot show"
    ]
    return Report(f"{card.name} {card.version}: whole images that no scanner made", kept, summary(figures, card.name))


def summary(figures: Figures, name: str) -> list[str]:
    """The few sentences at the top: what was reached and what was missed."""
    rows = targets(figures)
    missed = [row for row in rows if row[3] == "missed"]
    overall, organ = figures["overall"], figures["organ"]["genuine"]
    came = figures["as_they_came"]["overall"]
    lines = [
        f"{name} named the organ of {organ['right']:,} of {organ['images']:,} genuine images of held-out patients "
        f"({organ['wrong']} wrong, {organ['abstained']} withheld). It told {overall['synthetic']:,} images of "
        f"generators that it was trained against from {overall['genuine']:,} genuine ones that went the same way with "
        f"an AUC of {interval_of(overall, 'auc')}; {overall['missed_images']} were missed and "
        f"{overall['false_alarm_images']} genuine ones flagged at its threshold.",
        f"As they came, without the save path between, the AUC was {interval_of(came, 'auc')}; "
        f"{came['missed_images']} of {came['synthetic']:,} synthetic images were missed, "
        f"{came['false_alarm_images']} of {came['genuine']:,} genuine ones flagged.",
    ]
    if missed:
        lines.append(
            "Missed of what was aimed at: " + "; ".join(f"{row[0]} ({row[2]}, aim {row[1]})" for row in missed)
        )
    return [*lines, "Not a medical device. No finding is proof, and no silence either."]
