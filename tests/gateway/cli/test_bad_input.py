"""`scanwarden analyse` with the shipped models on what no scanner of heads made: an answer, and never a sure one."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from gateway.cli import app
from inference import looking
from tests.bad_images import STRANGE, UNUSUAL
from tests.plain_files import nifti_file

NAN = float("nan")


def answers(*arguments: str) -> list[dict[str, Any]]:
    """What is printed; a traceback fails here."""
    result = CliRunner().invoke(app, ["analyse", *arguments, "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    found: list[dict[str, Any]] = json.loads(result.stdout)
    return found


@pytest.fixture(autouse=True)
def plain_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SCANWARDEN_CONFIG", raising=False)


@pytest.mark.parametrize("kind", STRANGE)
def test_what_no_model_was_made_for_is_abstained_from_with_a_reason(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind.startswith("4096"):
        monkeypatch.setattr(looking, "observe_pixels", lambda _: ())  # provenance has its own tests, and takes its time
    make, _ = STRANGE[kind]
    make(tmp_path / "study")
    (answer,) = answers(str(tmp_path / "study"))
    assert (answer["verdict"], answer["score"], answer["findings"]) == ("ABSTAIN", 0.5, [])
    assert len(answer["reasons"][0]) > 20


@pytest.mark.parametrize("kind", UNUSUAL)
def test_what_is_unusual_and_shows_no_organ_is_never_sure(kind: str, tmp_path: Path) -> None:
    UNUSUAL[kind](tmp_path / "study")
    (answer,) = answers(str(tmp_path / "study"))
    assert answer["verdict"] in ("ABSTAIN", "REVIEW")
    assert answer["reasons"]


AFFINES: dict[str, list[float]] = {
    "of zeros": [0.0] * 12,
    "that is no number": [NAN] * 12,
    "of one plane": [1, 1, 0, 0, 1, 1, 0, 0, 0, 0, 3, 0],
    "that is sheared": [1, 0.9, 0, 0, 0, 1, 0, 0, 0, 0.9, 3, 0],
    "of light years": [1e30, 0, 0, 0, 0, 1e30, 0, 0, 0, 0, 1e30, 0],
}


@pytest.mark.parametrize("shows", [(), ("--shows", "brain-mr")])
def test_nifti_volumes_with_a_wrong_affine_are_never_sure(tmp_path: Path, shows: tuple[str, ...]) -> None:
    """One folder, one command: each start of the decoding process costs a second."""
    noise = np.random.default_rng(1).integers(0, 900, (96, 96, 6)).astype(np.int16)
    folder = tmp_path / "volumes"
    folder.mkdir()
    for name, rows in AFFINES.items():
        codes, affine = (252, struct.pack("<2h", 0, 1)), (280, struct.pack("<12f", *rows))
        nifti_file(folder / f"{name}.nii", noise, codes=codes, affine_in_header=affine)
    found = answers(str(folder), *shows)
    assert len(found) == len(AFFINES)
    for answer in found:
        assert answer["verdict"] in ("ABSTAIN", "REVIEW"), answer["file"]
        assert answer["reasons"]
