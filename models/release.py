"""From a finished training run to a published model: calibrate, choose thresholds, measure, write weights and card."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors.torch import load_file

from models import calibration, datasets, inputs, networks
from models.card import Calibration, ModelCard
from models.datasets import Case
from models.evaluation import Report, report, trials_of
from models.registry import SHIPPED, LoadedModel, publish
from models.splits import Split
from models.tampering.families import FAMILIES
from models.training import TrainingConfig
from models.trials import Plan

LICENCE = "CC BY-NC-SA 4.0"
DATA = {
    "brain-lgg": "TCGA-LGG FLAIR and post-contrast T1, 8 bit, two sites; masks CC BY-NC-SA 4.0; patients by hash",
    "brain-cheng": "contrast-enhanced T1, JPEG history, CC BY 4.0; folds 1-3 train, 4 calibration, 5 test",
    "brain-ms": "FLAIR and T1 with multiple-sclerosis lesions, 16 bit, CC BY 4.0; patients 01, 04 train, 03 test",
    "flair-glioma": "REMBRANDT FLAIR, DICOM 16 bit, TCIA; HF0990 train, HF1058 calibration, HF1097 and HF1139 test",
    "t1-healthy": "sagittal T1 of one volunteer, UIH, DICOM, BSD-2; never trained or calibrated on: an unseen scanner",
}
KNOWN_FAILURES = (
    "Edits that add to an image and keep its noise (painted_onto) leave no residual trace.",
    "Trained on the project's own edit families; no image of a published generative attack was at hand.",
    "Native 16-bit training data come from three patients of two sources.",
    "Calibrated for a balance of one genuine to one edited; at a real prevalence the probabilities are too high.",
    "One source (t1-healthy) of one healthy volunteer stands for all scanners never seen.",
)
_RUN = 3  # slices


def release(
    config: TrainingConfig,
    name: str,
    version: str,
    *,
    folder: Path = SHIPPED,
    plan: Plan | None = None,
    quiet: bool = False,
) -> tuple[ModelCard, Report]:
    """Publish the averaged weights of `config`'s run as `name` into `folder`; all that the card states is measured.

    Raises MissingData when a source is absent.
    """
    network = networks.build(config.network, **config.arguments)
    network.load_state_dict(load_file(config.output / "weights.safetensors"))
    card = ModelCard(
        name=name,
        version=version,
        network=config.network,
        arguments=dict(config.arguments),
        digest="0" * 64,
        licence=LICENCE,
        calibration=Calibration(run=_RUN),
        domain=domain_ranges(datasets.load(config.data, config.output.parent / "cache", config.sources)),
        data=DATA,
        families={key: "trained" if family.trained else "held out" for key, family in FAMILIES.items()},
        known_failures=KNOWN_FAILURES,
    )
    cache = config.output.parent / "cache"
    model = LoadedModel(card, network, "cpu")
    heard = trials_of(model, config.data, cache, split=Split.CALIBRATION, seed=11, plan=plan, quiet=quiet)
    fitted = calibration.fit(heard, _RUN)
    card = card.model_copy(update={"calibration": fitted, "thresholds": calibration.thresholds(heard, fitted)})
    measured = trials_of(
        LoadedModel(card, network, "cpu"), config.data, cache, split=Split.TEST, seed=7, plan=plan, quiet=quiet
    )
    figures = report(measured, card)
    card = publish(network, card.model_copy(update={"figures": figures}), folder)
    (folder / "cards" / f"{name}.md").write_text(readable(card), encoding="utf-8")
    return card, figures


def domain_ranges(cases: Sequence[Case]) -> dict[str, tuple[float, float]]:
    """The range of each figure of inputs.domain over all series but those tested on, widened by a third."""
    rows = [
        inputs.domain(inputs.as_volume(part), case.spacing)
        for case in cases
        if case.split is not Split.TEST
        for part in (
            [case.images[index] for index in range(0, len(case.images), 40)] if case.separate else [case.images]
        )
    ]
    ranges = {}
    for name in ("relative_noise", "smoothness", "quantile_99", "rows", "columns", "pixel_mm", "slice_mm"):
        values = np.array([row[name] for row in rows if row[name] > 0 or not name.endswith("_mm")])
        margin = (values.max() - values.min()) / 3
        ranges[name] = (float(max(0.0, values.min() - margin)), float(values.max() + margin))
    return ranges


def readable(card: ModelCard) -> str:
    """The card as Markdown: what a person reads before trusting the model."""
    figures = card.figures
    overall = figures["overall"]
    low, high = overall["auc_interval"]
    lines = [
        f"# {card.name} {card.version}",
        "",
        f"Marks edited pixels in brain MR ({card.network}). Licence of the weights: {card.licence}, the strictest",
        "of the data sets used. Not a medical device.",
        "",
        f"SHA-256 of the weights: `{card.digest}`.",
        "",
        f"Image AUC of trained edit families on held-out patients: **{overall['auc']:.3f}** (95 % by patient:",
        f"{low:.3f} to {high:.3f}; {overall['edited_slices']} edited slices against the genuine ones at the same places).",
        "",
        "## Edited slices",
        "",
        "| | slices | AUC | found at 5 % false alarms | at 1 % | found at threshold | pixel F1 | type right |",
        "|---|---|---|---|---|---|---|---|",
    ]
    rows = {"all trained families": overall, **figures["sources"], **figures["families"]}
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
    lines += ["", f"Calibration error of slices (balanced): {figures['calibration_error']:.3f}.", "", "## Data", ""]
    lines += [f"- `{name}`: {text}" for name, text in card.data.items()]
    lines += ["", "## Known failures", ""]
    lines += [f"- {text}" for text in card.known_failures]
    return "\n".join(lines) + "\n"
