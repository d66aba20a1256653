"""`scanwarden analyse` on pictures, NIfTI volumes and mixed folders: an answer for each, and none without a reason."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner, Result

from gateway.cli import app
from models.tampering.phantom import make_phantom_study

Run = Callable[..., Result]
OUTSIDE = {"file", "class"}
STUDY = {"study_uid", "verdict", "score", "reasons", "findings", "slices", "observations", "models", "seconds"}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command in an empty folder, without the environment's own configuration, and without a whole-image model.

    What that one would see in a drawn disc is no promise; `--shows` says what it is.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SCANWARDEN_CONFIG", raising=False)
    monkeypatch.setenv("SCANWARDEN_ANALYSIS__IMAGE_MODEL", "none")

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(app, arguments, catch_exceptions=False)

    return invoke


@pytest.fixture
def brain() -> NDArray[np.uint8]:
    """A smooth bright disc on black, (200, 200): within what the shipped edit model was measured on."""
    rows, columns = np.mgrid[-1:1:200j, -1:1:200j]
    radius = np.hypot(rows, columns)
    tissue = 140 + 40 * np.cos(9 * rows) * np.sin(7 * columns) + 12 * np.cos(31 * columns)
    return np.where(radius < 0.85, tissue, 0).astype(np.uint8)


def test_a_mixed_folder_has_an_answer_for_each_and_names_the_strangers(
    run: Run, tmp_path: Path, brain: NDArray[np.uint8]
) -> None:
    make_phantom_study(tmp_path / "all" / "study", np.random.default_rng(2), slices=4, matrix=96)
    Image.fromarray(brain).save(tmp_path / "all" / "one.png")
    (tmp_path / "all" / "two.jpg").write_bytes(b"no picture")
    (tmp_path / "all" / "note.txt").write_text("a note")
    result = run("analyse", "all", "--json")
    assert result.exit_code == 0
    study, one, two = json.loads(result.stdout)
    assert study["study_uid"]
    assert any("note.txt" in reason for reason in study["reasons"])
    assert not OUTSIDE & study.keys()
    for plain, name in ((one, "one.png"), (two, "two.jpg")):
        assert plain.keys() >= (STUDY | OUTSIDE)
        assert (plain["file"], plain["study_uid"], plain["verdict"]) == (name, "", "ABSTAIN")
    assert "not what its name says" in two["reasons"][0]
    (tmp_path / "all" / "more").mkdir()
    shown = run("analyse", "all/one.png").stdout
    assert shown.startswith("ABSTAIN  one.png  not judged for edits")


def test_the_files_of_each_picture_lie_in_a_folder_of_its_own(
    run: Run, tmp_path: Path, brain: NDArray[np.uint8]
) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    for number in (2, 10):
        Image.fromarray(brain).save(folder / f"a {number}.png")
    result = run("analyse", "set", "--shows", "brain-mr", "--output", "out")
    assert result.exit_code == 0
    assert [path.name for path in sorted((tmp_path / "out").iterdir())] == ["001-a_2.png", "002-a_10.png"]
    written = json.loads((tmp_path / "out" / "001-a_2.png" / "analysis.json").read_text())
    assert written["file"] == "a 2.png"
    assert "2 images and volumes: " in result.stdout


def test_a_volume_is_one_answer_with_masks_beside_it(run: Run, tmp_path: Path, brain: NDArray[np.uint8]) -> None:
    generator = np.random.default_rng(5)
    slices = np.stack([brain.astype(np.int16) * 4 + generator.integers(-6, 6, brain.shape) for _ in range(5)])
    image: Any = nibabel.Nifti1Image
    nibabel.save(image(slices.astype(np.int16).transpose(2, 1, 0), np.diag([0.9, 0.9, 4.0, 1.0])), tmp_path / "v.nii")
    folder = tmp_path / "slices"
    folder.mkdir()
    for number, pixels in enumerate(slices):
        Image.fromarray(np.clip(pixels // 4, 0, 255).astype(np.uint8)).save(folder / f"{number}.png")
    result = run("analyse", "v.nii", "--shows", "brain-mr", "--json", "--output", "out")
    assert result.exit_code == 0
    (row,) = json.loads(result.stdout)
    assert len(row["slices"]) == 5
    assert row["slices"][0]["file"] == "v.nii"
    assert {"analysis.json", "boxes.json", "mask.nii.gz", "masks.npz"} <= {
        path.name for path in (tmp_path / "out").iterdir()
    }
    (row,) = json.loads(run("analyse", "slices", "--volume", "--shows", "brain-mr", "--json").stdout)
    assert (row["file"], [entry["file"] for entry in row["slices"]]) == ("slices", [f"{n}.png" for n in range(5)])


def test_many_pictures_get_a_line_each_and_their_names_no_say_over_the_terminal(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(14):
        (folder / f"[bold]\x1b[31m{number:02d}.png").write_bytes(b"x")
    result = run("analyse", "many")
    assert result.exit_code == 0
    assert result.stdout.count("\n") == 15
    assert "14 images and volumes: 14 ABSTAIN" in result.stdout
    assert "\x1b[31m" not in result.stdout
    assert "[bold]?[31m00.png" in result.stdout


def test_an_empty_folder_is_no_answer_and_says_so(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = run("analyse", "empty")
    assert result.exit_code == 2
    assert "holds no file" in result.stderr


def test_a_profile_without_a_place_to_write_is_an_error(run: Run, tmp_path: Path) -> None:
    make_phantom_study(tmp_path / "study", np.random.default_rng(2), slices=2, matrix=64)
    result = run("analyse", "study", "--profile", "legacy")
    assert result.exit_code == 2
    assert "say with --output where to" in " ".join(result.stderr.split())


def test_a_study_of_which_nothing_could_be_analysed_shows_no_probability(run: Run, tmp_path: Path) -> None:
    make_phantom_study(tmp_path / "study", np.random.default_rng(2), slices=2, matrix=64)
    shown = run("analyse", "study").stdout
    assert "ABSTAIN" in shown
    assert "probability of manipulation" not in shown
    (row,) = json.loads(run("analyse", "study", "--json").stdout)
    assert row["score"] == 0.5
