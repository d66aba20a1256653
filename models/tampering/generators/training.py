"""Trains one generator: `train(GeneratorConfig(...))`, again to go on where a stopped run left off.

Every step is drawn from seed and number of the step alone, so a run that was stopped takes the same next step.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from models import checkpoint
from models.checkpoint import Run
from models.errors import MissingData
from models.fitting import progress_bar
from models.tampering.generators.base import Generator
from models.tampering.generators.kinds import kind_of
from models.tampering.generators.material import Example, Material


@dataclass(frozen=True)
class GeneratorConfig:
    """One training run. `steps` 0: as many as the kind wants. `changes` of the network's arguments: for tests."""

    kind: str
    output: Path
    seed: int = 1
    steps: int = 0
    threads: int = 1
    checkpoint_every: int = 100
    changes: dict[str, Any] = field(default_factory=dict)

    def identity(self) -> str:
        """What must be equal for a checkpoint to be continued."""
        arguments = kind_of(self.kind).arguments | self.changes
        return json.dumps({"kind": self.kind, "seed": self.seed, **arguments}, sort_keys=True)


def train(
    config: GeneratorConfig, examples: Sequence[Example], *, stop_after: int | None = None, quiet: bool = False
) -> Path:
    """Train, or go on from the checkpoint in `config.output`; returns the file of averaged weights.

    Raises UnknownKind, MissingData, and CheckpointMismatch when the folder holds a run of another configuration.
    """
    kind = kind_of(config.kind)
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    network = kind.build(**config.changes).to(memory_format=torch.channels_last)  # twice as fast here
    material = Material(examples, network.size)
    optimiser = _optimiser(network, kind.learning_rate, kind.pace)
    config.output.mkdir(parents=True, exist_ok=True)
    path = config.output / "checkpoint.safetensors"
    run = checkpoint.resume(path, network, optimiser, config.identity()) or Run.start(network)
    whole = config.steps or kind.steps
    last = min(whole, run.step + stop_after) if stop_after else whole
    with progress_bar(quiet) as progress:
        task = progress.add_task(config.kind, total=whole, completed=run.step, figures="")
        while run.step < last:
            began = time.process_time()
            seed = config.seed * 1_000_003 + run.step * 11
            torch.manual_seed(seed)
            for group in optimiser.param_groups:
                group["lr"] = group["base"] * min(1.0, 4 * (1 - run.step / whole) + 0.02)
            with torch.autocast("cpu", torch.bfloat16):
                figures = network.learn(material, run.step, optimiser, seed)
            run.advance(network, figures | {"seconds": time.process_time() - began})
            progress.update(task, completed=run.step, figures=f"loss {run.recent('loss'):.3f}")
            if run.step % config.checkpoint_every == 0 or run.step == last:
                checkpoint.save(path, run, network, optimiser, config.identity())
    return _finish(config, network, run)


def _optimiser(network: Generator, rate: float, pace: float) -> torch.optim.Optimizer:
    judging = [parameter for part in network.critics() for parameter in part.parameters()]
    known = {id(parameter) for parameter in judging}
    making = [parameter for parameter in network.parameters() if id(parameter) not in known]
    groups = [{"params": making, "base": rate}]
    if judging:
        groups.append({"params": judging, "base": pace * rate})  # spectral norm holds them back
    return torch.optim.Adam(groups, lr=rate, betas=(0.5, 0.99))


def _finish(config: GeneratorConfig, network: Generator, run: Run) -> Path:
    """Write the averaged weights."""
    network.load_state_dict(run.average)
    network.eval()
    path = config.output / "generator.safetensors"
    known = {
        "kind": config.kind,
        "seed": str(config.seed),
        "steps": str(run.step),
        "seconds": f"{float(np.sum(run.history['seconds'])):.0f}",
        "arguments": json.dumps(kind_of(config.kind).arguments | config.changes),
    }
    save_file({key: value.contiguous() for key, value in network.state_dict().items()}, path, metadata=known)
    return path


def load(path: Path) -> tuple[Generator, dict[str, str]]:
    """A trained generator, ready to make images, and what is known of its training.

    Raises MissingData when there is no such file.
    """
    known = about(path)
    with safe_open(path, framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  a file is no mapping
    network = kind_of(known["kind"]).build(**json.loads(known["arguments"]))
    network.load_state_dict(tensors)
    return network.eval(), known


def about(path: Path) -> dict[str, str]:
    """Kind, seed, steps and seconds of a trained generator. Raises MissingData when there is no such file."""
    if not path.is_file():
        raise MissingData(f"no trained generator in {path.parent}; train it with `scanwarden generators train KIND`")
    with safe_open(path, framework="pt") as file:
        return dict(file.metadata())
