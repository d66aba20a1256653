"""Measures a whole-image network on held-out patients and on generators' test images: `evaluate(...)`.

The same seed gives the same figures; seconds and memory, which do not repeat, stand apart. What a card states is what
`for_card` leaves of these figures, so that the one can be held against the other (`differences`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from models.images import audits, datasets, measures, strange, subjects, trials
from models.images.audits import AuditPair
from models.images.card import ImageModelCard
from models.images.datasets import GenuineImage
from models.images.measures import Figures
from models.images.organs import Organ
from models.images.prediction import ImageModel
from models.images.subjects import Plan, Subject
from models.images.synthetic import SyntheticImage, load_synthetic
from models.images.treatments import TREATMENTS
from models.images.trials import RANDOM_WAY, Pair, Trial
from models.reports.plain import plain
from models.splits import Split

SEED = 7  # of the figures on a card; `scanwarden evaluate` has the same by default
_NOT_ON_CARDS = ("compared",)
_COMPARED_WAYS = ("JPEG 80", RANDOM_WAY)


@dataclass(frozen=True, eq=False)
class Images:
    """What there is to ask about; loaded once for all networks that are compared."""

    genuine: list[Subject]
    synthetic: list[Subject]

    @property
    def known(self) -> list[Subject]:
        return [subject for subject in self.genuine if subject.known]

    @property
    def others(self) -> list[Subject]:
        return [subject for subject in self.genuine if not subject.known]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """`figures` repeat with the seed; `cost` (seconds, MiB) does not.

    `paired`: synthetic images and genuine ones that went the same way; `stored`: genuine ones as their source has them,
    `left` synthetic ones as their generator left them.
    """

    figures: Figures
    cost: Figures
    paired: list[Trial] = field(repr=False)
    stored: list[Trial] = field(repr=False)
    left: list[Trial] = field(repr=False)
    pairs: list[Pair] = field(repr=False)
    card: ImageModelCard = field(repr=False)


def load(data: Path, cache: Path, synthetic: Path, plan: Plan) -> Images:
    """Held-out genuine images and the generators' test images. Raises MissingData when either is absent."""
    return of_images(datasets.load(data, cache), load_synthetic(synthetic, splits=(Split.TEST,)), plan)


def of_images(genuine: Sequence[GenuineImage], synthetic: Sequence[SyntheticImage], plan: Plan) -> Images:
    return Images(subjects.genuine(genuine, plan), subjects.synthetic(synthetic, plan))


def evaluate(
    model: ImageModel,
    images: Images,
    *,
    seed: int = SEED,
    plan: Plan | None = None,
    against: Sequence[ImageModel] = (),
    left_out: Mapping[str, Figures] | None = None,
    quiet: bool = True,
) -> Evaluation:
    """Every figure of the report; `left_out` is what was measured of networks trained without a kind (`leave_out`)."""
    plan, card = plan or Plan(), model.card
    chosen = trials.pairs(images.synthetic, images.known, seed)
    said = trials.ask_pairs(model, chosen, seed, quiet=quiet)
    ways = trials.ask_ways(model, _treated(chosen, plan), seed, quiet=quiet)
    stored = trials.ask(model, images.genuine, quiet=quiet, what="genuine images")
    unknown, cost = strange.answers(model, seed)
    left = trials.ask(model, images.synthetic, quiet=quiet, what="synthetic images")
    known = [trial for trial in stored if trial.subject.known]
    figures = {
        "protocol": _protocol(images, plan, seed),
        "organ": {
            "genuine": measures.organs(known),
            "genuine_saved": measures.organs(trials.split(said)[1]),
            "synthetic": measures.organs(trials.split(said)[0]),
            "other_sources": measures.each(stored, lambda trial: trial.subject.source, measures.organs, of_known=False),
        },
        **core(said, card),
        "as_they_came": core([*left, *known], card)
        | {
            "eight_classes": measures.eight([*left, *known], card),
            "robustness": _treated_as_they_came(model, images, seed, plan, quiet=quiet),
        },
        "eight_classes": measures.eight(said, card),
        "ten_classes": measures.confusion(said, card),
        "by_organ": measures.each(
            said, lambda trial: trial.subject.organ, lambda found: measures.separation(found, card)
        ),
        "by_instance": measures.by(said, card, lambda trial: f"{trial.subject.kind} {trial.subject.instance}".strip()),
        "false_alarms": measures.alarms(stored, card),
        "left_out_source": _other_sources(model, images, seed, plan, quiet=quiet),
        "robustness": {way: _robust(found, card) for way, found in ways.items()},
        "series": measures.series([*left, *stored], card, plan.series),
        "unknown_inputs": unknown,
        "left_out_generator": dict(left_out or {}),
        "audits": _audits(subjects.spread(chosen, plan.audited), seed),
    }
    if against:
        figures["compared"] = {card.name: _brief(said, known, left, ways, card)} | {
            other.card.name: _brief_of(other, chosen, images, plan, seed, quiet=quiet) for other in against
        }
    return Evaluation(plain(figures), cost, said, stored, left, chosen, card)


def for_card(figures: Figures) -> Figures:
    """What a card keeps of a report: all but the comparison with other networks."""
    return {name: value for name, value in plain(figures).items() if name not in _NOT_ON_CARDS}


def differences(card: Figures, measured: Figures, path: str = "") -> list[str]:
    """Where a card's figures are not those of a report, as paths with both values; empty when they are equal."""
    return _differences(plain(card), for_card(measured), path)


def _differences(one: Any, other: Any, path: str) -> list[str]:
    if isinstance(one, dict) and isinstance(other, dict):
        return [
            line
            for key in sorted({*one, *other})
            for line in _differences(one.get(key), other.get(key), f"{path}/{key}")
        ]
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        pairs = enumerate(zip(one, other, strict=True))
        return [line for place, (a, b) in pairs for line in _differences(a, b, f"{path}/{place}")]
    return [] if one == other else [f"{path}: card {one}, measured {other}"]


def seen_kinds(card: ImageModelCard, kinds: Sequence[str]) -> tuple[str, ...]:
    """The kinds of generator whose images were trained on; all where the card names none."""
    return tuple(kind for kind in kinds if not card.generators or kind in card.generators)


def core(said: Sequence[Trial], card: ImageModelCard) -> Figures:
    """Genuine or synthetic, with the kinds that the card says were trained against apart from those that were not."""
    made, real = trials.split(said)
    kinds = sorted({trial.subject.kind for trial in made})
    seen = seen_kinds(card, kinds)
    known = [*(trial for trial in made if trial.subject.kind in seen), *real]
    unseen = [*(trial for trial in made if trial.subject.kind not in seen), *real]
    calibrated = {
        organ: measures.calibration(found, card)
        for organ, found in measures.grouped(known, lambda trial: trial.subject.organ)
    }
    return {
        "seen_kinds": list(seen),
        "unseen_kinds": [kind for kind in kinds if kind not in seen],
        "overall": measures.separation(known, card),
        "unseen": measures.separation(unseen, card) if len(unseen) > len(real) else None,
        "by_kind": measures.by(said, card, lambda trial: trial.subject.kind),
        "calibration": {"all": measures.calibration(known, card), **calibrated},
    }


def _brief(
    said: Sequence[Trial],
    stored: Sequence[Trial],
    left: Sequence[Trial],
    ways: Mapping[str, Sequence[Trial]],
    card: ImageModelCard,
) -> Figures:
    """What networks are compared by."""
    return {
        "organ": measures.organs(stored),
        "as_they_came": core([*left, *stored], card)["overall"],
        **core(said, card),
        "false_alarms": measures.alarms(stored, card),
        "robustness": {way: _robust(ways[way], card) for way in _COMPARED_WAYS},
    }


def _brief_of(
    model: ImageModel, chosen: Sequence[Pair], images: Images, plan: Plan, seed: int, *, quiet: bool
) -> Figures:
    name = model.card.name
    said = trials.ask_pairs(model, chosen, seed, quiet=quiet, what=f"{name}: pairs")
    few = _treated(chosen, plan)
    ways = {way: trials.ask_pairs(model, few, seed, way, quiet=quiet, what=f"{name}: pairs") for way in _COMPARED_WAYS}
    stored = trials.ask(model, images.known, quiet=quiet, what=f"{name}: genuine images")
    left = trials.ask(model, images.synthetic, quiet=quiet, what=f"{name}: synthetic images")
    return _brief(said, stored, left, ways, model.card)


def _treated(chosen: Sequence[Pair], plan: Plan) -> list[Pair]:
    wanted = {id(subject) for subject in subjects.few([pair.made for pair in chosen], plan.treated)}
    return [pair for pair in chosen if id(pair.made) in wanted]


def _robust(found: Sequence[Trial], card: ImageModelCard) -> Figures:
    made, real = trials.split(found)
    return measures.separation(found, card) | {
        "organ_accuracy": measures.organs(found)["accuracy"],
        "ece": measures.calibration([*made, *real], card)["ece"],
    }


def _treated_as_they_came(model: ImageModel, images: Images, seed: int, plan: Plan, *, quiet: bool) -> Figures:
    made = subjects.few(images.synthetic, plan.treated_as_they_came)
    kinds = len({subject.kind for subject in made})
    chosen = [*made, *subjects.few(images.known, plan.treated_as_they_came * kinds)]
    return {
        way: _robust(trials.ask(model, chosen, way, seed=seed, quiet=quiet, what="as they came"), model.card)
        for way in TREATMENTS
    }


def _other_sources(model: ImageModel, images: Images, seed: int, plan: Plan, *, quiet: bool) -> Figures:
    """Genuine images of each source that was never trained on, beside synthetic ones of their organ."""
    figures = {}
    for source, found in subjects.by_source(images.others):
        same = [subject for subject in images.synthetic if subject.organ is found[0].organ]
        chosen = trials.pairs(subjects.spread(same, plan.beside), found, seed)
        said = trials.ask_pairs(model, chosen, seed, quiet=quiet, what=f"pairs with {source}")
        figures[source] = measures.separation(said, model.card)
    return figures


def _audits(chosen: Sequence[Pair], seed: int) -> Figures:
    """What a classifier can tell from file size, header, histogram and border alone; first without the save path, to
    show what a network would learn there."""
    as_left = [AuditPair(np.array(pair.made.pixels), np.array(pair.real.pixels), pair.real.patient) for pair in chosen]
    saved = [AuditPair(*pair.saved(seed, RANDOM_WAY), pair.real.patient) for pair in chosen]
    return {
        f"{name}, {how}": figures
        for how, found in (("without the save path", as_left), ("down the save path", saved))
        for name, figures in audits.audit(found).items()
    }


def _protocol(images: Images, plan: Plan, seed: int) -> Figures:
    def counted(found: Sequence[Subject]) -> Figures:
        return {"images": len(found), "patients": len({subject.patient for subject in found})}

    kinds = sorted({subject.kind for subject in images.synthetic})
    organs = [organ for organ in Organ if any(subject.organ is organ for subject in images.genuine)]
    return {
        "seed": seed,
        "plan": asdict(plan),
        "genuine": {name: counted(found) for name, found in subjects.by_source(images.genuine)},
        "synthetic": {kind: counted([s for s in images.synthetic if s.kind == kind]) for kind in kinds},
        "organs": {organ: counted([s for s in images.known if s.organ is organ]) for organ in organs},
    }
