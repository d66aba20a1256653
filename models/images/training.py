"""Trains a whole-image network: `train(ImageTrainingConfig(...))`, again to go on where a stopped run left off."""

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader

from models import checkpoint, networks
from models.checkpoint import Run
from models.images import datasets, inputs
from models.images.datasets import SOURCES, GenuineImage
from models.images.samples import DEFAULT_SHARES, Batch, ImageBatches, Shares
from models.images.synthetic import SyntheticImage, load_synthetic
from models.splits import Split
from models.training import draw_curves

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
    steps: int = 3000
    shares: Shares = DEFAULT_SHARES
    learning_rate: float = 2e-3
    seed: int = 1
    threads: int = 1
    workers: int = 1
    checkpoint_every: int = 100
    bfloat16: bool = True

    @property
    def cache(self) -> Path:
        return self.output.parent / "cache"

    @property
    def sources(self) -> tuple[str, ...]:
        return tuple(name for name in TRAINED_SOURCES if name not in self.without_sources)

    def identity(self) -> str:
        """What must be equal for a checkpoint to be continued: all but paths, machine and length of the run."""
        left_out = {"data", "synthetic", "output", "threads", "workers", "checkpoint_every", "steps"}
        return json.dumps({key: value for key, value in asdict(self).items() if key not in left_out}, sort_keys=True)


def train(config: ImageTrainingConfig, *, stop_after: int | None = None, quiet: bool = False) -> Path:
    """Train, or go on from `config.output`/checkpoint.safetensors; returns the folder of averaged weights and curves.

    `stop_after` ends this call after so many steps. Raises MissingData, and CheckpointMismatch when the folder holds a
    checkpoint of another configuration.
    """
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
    network = networks.build(config.network, **config.arguments).to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=0.02)
    config.output.mkdir(parents=True, exist_ok=True)
    path = config.output / "checkpoint.safetensors"
    run = checkpoint.resume(path, network, optimiser, config.identity()) or _start(network)
    last = min(config.steps, run.step + stop_after) if stop_after else config.steps
    for batch in _loader(batches, run.step, last, config.workers):
        for group in optimiser.param_groups:
            group["lr"] = _rate(config, run.step)
        run.advance(network, _step(network, optimiser, batch, bfloat16=config.bfloat16))
        if run.step % config.checkpoint_every == 0 or run.step == last:
            checkpoint.save(path, run, network, optimiser, config.identity())
            draw_curves(run.history, config.output / "curves.png")
            if not quiet:
                figures = "  ".join(f"{name} {run.recent(name):.3f}" for name in run.history)
                print(f"step {run.step} of {config.steps}  {figures}", flush=True)
    save_file({key: value.contiguous() for key, value in run.average.items()}, config.output / "weights.safetensors")
    return config.output


def trained_network(config: ImageTrainingConfig) -> nn.Module:
    """The network with the averaged weights that the run ended in."""
    network = networks.build(config.network, **config.arguments)
    network.load_state_dict(load_file(config.output / "weights.safetensors"))
    return network


def _start(network: nn.Module) -> Run:
    fresh = Run.start(network)
    return Run(0, fresh.average, {"loss": [], "right": [], "organ": []})


def _step(network: nn.Module, optimiser: torch.optim.Optimizer, batch: Batch, *, bfloat16: bool) -> dict[str, float]:
    network.train()
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        output = network(batch.views, batch.tiles.float())
    organ = functional.cross_entropy(output.organ.float(), batch.organ, label_smoothing=0.02)
    synthesis = functional.binary_cross_entropy_with_logits(output.synthesis.float(), batch.synthetic.float())
    loss = organ + 2.0 * synthesis
    optimiser.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    norm = nn.utils.clip_grad_norm_(network.parameters(), 3.0)
    if torch.isfinite(norm):
        optimiser.step()
    right = ((output.synthesis > 0) == (batch.synthetic > 0)).float().mean()
    named = (output.organ.argmax(dim=1) == batch.organ).float().mean()
    return {"loss": loss.item(), "right": right.item(), "organ": named.item()}


def _rate(config: ImageTrainingConfig, step: int) -> float:
    warm = min(1.0, (step + 1) / 100)
    return config.learning_rate * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / config.steps)))


def _loader(batches: ImageBatches, first: int, last: int, workers: int) -> Iterator[Batch]:
    yield from DataLoader(
        batches,
        batch_size=None,
        sampler=range(first, last),
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        multiprocessing_context="fork" if workers else None,
    )
