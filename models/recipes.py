"""Which training a model's name stands for: `edit-maskrcnn-2` is trained as `edit-maskrcnn` is."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from models import instance_training, training
from models.training import TrainingConfig


@dataclass(frozen=True)
class Recipe:
    """How a kind of model is trained: its configuration from (data, output), and what goes through with it."""

    configuration: Callable[[Path, Path], TrainingConfig]
    train: Callable[[TrainingConfig], Path]


def _with_density(data: Path, output: Path) -> TrainingConfig:
    return TrainingConfig(data=data, output=output, network="edit_unet_density")


RECIPES = {
    "edit-unet": Recipe(lambda data, output: TrainingConfig(data=data, output=output), training.train),
    "edit-unet-density": Recipe(_with_density, training.train),
    "edit-maskrcnn": Recipe(instance_training.configuration, instance_training.train),
}


def recipe_of(name: str) -> Recipe:
    """The recipe whose name a model's begins with, the longest of them; that of `edit-unet` where none does."""
    fitting = [known for known in RECIPES if name == known or name.startswith(f"{known}-")]
    return RECIPES[max(fitting, key=len, default="edit-unet")]
