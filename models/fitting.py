"""The training loop of every network: what is learned is the objective's business, how a run goes on is the loop's."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from models import checkpoint, networks
from models.checkpoint import Run
from models.errors import NoSuchDevice, WeightsMismatch

WEIGHTS = "weights.safetensors"  # in a run's folder: the averaged ones

# What to lower for a batch, and the figures to draw, the loss first; the batch is still on the CPU.
Objective = Callable[[nn.Module, Any, torch.device], tuple[Tensor, dict[str, float]]]


@dataclass(frozen=True)
class Schedule:
    """How long and how fast: `steps` in all, the peak learning rate, what is kept and where the work is done."""

    steps: int
    learning_rate: float
    output: Path
    identity: str
    seed: int
    device: str = "cpu"
    workers: int = 1
    checkpoint_every: int = 100


def device_of(name: str) -> torch.device:
    """The device that `auto`, `cpu` or `cuda` means here.

    Raises NoSuchDevice when a GPU is asked for and there is none.
    """
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise NoSuchDevice(f"no CUDA device is visible here for --device {name}; use auto or cpu")
    return torch.device("cuda")


def fit(
    schedule: Schedule,
    network: nn.Module,
    batches: Dataset[Any],
    objective: Objective,
    *,
    stop_after: int | None = None,
    quiet: bool = False,
) -> Path:
    """Lower `objective` over `batches`, or go on from `output`/checkpoint.safetensors; returns `output`.

    There the averaged weights and the curves are in the end. Each step draws its chances from the seed and its own
    number, so that a resumed run ends where an uninterrupted one does. `stop_after` ends this call after so many steps.
    Raises CheckpointMismatch when the folder holds a checkpoint of another configuration.
    """
    device = device_of(schedule.device)
    network = network.to(device).to(memory_format=torch.channels_last)
    chosen = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(chosen, lr=schedule.learning_rate, weight_decay=1e-4)
    schedule.output.mkdir(parents=True, exist_ok=True)
    path = schedule.output / "checkpoint.safetensors"
    run = checkpoint.resume(path, network, optimiser, schedule.identity) or Run.start(network)
    last = min(schedule.steps, run.step + stop_after) if stop_after else schedule.steps
    with progress_bar(quiet) as progress:
        task = progress.add_task("training", total=schedule.steps, completed=run.step, figures="")
        for batch in _loader(batches, run.step, last, schedule.workers):
            for group in optimiser.param_groups:
                group["lr"] = _rate(schedule, run.step)
            torch.manual_seed(schedule.seed * 1_000_003 + run.step)
            figures = _step(network, chosen, optimiser, batch, objective, device)
            run.advance(network, figures)
            progress.update(task, completed=run.step, figures=_recent(run))
            if run.step % schedule.checkpoint_every == 0 or run.step == last:
                checkpoint.save(path, run, network, optimiser, schedule.identity)
                draw_curves(run.history, schedule.output / "curves.png")
                if quiet:
                    print(run.step, _recent(run), flush=True)
    weights = {key: value.cpu().contiguous() for key, value in run.average.items()}
    save_file(weights, schedule.output / WEIGHTS)
    return schedule.output


def _step(
    network: nn.Module,
    chosen: list[nn.Parameter],
    optimiser: torch.optim.Optimizer,
    batch: Any,
    objective: Objective,
    device: torch.device,
) -> dict[str, float]:
    network.train()
    loss, figures = objective(network, batch, device)
    optimiser.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    norm = nn.utils.clip_grad_norm_(chosen, 2.0)
    if torch.isfinite(norm):
        optimiser.step()
    return figures


def _rate(schedule: Schedule, step: int) -> float:
    warm = min(1.0, (step + 1) / 200)
    return schedule.learning_rate * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / schedule.steps)))


def _loader(batches: Dataset[Any], first: int, last: int, workers: int) -> Iterator[Any]:
    yield from DataLoader(
        batches,
        batch_size=None,
        sampler=range(first, last),
        num_workers=workers,
        prefetch_factor=6 if workers else None,
        multiprocessing_context="fork" if workers else None,
    )


def _recent(run: Run) -> str:
    return "  ".join(f"{name} {run.recent(name):.3f}" for name in run.history)


def progress_bar(quiet: bool) -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figures]}"),
    )
    return Progress(*columns, disable=quiet)


def trained(network: str, arguments: dict[str, Any], folder: Path) -> nn.Module:
    """The network with the averaged weights that the run in `folder` ended in.

    Raises WeightsMismatch when they are not this network's.
    """
    built, path = networks.build(network, **arguments), folder / WEIGHTS
    try:
        built.load_state_dict(load_file(path))
    except RuntimeError as fault:
        raise WeightsMismatch(f"{path} does not fit the network {network}: {fault}") from fault
    return built


def draw_curves(history: dict[str, list[float]], path: Path) -> None:
    """Every figure over the steps, smoothed over 50."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.5 * max(1, len(history)), 3.5), layout="constrained")
    drawn = figure.subplots(1, max(1, len(history)), squeeze=False)[0]
    for axes, (name, values) in zip(drawn, history.items(), strict=False):
        window = min(50, len(values))
        axes.plot(np.convolve(values, np.ones(window) / window, mode="valid"))
        axes.set_xlabel("step")
        axes.set_title(name)
    figure.savefig(path)
