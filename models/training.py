"""Trains an edit network: `train(TrainingConfig(...))`, again to go on where a stopped run left off."""

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader

from models import checkpoint, datasets, inputs, networks
from models.checkpoint import Run
from models.networks import NetworkOutput
from models.samples import Batch, Crops, PairBatches
from models.splits import Split
from models.tampering import donors
from models.tampering.families import TRAINED


@dataclass(frozen=True)
class TrainingConfig:
    """One training run. `stages` are (steps, crop size in pixels, pairs in a batch)."""

    data: Path
    output: Path
    network: str = "edit_unet"
    arguments: dict[str, int] = field(default_factory=lambda: {"channels": len(inputs.CHANNELS), "width": 16})
    sources: tuple[str, ...] = ("brain-lgg", "brain-cheng", "brain-ms", "flair-glioma")
    families: tuple[str, ...] = TRAINED
    stages: tuple[tuple[int, int, int], ...] = ((4500, 128, 16), (700, 256, 6))
    learning_rate: float = 2e-3
    seed: int = 1
    threads: int = 2
    workers: int = 1
    checkpoint_every: int = 100
    bfloat16: bool = True

    @property
    def steps(self) -> int:
        return sum(steps for steps, _, _ in self.stages)

    def identity(self) -> str:
        """What must be equal for a checkpoint to be continued: all but paths, machine and length of the run."""
        left_out = {"data", "output", "threads", "workers", "checkpoint_every", "stages"}
        return json.dumps({key: value for key, value in asdict(self).items() if key not in left_out}, sort_keys=True)


def train(config: TrainingConfig, *, stop_after: int | None = None, quiet: bool = False) -> Path:
    """Train, or go on from `config.output`/checkpoint.safetensors; returns the folder of averaged weights and curves.

    `stop_after` ends this call after so many steps. Raises MissingData, and CheckpointMismatch when the folder holds a
    checkpoint of another configuration.
    """
    torch.manual_seed(config.seed)
    torch.set_num_threads(config.threads)
    cases = datasets.load(config.data, config.output.parent / "cache", config.sources)
    chosen = [case for case in cases if case.split is Split.TRAIN]
    found = donors.of_cases(chosen, np.random.default_rng(config.seed))
    stages = [(steps, Crops(size, pairs)) for steps, size, pairs in config.stages]
    batches = PairBatches(chosen, found, config.families, stages, config.seed)
    fit(config, batches, stop_after=stop_after, quiet=quiet)
    even_types(config, batches)
    return config.output


def fit(config: TrainingConfig, batches: PairBatches, *, stop_after: int | None = None, quiet: bool = False) -> Path:
    """The loop of `train`, on batches that are already there."""
    torch.manual_seed(config.seed)
    network = networks.build(config.network, **config.arguments).to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=1e-4)
    config.output.mkdir(parents=True, exist_ok=True)
    path = config.output / "checkpoint.safetensors"
    run = checkpoint.resume(path, network, optimiser, config.identity()) or Run.start(network)
    last = min(config.steps, run.step + stop_after) if stop_after else config.steps
    with _progress(quiet) as progress:
        task = progress.add_task("training", total=config.steps, completed=run.step, loss="")
        for batch in _loader(batches, run.step, last, config.workers):
            for group in optimiser.param_groups:
                group["lr"] = _rate(config, run.step)
            figures = _step(network, optimiser, batch, bfloat16=config.bfloat16)
            run.advance(network, figures)
            progress.update(
                task, completed=run.step, loss=f"loss {run.recent('loss'):.3f}  right {run.recent('right'):.3f}"
            )
            if run.step % config.checkpoint_every == 0 or run.step == last:
                checkpoint.save(path, run, network, optimiser, config.identity())
                draw_curves(run.history, config.output / "curves.png")
                if quiet:
                    print(run.step, f"{run.recent('loss'):.4f} {run.recent('right'):.4f}", flush=True)
    save_file({key: value.contiguous() for key, value in run.average.items()}, config.output / "weights.safetensors")
    return config.output


@torch.inference_mode()
def even_types(config: TrainingConfig, batches: PairBatches, count: int = 24) -> None:
    """Shift the type logits of the averaged weights so that each type is equally likely a priori.

    There are fewer families that add than that remove; without this their type would hardly ever be named.
    """
    path = config.output / "weights.safetensors"
    weights = load_file(path)
    network = networks.build(config.network, **config.arguments)
    network.load_state_dict(weights)
    network.eval()
    shares: dict[int, list[Tensor]] = {}
    for step in range(min(count, len(batches))):
        channels, mask, edit_type, label = batches[step]
        said = network(channels.float()).edit_type.softmax(dim=1)
        for image in torch.nonzero(label).flatten().tolist():
            shares.setdefault(int(edit_type[image]), []).append(said[image][:, mask[image] > 0].mean(dim=1))
    prior = torch.stack([torch.stack(found).mean(dim=0) for found in shares.values()]).mean(dim=0)
    weights["pixel.bias"][1:] -= prior.log() - prior.log().mean()
    save_file(weights, path)


def losses(output: NetworkOutput, mask: Tensor, edit_type: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """The loss of a batch, and the share of images on the right side of logit 0.

    Pixels by cross-entropy and soft Dice, images by cross-entropy, the type of edited pixels by cross-entropy.
    """
    target = mask.float()
    pixel = functional.binary_cross_entropy_with_logits(output.edit, target, pos_weight=torch.tensor(4.0))
    edited = label > 0
    probability = output.edit.sigmoid()[edited]
    overlap = 2 * (probability * target[edited]).sum(dim=(1, 2)) + 1
    dice = 1 - overlap / (probability.sum(dim=(1, 2)) + target[edited].sum(dim=(1, 2)) + 1)
    image = functional.binary_cross_entropy_with_logits(output.image, label.float())
    total = 2.0 * pixel + image
    if edited.any():
        per_pixel = functional.cross_entropy(
            output.edit_type[edited], _types(mask[edited], edit_type[edited]), ignore_index=-1
        )
        total = total + 0.5 * dice.mean() + 0.3 * per_pixel
    right = ((output.image > 0) == edited).float().mean()
    return total, right


def _types(mask: Tensor, edit_type: Tensor) -> Tensor:
    return torch.where(mask > 0, edit_type[:, None, None], -1)


def _step(network: nn.Module, optimiser: torch.optim.Optimizer, batch: Batch, *, bfloat16: bool) -> dict[str, float]:
    channels, mask, edit_type, label = batch
    network.train()
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        output = network(channels.float().contiguous(memory_format=torch.channels_last))
    loss, right = losses(output, mask, edit_type, label)
    optimiser.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    norm = nn.utils.clip_grad_norm_(network.parameters(), 2.0)
    if torch.isfinite(norm):
        optimiser.step()
    return {"loss": loss.item(), "right": right.item()}


def _rate(config: TrainingConfig, step: int) -> float:
    warm = min(1.0, (step + 1) / 200)
    return config.learning_rate * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / config.steps)))


def _loader(batches: PairBatches, first: int, last: int, workers: int) -> Iterator[Batch]:
    yield from DataLoader(
        batches,
        batch_size=None,
        sampler=range(first, last),
        num_workers=workers,
        prefetch_factor=6 if workers else None,
        multiprocessing_context="fork" if workers else None,
    )


def _progress(quiet: bool) -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[loss]}"),
    )
    return Progress(*columns, disable=quiet)


def draw_curves(history: dict[str, list[float]], path: Path) -> None:
    """Loss and share of right images over the steps, smoothed over 50."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.5), layout="constrained")
    for axes, (name, values) in zip(figure.subplots(1, 2), history.items(), strict=False):
        window = min(50, len(values))
        axes.plot(np.convolve(values, np.ones(window) / window, mode="valid"))
        axes.set_xlabel("step")
        axes.set_title(name)
    figure.savefig(path)
