"""`scanwarden train` takes the training that a name stands for, with what was asked for on the command line."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from gateway.cli import app
from models import recipes
from models.training import TrainingConfig


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[TrainingConfig]:
    """Every training that was started, none of which runs."""
    seen: list[TrainingConfig] = []

    def train(config: TrainingConfig) -> Path:
        seen.append(config)
        return config.output

    for name, recipe in recipes.RECIPES.items():
        monkeypatch.setitem(recipes.RECIPES, name, replace(recipe, train=train))
    return seen


def test_the_name_says_which_network_is_trained(started: list[TrainingConfig], tmp_path: Path) -> None:
    common = ("--data", str(tmp_path), "--runs", str(tmp_path), "--device", "cpu", "--seed", "5")
    for name in ("edit-unet", "edit-maskrcnn-2", "edit-unet-3"):
        assert CliRunner().invoke(app, ["train", name, *common], catch_exceptions=False).exit_code == 0
    plain, instances, again = started
    assert [each.network for each in started] == ["edit_unet_density", "edit_maskrcnn", "edit_unet_density"]
    assert {each.seed for each in started} == {5}
    assert instances.output == tmp_path / "edit-maskrcnn-2"
    assert instances.stages != plain.stages
    assert again.stages == plain.stages


def test_stages_start_and_device_are_those_of_the_command_line(started: list[TrainingConfig], tmp_path: Path) -> None:
    arguments = ("--stages", "3:64:1,2:96:2", "--start", str(tmp_path / "w.safetensors"), "--device", "cuda")
    result = CliRunner().invoke(app, ["train", "edit-unet", "--data", str(tmp_path), *arguments])
    assert result.exit_code == 0
    assert started[0].stages == ((3, 64, 1), (2, 96, 2))
    assert (started[0].start, started[0].device) == (tmp_path / "w.safetensors", "cuda")
    wrong = CliRunner().invoke(app, ["train", "edit-unet", "--data", str(tmp_path), "--stages", "many"])
    assert wrong.exit_code == 2
    assert len(started) == 1


def test_a_gpu_that_is_not_here_ends_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from models.errors import NoSuchDevice
    from models.fitting import device_of

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_of("auto") == torch.device("cpu")
    with pytest.raises(NoSuchDevice, match="no CUDA device is visible"):
        device_of("cuda")
