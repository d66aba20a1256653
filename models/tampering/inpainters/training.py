"""Trains the inpainters of the catalogue: `train(TrainingPlan(...))`, again to go on where a stopped run left off."""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn

from models import checkpoint
from models.checkpoint import Run
from models.fitting import draw_curves, progress_bar
from models.tampering.inpainters import networks, weights
from models.tampering.inpainters.catalogue import Inpainter
from models.tampering.inpainters.crops import Pool
from models.tampering.inpainters.losses import critic_for, objective

_EVERY = 100  # steps between checkpoints
_RATE = 1e-3


@dataclass(frozen=True)
class TrainingPlan:
    """One inpainter to train into `folder`; `steps` None: as many as the catalogue says."""

    kind: Inpainter
    folder: Path
    steps: int | None = None
    threads: int = 1
    bfloat16: bool = True

    @property
    def length(self) -> int:
        return self.steps or self.kind.steps

    def identity(self) -> str:
        """What must be equal for a checkpoint to be continued."""
        parts = asdict(self.kind) | {"about": "", "steps": self.length}
        return json.dumps(parts, sort_keys=True, default=str)


def train(plan: TrainingPlan, crops: Pool, *, stop_after: int | None = None, quiet: bool = False) -> Path:
    """Train, or go on; returns the weights file. `stop_after` ends this call after so many steps.

    Raises CheckpointMismatch when the folder holds a checkpoint of another plan for this inpainter.
    """
    kind = plan.kind
    torch.set_num_threads(plan.threads)
    torch.manual_seed(kind.seed)
    both = nn.ModuleDict({"network": networks.build(kind.network, **kind.arguments)})
    critic = critic_for(kind)
    if critic is not None:
        both["critic"] = critic
    if not kind.three_dimensional:
        both.to(memory_format=torch.channels_last)  # twice as fast on processors with bfloat16
    optimiser = torch.optim.AdamW(both.parameters(), lr=_RATE, betas=(0.5, 0.99), weight_decay=1e-4)
    plan.folder.mkdir(parents=True, exist_ok=True)
    path = plan.folder / f"{kind.name}-checkpoint.safetensors"
    run = checkpoint.resume(path, both, optimiser, plan.identity()) or Run.start(both)
    last = min(plan.length, run.step + stop_after) if stop_after else plan.length
    with progress_bar(quiet) as progress:
        task = progress.add_task(kind.name, total=plan.length, completed=run.step, figures="")
        while run.step < last:
            for group in optimiser.param_groups:
                group["lr"] = _rate(run.step, plan.length)
            run.advance(both, _step(plan, both, optimiser, crops, run.step))
            progress.update(task, completed=run.step, figures=f"loss {run.recent('loss'):.3f}")
            if run.step % _EVERY == 0 or run.step == last:
                checkpoint.save(path, run, both, optimiser, plan.identity())
    draw_curves(run.history, plan.folder / f"{kind.name}-curves.png")
    averaged = {key.removeprefix("network."): value for key, value in run.average.items() if key.startswith("network.")}
    return weights.save(kind, averaged, run.step, plan.folder)


def _step(
    plan: TrainingPlan, both: nn.ModuleDict, optimiser: torch.optim.Optimizer, crops: Pool, step: int
) -> dict[str, float]:
    kind = plan.kind
    batch = crops.batch(step, kind.batch, kind.planes, kind.seed)
    generator = torch.Generator().manual_seed(kind.seed * 1_000_003 + step)
    critic = dict(both.items()).get("critic")
    with torch.autocast("cpu", torch.bfloat16, enabled=plan.bfloat16):
        loss, judged = objective(kind, both["network"], critic, batch, generator)  # type: ignore[arg-type]
    optimiser.zero_grad(set_to_none=True)
    torch.autograd.backward(loss, inputs=list(both["network"].parameters()))
    if judged is not None and critic is not None:
        torch.autograd.backward(judged, inputs=list(critic.parameters()))
    norm = nn.utils.clip_grad_norm_(both["network"].parameters(), 1.0)
    if torch.isfinite(norm):
        optimiser.step()
    return {"loss": loss.item(), "critic": judged.item() if judged is not None else 0.0}


def _rate(step: int, length: int) -> float:
    return _RATE * min(1.0, (step + 1) / 50) * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / length)))
