import json
from pathlib import Path

import pytest
import typer

from gateway.cli.evaluate_images import evaluate_images
from models import registry
from models.images import evaluation, measures, subjects, training
from models.images import registry as image_registry
from models.images.card import ImageModelCard
from models.images.evaluation import for_card
from tests.tiny_images import PLAN, Rule, tiny_images


@pytest.fixture
def rule(monkeypatch: pytest.MonkeyPatch) -> Rule:
    """A model of the registry, tiny images in place of the data folder."""
    model = Rule()
    monkeypatch.setattr(measures, "RESAMPLES", 10)
    monkeypatch.setattr(subjects, "Plan", lambda: PLAN)
    monkeypatch.setattr(evaluation, "load", lambda *_: tiny_images())
    other = Rule()
    other.card = model.card.model_copy(update={"name": "other"})
    monkeypatch.setattr(image_registry, "load_image_model", lambda name, **_: other if name == "other" else model)
    monkeypatch.setattr(registry, "available_image_models", lambda folder=None: [(other if folder else model).card])
    return model


def test_the_command_writes_the_report_and_says_whether_it_is_the_cards(
    rule: Rule, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "report"
    with pytest.raises(typer.Exit) as ended:
        evaluate_images("rule", tmp_path, tmp_path, 7, output)
    assert ended.value.exit_code == 1
    said = capsys.readouterr().out
    assert "Missed of what was aimed at" in said
    assert "figures are not the card's" in said  # this card has none
    written = json.loads((output / "report.json").read_text(encoding="utf-8"))
    page = (output / "report.html").read_text(encoding="utf-8")
    assert f"{written['overall']['auc']:.3f}" in page
    assert "<script" not in page

    rule.card = rule.card.model_copy(update={"figures": for_card(written)})
    rule.card.figures["left_out_generator"]["vae"] = {}  # measured where such a network was
    evaluate_images("rule", tmp_path, tmp_path, 7, None)
    said = capsys.readouterr().out
    assert "for want of networks trained without them: vae" in said
    assert "every figure equals the card's" in said


def test_a_network_published_elsewhere_stands_beside_it_in_the_report(rule: Rule, tmp_path: Path) -> None:
    with pytest.raises(typer.Exit):
        evaluate_images("rule", tmp_path, tmp_path, 7, tmp_path / "report", against=[tmp_path])
    written = json.loads((tmp_path / "report" / "report.json").read_text(encoding="utf-8"))
    assert sorted(written["compared"]) == ["other", "rule"]


def test_restating_writes_the_figures_into_card_and_page(
    rule: Rule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "SHIPPED", tmp_path)
    (tmp_path / "cards").mkdir()
    evaluate_images("rule", tmp_path, tmp_path, 7, None, restate=True)
    card = ImageModelCard.read(tmp_path / "cards" / "rule.json")
    assert card.figures["overall"]["synthetic"] == 60
    assert card.model_copy(update={"figures": {}}) == rule.card.model_copy(update={"figures": {}})
    assert f"{card.figures['overall']['auc']:.3f}" in (tmp_path / "cards" / "rule.md").read_text(encoding="utf-8")


def test_leaving_one_out_trains_the_networks_that_are_not_there_yet(
    rule: Rule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = tmp_path / "runs"
    (runs / "rule-without-vae").mkdir(parents=True)
    (runs / "rule-without-vae" / "weights.safetensors").write_bytes(b"")
    made = []

    def train(config: training.ImageTrainingConfig) -> None:
        made.append((config.output.name, config.without_kinds, config.steps, config.network))
        raise typer.Abort  # what follows is measured elsewhere

    monkeypatch.setattr(training, "train", train)
    with pytest.raises(typer.Abort):
        evaluate_images("rule", tmp_path, runs, 7, None, leave_one_out=True, steps=3)
    assert made == [("rule-without-gan", ("gan",), 3, rule.card.network)]


def test_a_file_is_no_folder_for_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "report.json"
    path.write_text("{}")
    with pytest.raises(typer.Exit):
        evaluate_images("rule", tmp_path, tmp_path, 7, path)
    assert "is a file; name a folder" in " ".join(capsys.readouterr().err.split())
