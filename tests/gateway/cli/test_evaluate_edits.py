"""What `scanwarden evaluate` of an edit network says, writes and ends in."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from gateway.cli import app
from models import audits, evaluation, registry
from models.audits import Audit
from models.card import ModelCard
from models.reports.plain import plain
from models.trials import PIXEL_THRESHOLDS, ScanTrial, SliceTrial, StudyTrial, Trials

CARD = ModelCard(
    name="rule",
    version="0",
    network="edit_unet",
    arguments={},
    digest="0" * 64,
    licence="Apache-2.0",
    families={"telea": "trained", "painted": "held out"},
)


def trials() -> Trials:
    made = Trials(edits=[1, 2])
    for number in range(4):
        for family, logit in ((None, -2.0), ("telea", 2.0 - number), ("painted", 1.0)):
            counts = np.tile([5 * (family is not None), 1, 5], (len(PIXEL_THRESHOLDS), 1))
            made.slices.append(
                SliceTrial(
                    "brain-lgg-du",
                    f"patient-{number}",
                    family,
                    False,
                    logit,
                    -2.0,
                    counts,
                    shares=np.ones(3, dtype=np.float32),
                    tumour=False,
                )
            )
            made.studies.append(StudyTrial("brain-lgg-du", f"patient-{number}", family, False, np.array([logit])))
            made.scans.append(
                ScanTrial("brain-lgg-du", f"patient-{number}", family, False, False, np.array([logit], np.float32))
            )
    return made


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the model's card states, to be changed by a test; nothing is looked at and nothing trained."""
    stated: dict[str, Any] = {"figures": plain(evaluation.report(trials(), CARD))}
    passed = Audit("outside the mask", 0.5, 0.49, 0.51, 0.55, 40, "what it is", "mend the lab")
    monkeypatch.setattr(registry, "load", lambda _: SimpleNamespace(card=CARD.model_copy(update=stated)))
    monkeypatch.setattr(evaluation, "trials_of", lambda *_, **__: trials())
    monkeypatch.setattr(audits, "audit", lambda *_: [passed])
    return stated


def evaluate(folder: Path, *more: str) -> tuple[int, str]:
    made = CliRunner().invoke(app, ["evaluate", "rule", "--data", str(folder), "--runs", str(folder / "runs"), *more])
    return made.exit_code, made.output


def test_an_evaluation_that_repeats_the_card_says_so(given: dict[str, Any], tmp_path: Path) -> None:
    assert given["figures"]["edited_slices"] == 4
    code, said = evaluate(tmp_path)
    assert code == 0
    assert "repeats the card: all" in said
    assert "Shortcuts" in said


def test_figures_that_are_not_the_cards_end_in_1_and_are_named(given: dict[str, Any], tmp_path: Path) -> None:
    given["figures"]["overall"]["auc"] = 0.1
    code, said = evaluate(tmp_path, "--no-audits")
    assert code == 1
    assert "does NOT repeat the card: 1 of" in said
    assert "overall.auc: card 0.1, here 1" in said
    assert "Shortcuts" not in said
    assert evaluate(tmp_path, "--no-audits", "--seed", "8")[0] == 0  # other edits are not expected to repeat it


def test_the_folder_holds_the_report_as_json_as_a_page_and_by_case(given: dict[str, Any], tmp_path: Path) -> None:
    assert given
    code, said = evaluate(tmp_path, "--output", str(tmp_path / "report"), "--leave-one-out", "--json")
    assert code == 0
    written = json.loads((tmp_path / "report" / "report.json").read_text(encoding="utf-8"))
    assert written == json.loads(said)
    assert written["agreement"]["equal"]
    assert written["audits"][0]["passed"]
    assert written["leave_one_out"]["missing"] == ["scanwarden train rule --without-family telea"]
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert "Shortcut audits" in page
    assert "scanwarden train rule --without-family telea" in page
    assert len((tmp_path / "report" / "cases.jsonl").read_text(encoding="utf-8").splitlines()) == 36


def test_a_file_is_no_folder_for_a_report(given: dict[str, Any], tmp_path: Path) -> None:
    assert given
    (tmp_path / "report").write_text("", encoding="utf-8")
    code, said = evaluate(tmp_path, "--output", str(tmp_path / "report"))
    assert code != 0
    assert "is a file" in said
