"""A training run on disk: weights, running average and the optimiser's moments in one safetensors file, no pickle."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from models.errors import CheckpointMismatch

_AVERAGE_OVER = 0.998


@dataclass
class Run:
    """Where a run stands: steps done, the running average of its weights, and what was measured at each step."""

    step: int
    average: dict[str, Tensor]
    history: dict[str, list[float]]

    @classmethod
    def start(cls, network: nn.Module) -> "Run":
        return cls(0, {key: value.detach().clone() for key, value in network.state_dict().items()}, {})

    @torch.no_grad()
    def advance(self, network: nn.Module, figures: dict[str, float]) -> None:
        self.step += 1
        keep = min(_AVERAGE_OVER, (1 + self.step) / (10 + self.step))
        for key, value in network.state_dict().items():
            self.average[key].lerp_(value, 1 - keep)
        for key, value in figures.items():
            self.history.setdefault(key, []).append(value)

    def recent(self, name: str) -> float:
        return float(np.mean(self.history[name][-100:])) if self.history.get(name) else float("nan")


def save(path: Path, run: Run, network: nn.Module, optimiser: torch.optim.Optimizer, identity: str) -> None:
    """Write the run under another name, then rename: a run that is killed while it writes keeps its last checkpoint."""
    tensors = {f"network.{key}": value for key, value in network.state_dict().items()}
    tensors |= {f"average.{key}": value for key, value in run.average.items()}
    for name, parameter in network.named_parameters():
        for key, value in optimiser.state[parameter].items():
            tensors[f"optimiser.{name}.{key}"] = value
    about = {"identity": identity, "step": str(run.step), "history": json.dumps(run.history)}
    partial = path.with_suffix(".partial")
    save_file({key: value.detach().cpu().contiguous() for key, value in tensors.items()}, partial, metadata=about)
    partial.replace(path)


def resume(path: Path, network: nn.Module, optimiser: torch.optim.Optimizer, identity: str) -> Run | None:
    """Bring network and optimiser to where the checkpoint left them; None when there is none.

    Raises CheckpointMismatch when it was made by another configuration.
    """
    if not path.is_file():
        return None
    with safe_open(path, framework="pt") as file:
        about = file.metadata()
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  a file is no mapping
    if about["identity"] != identity:
        raise CheckpointMismatch(f"{path} belongs to another configuration; choose another output folder or remove it")
    network.load_state_dict(_under("network.", tensors))
    device = next(network.parameters()).device
    for name, parameter in network.named_parameters():
        # The count of steps stays on the CPU, where the optimiser keeps its own.
        moments = _under(f"optimiser.{name}.", tensors).items()
        optimiser.state[parameter] = {key: value if key == "step" else value.to(device) for key, value in moments}
    average = {key: value.to(device) for key, value in _under("average.", tensors).items()}
    return Run(int(about["step"]), average, json.loads(about["history"]))


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
