"""From a finished run of the Mask R-CNN to a published model: calibrate, see whether it is worth it, measure, write."""

from pathlib import Path

import numpy as np
import torch

from models import audits, datasets, instance_calibration, instance_page, instance_trials, registry
from models.card import INSTANCES, ModelCard, Thresholds
from models.evaluation.slices import Figures
from models.fitting import trained
from models.instance_evaluation import report
from models.instance_model import InstanceModel
from models.instance_trials import InstanceTrials
from models.registry import SHIPPED
from models.release import DATA, LICENCE, domain_ranges
from models.reports.plain import plain
from models.splits import Split
from models.tampering import donors
from models.training import TrainingConfig

PROPOSER = "edit-unet"
CALIBRATION_SEED, SEED = 11, 7
KNOWN_FAILURES = (
    "A real tumour's score is the network's own, not calibrated; its threshold was chosen on calibration patients.",
    "Real tumours are marked in sources of two kinds, glioma on FLAIR and after contrast: others were not measured. "
    "The masks after contrast are those of FLAIR, and larger than what contrast shows.",
    "Lesions of brain-cheng are boxes; their masks were taken to be ellipses.",
    "Trained on edit families that need no generator; no image of a published generative attack was at hand.",
)
NO_JUDGE = (
    "Its answers on edits do not help the U-Net: `judges_edits` is false; it names tumours, no verdict hangs on it."
)


def release(config: TrainingConfig, name: str, version: str, folder: Path = SHIPPED) -> ModelCard:
    """Publish the averaged weights of `config`'s run as `name` into `folder`; all that the card states is measured.

    Everything that is chosen is chosen on calibration patients; test patients are looked at once, after that. Raises
    NotWorthShipping where it misses the rule of models.instance_calibration, AuditFailed when something other than the
    edits tells edited images, and MissingData when a source is absent.
    """
    torch.set_num_threads(config.threads)
    cache = config.output.parent / "cache"
    card = draft(config, name, version)
    model = InstanceModel(card, trained(config.network, config.arguments, config.output), "cpu")
    heard = trials_of(model, config.data, cache, split=Split.CALIBRATION, seed=CALIBRATION_SEED)
    card = chosen(card, heard)
    audits.require(audits.audit(config.data, cache, config.families, config.sources))
    looked = trials_of(model, config.data, cache, split=Split.TEST, seed=SEED)
    figures = plain(report(looked, card, proposer_of(card)))
    figures["calibration_patients"] = card.figures
    card = registry.publish(
        trained(config.network, config.arguments, config.output), card.model_copy(update={"figures": figures}), folder
    )
    (folder / "cards" / f"{card.name}.md").write_text(instance_page.readable(card), encoding="utf-8")
    return card


def draft(config: TrainingConfig, name: str, version: str) -> ModelCard:
    """The card before anything is measured."""
    return ModelCard(
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
        domain=domain_ranges(datasets.load(config.data, config.output.parent / "cache", config.sources)),
        data={source: DATA[source] for source in config.sources},
        families=dict.fromkeys(config.families, "trained"),
        known_failures=KNOWN_FAILURES,
    )


def chosen(card: ModelCard, heard: InstanceTrials) -> ModelCard:
    """The card with what calibration patients decide, and their figures; raises NotWorthShipping."""
    lesion = instance_calibration.lesion_threshold(heard)
    real = instance_calibration.require(heard, lesion)
    card = card.model_copy(
        update={"thresholds": Thresholds(lesion=lesion), "calibration": instance_calibration.calibrated(heard)}
    )
    judges, edits = instance_calibration.judges(heard, card, proposer_of(card))
    failures = card.known_failures if judges else (NO_JUDGE, *card.known_failures)
    said = plain({"real": real, "edits": edits})
    return card.model_copy(update={"judges_edits": judges, "known_failures": failures, "figures": said})


def measured(model: InstanceModel, data: Path, cache: Path, *, split: Split = Split.TEST, seed: int = SEED) -> Figures:
    """The figures of the patients of a split, with the families and sources of the card and its U-Net's proposals.

    Raises UnknownModel when the card's U-Net is not one of the registry, and MissingData.
    """
    return report(trials_of(model, data, cache, split=split, seed=seed), model.card, proposer_of(model.card))


def trials_of(
    model: InstanceModel, data: Path, cache: Path, *, split: Split, seed: int, quiet: bool = False
) -> InstanceTrials:
    """What model and proposer say of the patients of a split."""
    card = model.card
    cases = [case for case in datasets.load(data, cache, tuple(card.data)) if case.split is split]
    found = donors.of_cases(cases, np.random.default_rng(seed), limit=200)
    proposer = registry.load(card.proposals_from) if card.proposals_from is not None else None
    return instance_trials.run(model, proposer, cases, found, tuple(card.families), seed=seed, quiet=quiet)


def proposer_of(card: ModelCard) -> ModelCard | None:
    """The card of the U-Net that proposes regions to this model."""
    return next((each for each in registry.available() if each.name == card.proposals_from), None)
