"""From a finished run of the Mask R-CNN to a published model: choose its threshold, measure, write weights and card."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models import datasets, registry
from models.card import INSTANCES, ModelCard, Thresholds
from models.errors import UnknownModel
from models.instance_evaluation import Report, evaluate
from models.instance_model import InstanceModel
from models.registry import SHIPPED, LoadedModel
from models.release import DATA, LICENCE, domain_ranges, trained_network
from models.splits import Split
from models.tampering import donors
from models.training import TrainingConfig

PROPOSER = "edit-unet"
KNOWN_FAILURES = (
    "Its answers on edits are not calibrated: `judges_edits` is false, so that it names tumours and no verdict hangs "
    "on it.",
    "Real tumours are marked in sources of two kinds, glioma on FLAIR and after contrast: others were not measured.",
    "Lesions of brain-cheng are boxes; their masks were taken to be ellipses.",
    "Trained on edit families that need no generator; no image of a published generative attack was at hand.",
)


def release(config: TrainingConfig, name: str, version: str, folder: Path = SHIPPED) -> ModelCard:
    """Publish the averaged weights of `config`'s run as `name` into `folder`; all that the card states is measured.

    The score from which a real tumour counts is the one of the highest Dice on the calibration patients. Raises
    MissingData when a source is absent.
    """
    torch.set_num_threads(config.threads)
    cases = datasets.load(config.data, config.output.parent / "cache", config.sources)
    proposer = _proposer()
    card = ModelCard(
        name=name,
        version=version,
        task=INSTANCES,
        network=config.network,
        arguments=dict(config.arguments),
        edit_types=("added", "removed"),
        proposals_from=PROPOSER if proposer is not None else None,
        judges_edits=False,
        digest="0" * 64,
        licence=LICENCE,
        domain=domain_ranges(cases),
        data={source: DATA[source] for source in config.sources},
        families=dict.fromkeys(config.families, "trained"),
        known_failures=KNOWN_FAILURES,
    )
    network = trained_network(config)
    model = InstanceModel(card, network, "cpu")

    def measured(split: Split, seed: int, lesion: float | None) -> Report:
        chosen = [case for case in cases if case.split is split]
        found = donors.of_cases(chosen, np.random.default_rng(seed), limit=200)
        return evaluate(model, proposer, chosen, found, config.families, seed=seed, lesion=lesion)

    lesion = float(measured(Split.CALIBRATION, 11, None)["lesion_threshold"])
    figures = measured(Split.TEST, 7, lesion)
    card = card.model_copy(update={"thresholds": Thresholds(lesion=lesion), "figures": figures})
    card = registry.publish(network, card, folder)
    (folder / "cards" / f"{card.name}.md").write_text(readable(card), encoding="utf-8")
    return card


def readable(card: ModelCard) -> str:
    """The card as Markdown."""
    figures = card.figures
    parts = [
        f"# {card.name} {card.version}",
        "",
        f"Finds tumours in brain MR as instances, real, added or removed, each with a mask ({card.network}). Licence",
        f"of the weights: {card.licence}, the strictest of the data sets used. Not a medical device.",
        "",
        f"SHA-256 of the weights: `{card.digest}`.",
        "",
        *_table(
            f"Real tumours of held-out patients, from a score of {figures['lesion_threshold']:.2f}", figures["real"]
        ),
        *_table(
            f"Edits of held-out patients, at 5 % false alarms (score {figures['edit_score_at_5_percent']:.2f}, "
            f"{figures['genuine_slices']:,} genuine slices)",
            {**figures["edits"], **figures["families"]},
        ),
        *_list("Domain (outside it: abstain)", card.domain, lambda ends: f"{ends[0]:.3g} to {ends[1]:.3g}"),
        *_list("Data", card.data, str),
        "## Known failures",
        "",
        *(f"- {text}" for text in card.known_failures),
    ]
    return "\n".join(parts) + "\n"


def _table(title: str, rows: dict[str, dict[str, Any]]) -> list[str]:
    names = list(next(iter(rows.values()), {}))
    lines = [f"## {title}", "", "| | " + " | ".join(name.replace("_", " ") for name in names) + " |"]
    lines.append("|---" * (len(names) + 1) + "|")
    lines += [f"| {label} | " + " | ".join(_number(row[name]) for name in names) + " |" for label, row in rows.items()]
    return [*lines, ""]


def _list(title: str, entries: dict[str, Any], words: Callable[[Any], str]) -> list[str]:
    return [f"## {title}", "", *(f"- `{name}`: {words(value)}" for name, value in entries.items()), ""]


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.2f}"


def _proposer() -> LoadedModel | None:
    try:
        return registry.load(PROPOSER)
    except UnknownModel:
        return None
