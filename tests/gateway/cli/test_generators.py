"""The commands about generators: what is missing is named with the command that makes it."""

from pathlib import Path

from typer.testing import CliRunner

from gateway.cli import app

WIDE = {"COLUMNS": "200"}


def test_the_list_names_every_kind_and_that_none_is_trained(tmp_path: Path) -> None:
    told = CliRunner().invoke(app, ["generators", "list", "--runs", str(tmp_path)], env=WIDE)
    assert told.exit_code == 0
    for kind in ("autoencoder", "vae", "vq", "diffusion", "translation", "gan_nearest", "gan_transposed"):
        assert kind in told.output


def test_sampling_without_a_trained_generator_says_how_to_train_one(tmp_path: Path) -> None:
    told = CliRunner().invoke(app, ["generators", "sample", "--data", str(tmp_path), "--runs", str(tmp_path)], env=WIDE)
    assert told.exit_code == 2
    assert "scanwarden generators train all" in told.output


def test_an_unknown_kind_and_absent_images_are_named(tmp_path: Path) -> None:
    arguments = ["--data", str(tmp_path), "--runs", str(tmp_path)]
    told = CliRunner().invoke(app, ["generators", "train", "gan_nothing", *arguments], env=WIDE)
    assert told.exit_code == 2
    assert "no kind of generator is named gan_nothing" in told.output
    told = CliRunner().invoke(app, ["generators", "train", "vae", *arguments], env=WIDE)
    assert told.exit_code == 2
    assert str(tmp_path) in told.output.replace("\n", "")


def test_a_study_is_never_written_over_other_files(tmp_path: Path) -> None:
    (tmp_path / "genuine.dcm").write_bytes(b"kept")
    told = CliRunner().invoke(app, ["generators", "study", "vae", str(tmp_path)], env=WIDE)
    assert told.exit_code == 2
    assert "not empty" in " ".join(told.output.split())
