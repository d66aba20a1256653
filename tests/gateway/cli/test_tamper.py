"""`scanwarden tamper` and `scanwarden inpainters`: an answer, a reason and an exit code, never a traceback."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from gateway.cli import app
from models.tampering.families import FAMILIES
from models.tampering.marking import NOTICE
from models.tampering.phantom import make_phantom_study

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command in a folder with a study, where no inpainter was trained."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SCANWARDEN_CONFIG", raising=False)
    monkeypatch.setenv("SCANWARDEN_INPAINTERS", str(tmp_path / "inpainters"))
    make_phantom_study(tmp_path / "study", np.random.default_rng(1), slices=8, matrix=96)

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(app, arguments, catch_exceptions=False)

    return invoke


def test_the_families_say_what_they_do_and_whether_they_can_run(run: Run) -> None:
    result = run("tamper", "x", "y", "--family", "help")
    assert result.exit_code == 0
    for name in ("telea", "ctgan_added", "painted"):
        assert name in result.stdout
    assert len([line for line in result.stdout.splitlines() if "│" in line]) >= len(FAMILIES)


def test_an_approach_and_an_edit_type_a_place_and_a_size_a_marker_and_the_truth(run: Run, tmp_path: Path) -> None:
    result = run(
        *("tamper", "study", "copy", "--family", "ctgan", "--add", "--at", "48,40,4", "--size", "20"),
        *("--mark", "--truth", "truth.json", "--seed", "3"),
    )
    assert result.exit_code == 0, result.stderr
    assert "added by ctgan_added" in result.stdout
    truth = json.loads((tmp_path / "truth.json").read_text())
    row0, column0, row1, column1 = truth["box"]
    assert row0 < 48 < row1
    assert column0 < 40 < column1
    assert truth["slices"][0] <= 4 <= truth["slices"][1]
    assert (tmp_path / "copy" / NOTICE).is_file()
    assert (tmp_path / "truth.npz").is_file()


def test_add_or_remove_alone_chooses_a_family_by_the_seed(run: Run) -> None:
    for option, edit_type in (("--add", "added"), ("--remove", "removed")):
        first, again = (
            json.loads(run("tamper", "study", f"copy{option}-{copy}", option, "--seed", "5", "--json").stdout)
            for copy in range(2)
        )
        assert first["edit_type"] == edit_type
        assert first == again
        assert FAMILIES[first["family"]].inpainter is None


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("nowhere", "copy", "--family", "telea"), "does not exist"),
        (("study", "study", "--family", "telea"), "is not empty"),
        (("study", "study/copy", "--family", "telea"), "lies in study"),
        (("study", "copy"), "say --add or --remove"),
        (("study", "copy", "--family", "telea", "--add"), "of the type removed, not added"),
        (("study", "copy", "--add", "--remove"), "exclude each other"),
        (("study", "copy", "--family", "ctgan"), "adds or removes; say which"),
        (("study", "copy", "--family", "gan_slab", "--remove"), "inpainters train gan_slab"),
        (("study", "copy", "--family", "telea", "--at", "1,2"), "ROW,COLUMN,SLICE"),
        (("study", "copy", "--family", "telea", "--at", "48,48,80"), "outside the series, which has 8"),
        (("study", "copy", "--family", "telea", "--truth", "study/0001.dcm"), "name a new one"),
    ],
)
def test_what_cannot_be_done_ends_in_one_line(
    run: Run, tmp_path: Path, arguments: tuple[str, ...], reason: str
) -> None:
    result = run("tamper", *arguments)
    assert result.exit_code == 2
    assert reason in " ".join(result.stderr.split())
    assert not (tmp_path / "copy").exists()
    assert len(list((tmp_path / "study").rglob("*"))) == 8


def test_inpainters_are_listed_with_what_is_missing(run: Run) -> None:
    rows = json.loads(run("inpainters", "list", "--json").stdout)
    assert {row["weights"] for row in rows} == {None}
    assert len(rows) >= 8
    result = run("inpainters", "train", "nonsense", "--data", "nowhere")
    assert result.exit_code == 2
    assert "known: autoencoder_4" in " ".join(result.stderr.split())
    result = run("inpainters", "train", "partial", "--data", "nowhere")
    assert result.exit_code == 2
    assert "real images are absent" in " ".join(result.stderr.split())
