"""Trains the Mask R-CNN: real lesions from masks and boxes, added and removed ones from the tampering lab."""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from models import fitting, inputs, networks
from models.instances import FAMILIES_OF_INSTANCES, SOURCES_WITH_INSTANCES, InstanceBatch, InstanceBatches
from models.samples import Crops
from models.training import TrainingConfig, material

NETWORK = "edit_maskrcnn"
ARGUMENTS = {"channels": len(inputs.CHANNELS), "width": 48, "pyramid": 64}
STAGES = ((9000, 192, 4), (1000, 256, 3))
_WEIGHTS = {"loss_classifier": 1.5}  # of the losses that do not count once
_DENSE_FIRST = 0.35  # share of a run in which boxes are not yet learned: such a step takes half the time


def configuration(data: Path, output: Path) -> TrainingConfig:
    """The run that is meant to be published; `dataclasses.replace` makes others of it."""
    return TrainingConfig(
        data=data,
        output=output,
        network=NETWORK,
        arguments=dict(ARGUMENTS),
        sources=SOURCES_WITH_INSTANCES,
        families=FAMILIES_OF_INSTANCES,
        stages=STAGES,
        learning_rate=1.5e-3,
    )


def train(config: TrainingConfig, *, stop_after: int | None = None, quiet: bool = False) -> Path:
    """As models.training.train, of a Mask R-CNN."""
    torch.set_num_threads(config.threads)
    chosen, found = material(config)
    stages = [(steps, Crops(size, pairs)) for steps, size, pairs in config.stages]
    boxes_from = round(_DENSE_FIRST * config.steps)
    batches = InstanceBatches(chosen, found, config.families, stages, config.seed, boxes_from)
    return fit(config, batches, stop_after=stop_after, quiet=quiet)


def fit(config: TrainingConfig, batches: Dataset[Any], *, stop_after: int | None = None, quiet: bool = False) -> Path:
    """The loop of `train`, on batches that are already there."""
    torch.manual_seed(config.seed)
    network = networks.build(config.network, **config.arguments)
    objective = partial(lower, bfloat16=config.bfloat16)
    return fitting.fit(config.schedule(), network, batches, objective, stop_after=stop_after, quiet=quiet)


def lower(
    network: nn.Module, batch: InstanceBatch, device: torch.device, *, bfloat16: bool
) -> tuple[Tensor, dict[str, float]]:
    """The objective of a Mask R-CNN: torchvision's five losses, those of the classes weighted up, and the dense one."""
    channels, targets, proposals = batch
    wanted = [{name: value.to(device, non_blocking=True) for name, value in target.items()} for target in targets]
    x = channels.to(device, non_blocking=True).float().contiguous(memory_format=torch.channels_last)
    with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
        boxes = None if proposals is None else [each.to(device) for each in proposals]
        losses = network(x, boxes, wanted, boxes=boxes is not None)
    loss = torch.stack([_WEIGHTS.get(name, 1.0) * value for name, value in losses.items()]).sum()
    return loss, {"loss": loss.item(), **{name.removeprefix("loss_"): value.item() for name, value in losses.items()}}
