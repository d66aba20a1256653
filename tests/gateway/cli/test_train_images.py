from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.cli import app
from models.images import synthetic, training
from models.images.training import ImageTrainingConfig

WIDE = {"COLUMNS": "250"}


def said(output: str) -> str:
    return " ".join(output.split())


def test_the_train_command_leaves_out_what_it_is_told_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[ImageTrainingConfig] = []

    def train(config: ImageTrainingConfig) -> Path:
        seen.append(config)
        return config.output

    monkeypatch.setattr(training, "train", train)
    monkeypatch.setattr(synthetic, "load_synthetic", lambda *_, **__: [])
    left_out = ["--without-generator", "vq", "--without-generator", "vae", "--without-source", "knee"]
    places = ["--data", str(tmp_path), "--runs", str(tmp_path / "runs"), "--steps", "7", "--threads", "1"]
    told = CliRunner().invoke(app, ["train", "organ-attention-trial", *places, *left_out], env=WIDE)
    assert told.exit_code == 0, told.output
    (config,) = seen
    assert config.network == "organ_attention"
    assert config.output == tmp_path / "runs" / "organ-attention-trial"
    assert config.without_kinds == ("vq", "vae")
    assert "knee" not in config.sources
    assert config.steps == 7


def test_training_without_generated_images_says_how_to_make_them(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    places = ["--data", str(tmp_path), "--runs", str(tmp_path / "runs"), "--threads", "1"]
    told = CliRunner().invoke(app, ["train", "organ-resnet", *places, "--without-generator", "vq"], env=WIDE)
    assert told.exit_code != 0
    assert "scanwarden generators sample" in said(told.output)


def test_an_unknown_source_to_leave_out_is_refused_with_those_that_there_are(tmp_path: Path) -> None:
    told = CliRunner().invoke(
        app, ["train", "organ-resnet", "--data", str(tmp_path), "--without-source", "elbow"], env=WIDE
    )
    assert told.exit_code != 0
    assert "kidney" in said(told.output)
