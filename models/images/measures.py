"""Figures from trials of a whole-image network; each with the counts that it rests on."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.figures import FloatArray, calibration_error, intervals, upper_bound
from models.images.card import ImageModelCard
from models.images.organs import EIGHT, KNOWN, Organ
from models.images.trials import Trial, split

Figures = dict[str, Any]
ABSTAINED = "no organ named"
RESAMPLES = 200  # of the patients, for an interval
_LEAST = 4  # images that make a series


def probabilities(trials: Sequence[Trial], card: ImageModelCard) -> FloatArray:
    """Calibrated probability of synthesis of each image."""
    return np.array([card.image_probability(trial.logit) for trial in trials])


def separation(trials: Sequence[Trial], card: ImageModelCard) -> Figures:
    """How well synthetic images are told from genuine ones; intervals by patient.

    `f1` is that of as many genuine images as synthetic ones, whatever the counts, at the card's threshold.
    """
    said = probabilities(trials, card)
    made = np.array([trial.subject.synthetic for trial in trials], dtype=np.bool_)
    logits = np.array([trial.logit for trial in trials])
    flagged = said >= card.thresholds.image

    def measured(chosen: NDArray[np.int64]) -> list[float]:
        positive, negative = chosen[made[chosen]], chosen[~made[chosen]]
        found, alarms = _share(flagged[positive]), _share(flagged[negative])
        return [
            *ranking(logits[positive], logits[negative]),
            2 * found / (2 * found + alarms + 1 - found),
            found,
            alarms,
        ]

    names = ("auc", "found_at_1_percent", "found_at_5_percent", "f1", "found", "false_alarms")
    values = measured(np.arange(len(trials)))
    low, high = _ends([trial.subject.patient for trial in trials], measured, len(names))
    figures: Figures = {
        "synthetic": int(made.sum()),
        "genuine": int((~made).sum()),
        "genuine_patients": len({trial.subject.patient for trial in trials if not trial.subject.synthetic}),
    }
    for place, name in enumerate(names):
        figures[name] = values[place]
        figures[f"{name}_interval"] = [low[place], high[place]]
    figures["missed_images"] = int((made & ~flagged).sum())
    figures["false_alarm_images"] = int((~made & flagged).sum())
    return figures


def organs(trials: Sequence[Trial]) -> Figures:
    """Exact counts of right, wrong and withheld answers about the organ, with every wrong one by name."""
    wrong = [trial for trial in trials if trial.organ not in (trial.subject.organ, Organ.UNKNOWN)]
    abstained = sum(trial.organ is Organ.UNKNOWN for trial in trials)
    errors = len(wrong) + abstained
    best = [KNOWN[int(np.argmax(trial.said.organs))] for trial in trials]
    return {
        "images": len(trials),
        "patients": len({trial.subject.patient for trial in trials}),
        "right": len(trials) - errors,
        "wrong": len(wrong),
        "abstained": abstained,
        "accuracy": 1 - errors / len(trials) if trials else None,
        "errors_at_most": upper_bound(errors, len(trials)),
        "accuracy_of_likeliest": _share(
            np.array([found is trial.subject.organ for found, trial in zip(best, trials, strict=True)])
        ),
        "wrong_answers": [
            {"image": trial.subject.key, "organ": trial.subject.organ, "said": trial.organ} for trial in wrong
        ],
    }


def confusion(trials: Sequence[Trial], card: ImageModelCard, wanted: Sequence[Organ] = KNOWN) -> Figures:
    """Counts by (truth, answer) of organ × genuine, synthetic; answers also outside `wanted`, or withheld.

    `classes` gives precision, recall and F1 of each class, as the field's tables do; a withheld answer is a miss.
    """
    chosen = [trial for trial in trials if trial.subject.organ in wanted]
    labels = [f"{organ}, {state}" for organ in wanted for state in ("real", "fake")]
    others = [f"{organ}, {state}" for organ in KNOWN if organ not in wanted for state in ("real", "fake")]
    answers = [*labels, *(["another organ"] if others else []), ABSTAINED]
    counts = np.zeros((len(labels), len(answers)), dtype=np.int64)
    for trial in chosen:
        row = 2 * wanted.index(trial.subject.organ) + int(trial.subject.synthetic)
        if trial.organ is Organ.UNKNOWN:
            column = len(answers) - 1
        elif trial.organ not in wanted:
            column = len(labels)
        else:
            fake = card.image_probability(trial.logit) >= card.thresholds.image
            column = 2 * wanted.index(trial.organ) + int(fake)
        counts[row, column] += 1
    classes = {}
    for place, label in enumerate(labels):
        right, said, true = counts[place, place], counts[:, place].sum(), counts[place].sum()
        precision, recall = _ratio(right, said), _ratio(right, true)
        classes[label] = {
            "images": int(true),
            "precision": precision,
            "recall": recall,
            "f1": _ratio(2 * right, said + true),
        }
    f1s = [each["f1"] for each in classes.values() if each["f1"] is not None]
    return {
        "labels": labels,
        "answers": answers,
        "counts": counts.tolist(),
        "images": len(chosen),
        "accuracy": _ratio(np.trace(counts[:, : len(labels)]), counts.sum()),
        "macro_f1": float(np.mean(f1s)) if f1s else None,
        "classes": classes,
    }


def alarms(genuine: Sequence[Trial], card: ImageModelCard) -> Figures:
    """Of each source: genuine images called synthetic, per 1,000, with the bound that is not exceeded at 95 %.

    `abstained`: no organ was named, the gateway abstains; `alarms_not_abstained` leaves these out.
    """

    def counted(trials: Sequence[Trial]) -> Figures:
        flagged = probabilities(trials, card) >= card.thresholds.image
        named = np.array([trial.organ is not Organ.UNKNOWN for trial in trials], dtype=np.bool_)
        raised = int((flagged & named).sum())
        return {
            "images": len(trials),
            "patients": len({trial.subject.patient for trial in trials}),
            "alarms": int(flagged.sum()),
            "per_1000": 1000 * _share(flagged),
            "per_1000_at_most": 1000 * upper_bound(int(flagged.sum()), len(trials)),
            "patients_with_alarms": len({t.subject.patient for t, flag in zip(trials, flagged, strict=True) if flag}),
            "abstained": int((~named).sum()),
            "alarms_not_abstained": raised,
            "per_1000_not_abstained": 1000 * raised / len(trials) if trials else None,
        }

    figures = {name: counted(found) for name, found in grouped(genuine, lambda trial: trial.subject.source)}
    others = [trial for trial in genuine if not trial.subject.known]
    return figures | {"all other sources": counted(others)} if others else figures


def calibration(trials: Sequence[Trial], card: ImageModelCard) -> Figures:
    """Expected calibration error with as many genuine as synthetic images: the balance that calibration assumes."""
    made, genuine = split(trials)
    count = min(len(made), len(genuine))
    if not count:
        return {"images": 0, "ece": None}
    rng = np.random.default_rng(1)
    chosen = [group[int(k)] for group in (made, genuine) for k in rng.permutation(len(group))[:count]]
    outcome = np.repeat([True, False], count)
    return {"images": 2 * count, "ece": calibration_error(probabilities(chosen, card), outcome)}


def series(trials: Sequence[Trial], card: ImageModelCard, most: int) -> Figures:
    """What a study-level decision says of slices together, at most `most` of each series; by source or kind."""
    rows: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for _, group in grouped(trials, lambda trial: (trial.subject.kind, trial.subject.series)):
        if len(group) >= _LEAST:
            seen = group[:most]
            logits = np.array([trial.logit for trial in seen], dtype=np.float32)
            subject = group[0].subject
            name = f"synthetic: {subject.kind}" if subject.synthetic else f"genuine: {subject.source}"
            named = Counter(trial.organ for trial in seen).most_common(1)[0][0] is not Organ.UNKNOWN
            rows[name].append((card.series_probability(logits), int(named)))
    return {name: _called(found, card) for name, found in sorted(rows.items())}


def _called(found: Sequence[tuple[float, int]], card: ImageModelCard) -> Figures:
    said = np.array([probability for probability, _ in found])
    return {
        "series": len(found),
        "at_review": int((said >= card.thresholds.review).sum()),
        "at_suspect": int((said >= card.thresholds.suspect).sum()),
        "organ_named": sum(named for _, named in found),
        "median_probability": float(np.median(said)),
    }


def by(trials: Sequence[Trial], card: ImageModelCard, key: Callable[[Trial], str]) -> Figures:
    """`separation` of each group of synthetic images, each from all the genuine images given."""
    made, genuine = split(trials)
    return {name: separation([*found, *genuine], card) for name, found in grouped(made, key)}


def each(
    trials: Sequence[Trial],
    key: Callable[[Trial], str],
    measure: Callable[[Sequence[Trial]], Figures],
    *,
    of_known: bool = True,
) -> Figures:
    """`measure` of each group; with `of_known` False, of sources that were never trained on alone."""
    wanted = trials if of_known else [trial for trial in trials if not trial.subject.known]
    return {name: measure(found) for name, found in grouped(wanted, key)}


def grouped(trials: Iterable[Trial], key: Callable[[Trial], Any]) -> list[tuple[Any, list[Trial]]]:
    found: dict[Any, list[Trial]] = defaultdict(list)
    for trial in trials:
        found[key(trial)].append(trial)
    return list(found.items())


def eight(trials: Sequence[Trial], card: ImageModelCard) -> Figures:
    return confusion(trials, card, EIGHT)


def _ends(
    patients: Sequence[str], measured: Callable[[NDArray[np.int64]], list[float]], count: int
) -> tuple[list[float], list[float]]:
    if not patients:
        return [float("nan")] * count, [float("nan")] * count
    low, high = intervals(patients, measured, seed=1, rounds=RESAMPLES)
    return low.tolist(), high.tolist()


def ranking(positive: FloatArray, negative: FloatArray) -> tuple[float, float, float]:
    """AUC, sensitivity at 1 % and at 5 % false alarms: `figures.auc` and `sensitivity_at`, from one sort."""
    if not positive.size or not negative.size:
        return float("nan"), float("nan"), float("nan")
    ordered = np.sort(negative)
    below = ordered.searchsorted(positive, "left").mean() + ordered.searchsorted(positive, "right").mean()
    one, five = np.quantile(ordered, (0.99, 0.95))
    return float(below / 2 / ordered.size), float((positive > one).mean()), float((positive > five).mean())


def _share(values: NDArray[np.bool_]) -> float:
    return float(values.mean()) if values.size else float("nan")


def _ratio(part: Any, whole: Any) -> float | None:
    return float(part / whole) if whole else None
