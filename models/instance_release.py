"""From a finished run of the Mask R-CNN to a published model: choose its threshold, measure, write weights and card."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models import audits, datasets, registry
from models.card import INSTANCES, ModelCard, Thresholds
from models.fitting import trained
from models.instance_evaluation import Report, evaluate
from models.instance_model import InstanceModel
from models.registry import SHIPPED
from models.release import DATA, LICENCE, domain_ranges
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
    AuditFailed when something other than the edits tells edited images, and MissingData when a source is absent.
    """
    torch.set_num_threads(config.threads)
    cases = datasets.load(config.data, config.output.parent / "cache", config.sources)
    audits.require(audits.audit(config.data, config.output.parent / "cache", config.families, config.sources))
    card = ModelCard(
        name=name,
        version=version,
        task=INSTANCES,
        network=config.network,
        arguments=dict(config.arguments),
        edit_types=("added", "removed"),
        proposals_from=PROPOSER,
        judges_edits=False,
        digest="0" * 64,
        licence=LICENCE,
        domain=domain_ranges(cases),
        data={source: DATA[source] for source in config.sources},
        families=dict.fromkeys(config.families, "trained"),
        known_failures=KNOWN_FAILURES,
    )
    network = trained(config.network, config.arguments, config.output)
    model = InstanceModel(card, network, "cpu")
    cache = config.output.parent / "cache"
    chosen = measured(model, config.data, cache, split=Split.CALIBRATION, seed=11)
    lesion = float(chosen["lesion_threshold"])
    figures = measured(model, config.data, cache, split=Split.TEST, seed=7, lesion=lesion)
    card = card.model_copy(update={"thresholds": Thresholds(lesion=lesion), "figures": figures})
    card = registry.publish(network, card, folder)
    (folder / "cards" / f"{card.name}.md").write_text(readable(card), encoding="utf-8")
    return card


def measured(
    model: InstanceModel, data: Path, cache: Path, *, split: Split, seed: int, lesion: float | None = None
) -> Report:
    """The figures of the patients of a split, with the families and sources of the card and its U-Net's proposals.

    `lesion` None: the score from which a real tumour counts is chosen here. Raises UnknownModel when the card's U-Net
    is not one of the registry, and MissingData.
    """
    card = model.card
    cases = [case for case in datasets.load(data, cache, tuple(card.data)) if case.split is split]
    found = donors.of_cases(cases, np.random.default_rng(seed), limit=200)
    proposer = registry.load(card.proposals_from) if card.proposals_from is not None else None
    return evaluate(model, proposer, cases, found, tuple(card.families), seed=seed, lesion=lesion)


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
            {**figures["kinds"], **figures["families"]},
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
    lines += [f"| {label} | " + " | ".join(number(row[name]) for name in names) + " |" for label, row in rows.items()]
    return [*lines, ""]


def _list(title: str, entries: dict[str, Any], words: Callable[[Any], str]) -> list[str]:
    return [f"## {title}", "", *(f"- `{name}`: {words(value)}" for name, value in entries.items()), ""]


def number(value: float) -> str:
    """A count, or a share to two digits."""
    return f"{value:,}" if isinstance(value, int) else f"{value:.2f}"
