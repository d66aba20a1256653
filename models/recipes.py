"""Which training a model's name stands for: `edit-maskrcnn-2` is trained as `edit-maskrcnn` is."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from models import instance_release, instance_training, release, training
from models.card import ModelCard
from models.training import TrainingConfig


@dataclass(frozen=True)
class Recipe:
    """How a kind of model is trained and published.

    `configuration` is made of (data, output); `release` of the run, name, version and folder.
    """

    configuration: Callable[[Path, Path], TrainingConfig]
    train: Callable[[TrainingConfig], Path]
    release: Callable[[TrainingConfig, str, str, Path], ModelCard]


def _with_density(data: Path, output: Path) -> TrainingConfig:
    return TrainingConfig(data=data, output=output, network="edit_unet_density")


def _released(config: TrainingConfig, name: str, version: str, folder: Path) -> ModelCard:
    card, _ = release.release(config, name, version, folder=folder)
    return card


RECIPES = {
    "edit-unet": Recipe(_with_density, training.train, _released),
    "edit-maskrcnn": Recipe(instance_training.configuration, instance_training.train, instance_release.release),
}


def recipe_of(name: str) -> Recipe:
    """The recipe whose name a model's begins with, the longest of them; that of `edit-unet` where none does."""
    fitting = [known for known in RECIPES if name == known or name.startswith(f"{known}-")]
    return RECIPES[max(fitting, key=len, default="edit-unet")]
