"""Trains an edit network: `train(TrainingConfig(...))`, again to go on where a stopped run left off."""

import json
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from models import datasets, density, fitting, inputs, networks
from models.datasets import Case
from models.errors import CheckpointMismatch
from models.networks import NetworkOutput
from models.samples import Batch, Crops, PairBatches
from models.splits import Split
from models.tampering import donors
from models.tampering.families import TRAINED
from models.tampering.material import Donor


@dataclass(frozen=True)
class TrainingConfig:
    """One training run. `stages` are (steps, crop size in pixels, pairs in a batch).

    `start` is a file of weights that stay as they are: only layers that it lacks are trained.
    """

    data: Path
    output: Path
    network: str = "edit_unet"
    arguments: dict[str, int] = field(default_factory=lambda: {"channels": len(inputs.CHANNELS), "width": 16})
    sources: tuple[str, ...] = ("brain-lgg", "brain-cheng", "brain-ms", "flair-glioma")
    families: tuple[str, ...] = TRAINED
    stages: tuple[tuple[int, int, int], ...] = ((4800, 128, 16),)
    learning_rate: float = 2e-3
    seed: int = 1
    threads: int = 2
    workers: int = 1
    checkpoint_every: int = 100
    bfloat16: bool = True
    device: str = "cpu"
    start: Path | None = None

    @property
    def steps(self) -> int:
        return sum(steps for steps, _, _ in self.stages)

    def identity(self) -> str:
        """What must be equal for a checkpoint to be continued: all but paths, machine and length of the run."""
        left_out = {"data", "output", "threads", "workers", "checkpoint_every", "stages", "device"}
        kept = {key: value for key, value in asdict(self).items() if key not in left_out}
        if self.start is None:  # runs from before it could be chosen go on
            del kept["start"]
        return json.dumps(kept, sort_keys=True, default=str)

    def schedule(self) -> fitting.Schedule:
        return fitting.Schedule(
            steps=self.steps,
            learning_rate=self.learning_rate,
            output=self.output,
            identity=self.identity(),
            seed=self.seed,
            device=self.device,
            workers=self.workers,
            checkpoint_every=self.checkpoint_every,
        )


def train(config: TrainingConfig, *, stop_after: int | None = None, quiet: bool = False) -> Path:
    """Train, or go on from `config.output`/checkpoint.safetensors; returns the folder of averaged weights and curves.

    `stop_after` ends this call after so many steps. Raises MissingData, and CheckpointMismatch when the folder holds a
    checkpoint of another configuration.
    """
    torch.set_num_threads(config.threads)
    chosen, found = material(config)
    stages = [(steps, Crops(size, pairs)) for steps, size, pairs in config.stages]
    batches = PairBatches(chosen, found, config.families, stages, config.seed)
    fit(config, batches, stop_after=stop_after, quiet=quiet)
    if config.start is None:
        even_types(config, batches)
    return config.output


def material(config: TrainingConfig) -> tuple[list[Case], list[Donor]]:
    """The patients to train on, and lesions of theirs to clone; raises MissingData."""
    cases = datasets.load(config.data, config.output.parent / "cache", config.sources)
    chosen = [case for case in cases if case.split is Split.TRAIN]
    return chosen, donors.of_cases(chosen, np.random.default_rng(config.seed))


def fit(config: TrainingConfig, batches: PairBatches, *, stop_after: int | None = None, quiet: bool = False) -> Path:
    """The loop of `train`, on batches that are already there."""
    torch.manual_seed(config.seed)
    network = networks.build(config.network, **config.arguments)
    if config.start is not None:
        keep(network, load_file(config.start))
    objective = partial(lower, bfloat16=config.bfloat16)
    return fitting.fit(config.schedule(), network, batches, objective, stop_after=stop_after, quiet=quiet)


def keep(network: nn.Module, weights: dict[str, Tensor]) -> None:
    """Give the network these weights and train none of them.

    Raises CheckpointMismatch when one of them is not the network's, or when they leave nothing to train.
    """
    own = network.state_dict()
    strange = sorted(key for key, value in weights.items() if key not in own or own[key].shape != value.shape)
    if strange or len(weights) == len(own):
        why = f"{strange[0]} is none of its layers" if strange else "they leave no layer to train"
        raise CheckpointMismatch(f"the weights to start from do not suit the network: {why}")
    network.load_state_dict(weights, strict=False)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name not in weights)


@torch.inference_mode()
def even_types(config: TrainingConfig, batches: PairBatches, count: int = 24) -> None:
    """Shift the type logits of the averaged weights so that each type is equally likely a priori.

    There are fewer families that add than that remove; without this their type would hardly ever be named.
    """
    path = config.output / fitting.WEIGHTS
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

    Pixels by cross-entropy and soft Dice, images by cross-entropy, the type of edited pixels by cross-entropy; where a
    network has them, the density by a robust distance and the boundary by cross-entropy.
    """
    target = mask.float()
    rare = torch.tensor(4.0, device=target.device)
    pixel = functional.binary_cross_entropy_with_logits(output.edit, target, pos_weight=rare)
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
    if output.density is not None and output.boundary is not None:
        total = total + 4.0 * functional.smooth_l1_loss(output.density, density.target(mask), beta=0.1)
        rim = functional.binary_cross_entropy_with_logits(output.boundary, density.boundary(mask), pos_weight=rare)
        total = total + 0.5 * rim
    right = ((output.image > 0) == edited).float().mean()
    return total, right


def _types(mask: Tensor, edit_type: Tensor) -> Tensor:
    return torch.where(mask > 0, edit_type[:, None, None], -1)


def lower(network: nn.Module, batch: Batch, device: torch.device, *, bfloat16: bool) -> tuple[Tensor, dict[str, float]]:
    """The objective of an edit network."""
    channels, mask, edit_type, label = (part.to(device, non_blocking=True) for part in batch)
    with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
        output = network(channels.float().contiguous(memory_format=torch.channels_last))
    loss, right = losses(output, mask, edit_type, label)
    return loss, {"loss": loss.item(), "right": right.item()}
