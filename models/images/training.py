"""Trains a whole-image network: `train(ImageTrainingConfig(...))`, again to go on where a stopped run left off."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import cv2
import torch
from torch import Tensor, nn
from torch.nn import functional

from models import fitting, networks
from models.images import datasets, inputs
from models.images.datasets import SOURCES, GenuineImage
from models.images.samples import DEFAULT_SHARES, Batch, ImageBatches, Shares
from models.images.synthetic import SyntheticImage, load_synthetic
from models.splits import Split

TRAINED_SOURCES = tuple(source.name for source in SOURCES if source.trains)


@dataclass(frozen=True)
class ImageTrainingConfig:
    """One training run. `without_kinds` and `without_sources` are left out, to be tested on."""

    data: Path
    synthetic: Path
    output: Path
    network: str = "organ_resnet"
    arguments: dict[str, int] = field(default_factory=lambda: {"channels": len(inputs.CHANNELS)})
    without_kinds: tuple[str, ...] = ()
    without_sources: tuple[str, ...] = ()
    steps: int = 4500
    shares: Shares = DEFAULT_SHARES
    learning_rate: float = 2e-3
    seed: int = 1
    threads: int = 1
    workers: int = 1
    checkpoint_every: int = 100
    device: str = "cpu"

    @property
    def cache(self) -> Path:
        return self.output.parent / "cache"

    @property
    def sources(self) -> tuple[str, ...]:
        return tuple(name for name in TRAINED_SOURCES if name not in self.without_sources)

    def identity(self) -> str:
        """What must be equal for a checkpoint to be continued: all but paths, machine and length of the run."""
        left_out = {"data", "synthetic", "output", "threads", "workers", "checkpoint_every", "steps", "device"}
        return json.dumps({key: value for key, value in asdict(self).items() if key not in left_out}, sort_keys=True)


def train(config: ImageTrainingConfig, *, stop_after: int | None = None, quiet: bool = False) -> Path:
    """Train, or go on from `config.output`/checkpoint.safetensors; returns the folder of averaged weights and curves.

    `stop_after` ends this call after so many steps. Raises MissingData, and CheckpointMismatch when the folder holds a
    checkpoint of another configuration.
    """
    cv2.setNumThreads(1)  # before the first use: a worker that is forked beside OpenCV's threads waits for ever
    genuine, synthetic = material(config, Split.TRAIN)
    batches = ImageBatches(genuine, synthetic, config.steps, config.seed, config.shares)
    return fit(config, batches, stop_after=stop_after, quiet=quiet)


def material(config: ImageTrainingConfig, split: Split) -> tuple[list[GenuineImage], list[SyntheticImage]]:
    """The genuine and synthetic images of one split that a run may see; raises MissingData."""
    genuine = datasets.load(config.data, config.cache, config.sources)
    synthetic = load_synthetic(config.synthetic, splits=(split,))
    return [image for image in genuine if image.split is split], [
        image
        for image in synthetic
        if image.kind not in config.without_kinds and image.source not in config.without_sources
    ]


def fit(
    config: ImageTrainingConfig, batches: ImageBatches, *, stop_after: int | None = None, quiet: bool = False
) -> Path:
    """The loop of `train`, on batches that are already there."""
    torch.manual_seed(config.seed)
    torch.set_num_threads(config.threads)
    schedule = fitting.Schedule(
        steps=config.steps,
        learning_rate=config.learning_rate,
        output=config.output,
        identity=config.identity(),
        seed=config.seed,
        device=config.device,
        workers=config.workers,
        checkpoint_every=config.checkpoint_every,
    )
    network = networks.build(config.network, **config.arguments)
    return fitting.fit(schedule, network, batches, objective, stop_after=stop_after, quiet=quiet)


def objective(network: nn.Module, batch: Batch, device: torch.device) -> tuple[Tensor, dict[str, float]]:
    """Cross-entropy of organs, no organ among them, and of synthesis; the shares that were right."""
    views, organs, tiles, synthetic = (each.to(device) for each in batch)
    with torch.autocast(device.type, torch.bfloat16):
        output = network(views, tiles.float())
    organ = functional.cross_entropy(output.organ.float(), organs, label_smoothing=0.02)
    synthesis = functional.binary_cross_entropy_with_logits(output.synthesis.float(), synthetic.float())
    loss = organ + 2.0 * synthesis
    right = ((output.synthesis > 0) == (synthetic > 0)).float().mean()
    named = (output.organ.argmax(dim=1) == organs).float().mean()
    return loss, {"loss": loss.item(), "right": right.item(), "organ": named.item()}
