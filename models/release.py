"""From a finished training run to a published model: calibrate, choose thresholds, measure, write weights and card."""

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import nn

from models import audits, calibration, datasets, fitting, fusing, inputs
from models.card import ModelCard
from models.datasets import Case
from models.evaluation import Figures, families, report, trials_of
from models.readable import readable
from models.registry import SHIPPED, LoadedModel, available, publish, verify
from models.reports.plain import plain
from models.splits import UNSEEN, Split
from models.tampering.families import FAMILIES
from models.training import TrainingConfig
from models.trials import Plan, Trials
from models.trials.kept import keep, kept

LICENCE = "CC BY-NC-SA 4.0"
DATA = {
    "brain-lgg": "TCGA-LGG FLAIR and post-contrast T1, 8 bit, two sites; masks CC BY-NC-SA 4.0; patients by hash",
    "brain-cheng": "contrast-enhanced T1, JPEG history, CC BY 4.0; folds 1-3 train, 4 calibration, 5 test",
    "brain-ms": "FLAIR and T1 with multiple-sclerosis lesions, 16 bit, CC BY 4.0; patients 01, 04 train, 03 test",
    "flair-glioma": "REMBRANDT FLAIR, DICOM 16 bit, TCIA; HF0990 train, HF1058 calibration, HF1097 and HF1139 test",
    "t1-healthy": "sagittal T1 of one volunteer, UIH, DICOM, BSD-2; never trained or calibrated on: an unseen scanner",
}
_THICKEST = 10.0  # mm: single slices are trained on too, so that thick ones are nothing new; thin ones are
KNOWN_FAILURES = (
    "A scanner never seen (t1-healthy: sagittal, 1 mm slices) is judged little better than by chance and full of false "
    "alarms: `domain` rules such series out, and inference must abstain on them.",
    "Tumours removed by CT-GAN's own procedure (ctgan_removed, held out) are hardly seen; painted lesions with a ring "
    "or with spikes, held out too, seldom.",
    "After JPEG of quality 85 and below little is left to see.",
    "Tissue moved within the scan (copy_move, exemplar), elastic growth and fine resampling are often missed.",
    "The edit type is right for less than half of the edited pixels: say where, not what.",
    "Single slices of brain-cheng and brain-lgg-cs raise several times more false alarms than native series.",
    "Trained on the project's own edit families; no image of a published generative attack was at hand.",
    "Native 16-bit training data come from three patients of two sources.",
    "Calibrated for a balance of one genuine to one edited; at a real prevalence the probabilities are too high.",
)


def release(
    config: TrainingConfig,
    name: str,
    version: str,
    *,
    folder: Path = SHIPPED,
    plan: Plan | None = None,
) -> tuple[ModelCard, Figures]:
    """Publish the averaged weights of `config`'s run as `name` into `folder`; all that the card states is measured.

    Raises AuditFailed when something other than the edits tells edited images, and MissingData when a source is absent.
    """
    audits.require(audits.audit(config.data, _cache(config), config.families, config.sources))
    card = draft(config, name, version)
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        heard, measured = (
            pool.submit(listen, config, card, split, seed, plan)
            for split, seed in ((Split.CALIBRATION, 11), (Split.TEST, 7))
        )
        network = fitting.trained(config.network, config.arguments, config.output)
        trials = heard.result(), measured.result()
    for path, each in zip(kept_trials(config.output), trials, strict=True):
        keep(each, path)
    return conclude(card, network, *trials, folder)


def kept_trials(run: Path) -> tuple[Path, Path]:
    """Where `release` keeps the trials of calibration and of test patients: in the folder of the training run."""
    return run / "trials-calibration.jsonl.gz", run / "trials-test.jsonl.gz"


def refit(name: str, run: Path, *, folder: Path = SHIPPED) -> tuple[ModelCard, Figures]:
    """Calibrate, fuse and report again from the trials kept in `run`; weights in `folder` stay as they are.

    Raises TrialsUnreadable, and what models.registry.verify raises.
    """
    verify(name, folder=folder)
    card = next(card for card in available(folder) if card.name == name)
    heard, measured = (kept(path) for path in kept_trials(run))
    card = fitted(card, heard)
    figures = plain(report(measured, card))
    return restate(card, figures, folder), figures


def draft(config: TrainingConfig, name: str, version: str) -> ModelCard:
    """The card before anything is measured."""
    return ModelCard(
        name=name,
        version=version,
        network=config.network,
        arguments=dict(config.arguments),
        digest="0" * 64,
        licence=LICENCE,
        tile=config.stages[-1][1],
        domain=domain_ranges(datasets.load(config.data, _cache(config), config.sources)),
        data={name: text for name, text in DATA.items() if name in config.sources or name in UNSEEN},
        families={name: "trained" if name in config.families else "held out" for name in FAMILIES},
        known_failures=KNOWN_FAILURES,
    )


def conclude(
    card: ModelCard, network: nn.Module, heard: Trials, measured: Trials, folder: Path
) -> tuple[ModelCard, Figures]:
    """Calibrate on `heard`, report on `measured`, publish both with the network."""
    card = fitted(card, heard)
    figures = plain(report(measured, card))
    card = publish(network, card.model_copy(update={"figures": figures}), folder)
    _write(card, folder)
    return card, figures


def fitted(card: ModelCard, heard: Trials) -> ModelCard:
    """The card with all that is learned from the calibration patients."""
    trained = families.trained(card)
    logistics = calibration.fit(heard, trained)
    judging = fusing.judge(heard, logistics, calibration.thresholds(heard, logistics, trained), trained)
    return card.model_copy(
        update={
            "calibration": logistics,
            "thresholds": judging.thresholds,
            "fusion": judging.fused,
            "judging": plain(judging.told),
        }
    )


def restate(card: ModelCard, figures: Figures, folder: Path = SHIPPED) -> ModelCard:
    """Write figures that were measured again into a published card and its page; weights and thresholds stay."""
    restated = card.model_copy(update={"figures": plain(figures)})
    _write(restated, folder)
    return restated


def _write(card: ModelCard, folder: Path) -> None:
    card.write(folder / "cards" / f"{card.name}.json")
    (folder / "cards" / f"{card.name}.md").write_text(readable(card), encoding="utf-8")


def listen(config: TrainingConfig, card: ModelCard, split: Split, seed: int, plan: Plan | None) -> Trials:
    """The trials of one split, in a process of its own: two splits keep two cores busy."""
    torch.set_num_threads(1)
    model = LoadedModel(card, fitting.trained(config.network, config.arguments, config.output), "cpu")
    return trials_of(model, config.data, _cache(config), split=split, seed=seed, plan=plan, quiet=True)


def _cache(config: TrainingConfig) -> Path:
    return config.output.parent / "cache"


def domain_ranges(cases: Sequence[Case]) -> dict[str, tuple[float, float]]:
    """The range of each figure of inputs.domain over all series but those tested on, widened by a third."""
    rows = [
        inputs.domain(inputs.as_volume(case.images[::20] if case.separate else case.images), case.spacing)
        for case in cases
        if case.split is not Split.TEST
    ]
    ranges = {}
    for name in ("relative_noise", "smoothness", "quantile_99", "rows", "columns"):
        values = np.array([row[name] for row in rows])
        margin = (values.max() - values.min()) / 3
        ranges[name] = (float(max(0.0, values.min() - margin)), float(values.max() + margin))
    thinnest = min(row["slice_mm"] for row in rows if row["slice_mm"] > 0)
    ranges["slice_mm"] = (0.8 * thinnest, _THICKEST)
    return ranges
