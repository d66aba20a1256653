"""The evaluation of whole-image networks, on tiny images and a network that is a rule."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.figures import auc, sensitivity_at
from models.images import aims, leave_out, measures, presentation
from models.images.evaluation import Evaluation, Images, core, differences, evaluate, for_card
from models.images.trials import AS_STORED, WAYS, pairs
from models.reports import as_json, page
from tests.tiny_images import PLAN, Rule, tiny_images

scores = st.lists(st.integers(-5, 5), min_size=1, max_size=30)


@pytest.fixture(scope="module", autouse=True)
def _few_resamples() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measures, "RESAMPLES", 20)
        yield


@pytest.fixture(scope="module")
def images() -> Images:
    return tiny_images()


@pytest.fixture(scope="module")
def evaluation(images: Images) -> Evaluation:
    return evaluate(Rule(), images, plan=PLAN, against=[Rule("other", bias=2.0)])


def test_a_report_made_twice_is_equal(evaluation: Evaluation, images: Images) -> None:
    again = evaluate(Rule(), images, plan=PLAN)
    assert as_json(again.figures) == as_json(for_card(evaluation.figures))
    assert page(presentation.report(again, pictures=False)).count("<table>") > 10


def test_a_card_equals_the_report_and_every_difference_is_named(evaluation: Evaluation) -> None:
    card = for_card(evaluation.figures)
    assert "compared" not in card
    assert differences(card, evaluation.figures) == []
    changed = for_card(evaluation.figures)
    changed["overall"]["auc"] = 0.5
    del changed["series"]
    found = differences(changed, evaluation.figures)
    assert any(line.startswith("/overall/auc: card 0.5") for line in found)
    assert any(line.startswith("/series") for line in found)


@given(positive=scores, negative=scores)
def test_ranking_is_what_the_slower_measures_say(positive: list[float], negative: list[float]) -> None:
    found = measures.ranking(np.array(positive), np.array(negative))
    assert found[0] == pytest.approx(auc(positive, negative))
    assert found[1:] == (sensitivity_at(positive, negative, 0.01), sensitivity_at(positive, negative, 0.05))


def test_only_held_out_patients_are_asked_about(evaluation: Evaluation) -> None:
    protocol = evaluation.figures["protocol"]
    assert protocol["genuine"]["chest"] == {"images": 10, "patients": 2}
    assert protocol["genuine"]["flair-glioma"]["images"] == 12
    assert protocol["synthetic"] == {"gan": {"images": 30, "patients": 30}, "vae": {"images": 30, "patients": 5}}


def test_figures_count_what_was_said(evaluation: Evaluation) -> None:
    figures = evaluation.figures
    organ = figures["organ"]["genuine"]
    assert (organ["images"], organ["right"], organ["wrong"], organ["abstained"]) == (50, 10, 40, 0)
    assert organ["accuracy"] == pytest.approx(0.2)
    assert len(organ["wrong_answers"]) == 40
    overall = figures["overall"]
    assert (overall["synthetic"], overall["genuine"]) == (60, 60)
    assert overall["auc"] > 0.95
    assert overall["auc_interval"][0] <= overall["auc"] <= overall["auc_interval"][1]
    assert 0 <= figures["calibration"]["all"]["ece"] <= 1
    assert set(figures["by_kind"]) == {"gan", "vae"}
    assert set(figures["robustness"]) == set(WAYS)
    came = figures["as_they_came"]
    assert (came["overall"]["synthetic"], came["overall"]["genuine"]) == (60, 50)
    assert set(came["by_kind"]) == {"gan", "vae"}
    assert figures["compared"]["other"]["overall"]["auc"] == overall["auc"]
    assert figures["compared"]["other"]["overall"]["false_alarm_images"] > overall["false_alarm_images"]


def test_the_eight_classes_hold_every_answer_about_the_four_organs(evaluation: Evaluation) -> None:
    eight = evaluation.figures["eight_classes"]
    counts = np.array(eight["counts"])
    assert counts.shape == (8, 10)
    assert counts.sum() == eight["images"] == 96
    assert counts[:, :2].sum() == 96  # the rule says brain MR of all
    assert eight["classes"]["chest X-ray, fake"]["recall"] == 0
    fake = eight["classes"]["brain MR, fake"]
    assert fake["recall"] == pytest.approx(counts[1, 1] / 12, abs=1e-5)
    assert fake["precision"] == pytest.approx(counts[1, 1] / counts[:, 1].sum(), abs=1e-5)


def test_false_alarms_are_counted_by_source_with_a_bound(evaluation: Evaluation) -> None:
    row = evaluation.figures["false_alarms"]["flair-glioma"]
    assert row["images"] == 12
    assert row["patients"] == 2
    assert row["per_1000"] == pytest.approx(1000 * row["alarms"] / 12, abs=1e-3)
    assert row["per_1000_at_most"] > row["per_1000"]
    assert evaluation.figures["false_alarms"]["all other sources"]["images"] == 12
    assert set(evaluation.figures["left_out_source"]) == {"flair-glioma"}
    assert all(trial.way == AS_STORED for trial in evaluation.stored)


def test_a_kind_that_the_card_does_not_name_is_reported_as_never_trained_against(evaluation: Evaluation) -> None:
    figures = core(evaluation.paired, Rule(generators=["gan"]).card)
    assert (figures["seen_kinds"], figures["unseen_kinds"]) == (["gan"], ["vae"])
    assert figures["overall"]["synthetic"] == 30
    assert figures["unseen"]["synthetic"] == 30


def test_unknown_inputs_are_answered_one_by_one(evaluation: Evaluation) -> None:
    rows = {row["input"]: row for row in evaluation.figures["unknown_inputs"]}
    assert rows["a photograph"]["right"]
    assert rows["a constant image"]["reason"] == "not for a rule"
    assert not rows["8 × 8 pixels"]["right"]
    assert set(evaluation.cost) == set(rows)
    assert all(cost["seconds"] >= 0 for cost in evaluation.cost.values())


def test_both_images_of_a_pair_leave_the_save_path_alike(images: Images) -> None:
    chosen = pairs(images.synthetic, images.known, seed=1)
    assert len(chosen) == 60
    for pair in chosen[:8]:
        assert pair.made.organ is pair.real.organ is pair.reference.organ
        assert pair.real is not pair.reference
        for way in ("as saved", "JPEG 80", "resized to 0.8", WAYS[-1]):
            made, real = pair.saved(7, way)
            assert (made.shape, made.dtype) == (real.shape, real.dtype), way
            again, _ = pair.saved(7, way)
            np.testing.assert_array_equal(made, again)
    assert {pair.real.key for pair in chosen} == {subject.key for subject in images.known}  # drawn evenly


def test_the_report_shows_misses_and_what_it_cannot_show(evaluation: Evaluation) -> None:
    report = presentation.report(evaluation)
    titles = [section.title for section in report.sections]
    assert titles[0] == "What was measured"
    assert titles[-1] == "What this report cannot show"
    assert "Worst cases" in titles
    text = page(report)
    assert "Missed of what was aimed at: organ, held-out patients (20.00 %, n = 50, aim ≥ 99.5 %)" in text
    assert "not measured" in text  # no network was trained without a generator here
    assert text.count("<img ") >= 6
    sheets = next(section for section in report.sections if section.title == "The generators")
    assert len(sheets.pictures) == 2


def _trained_without(kind: str, runs: Path, content: bytes = b"weights") -> None:
    folder = leave_out.folder_of("rule", kind, runs)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "weights.safetensors").write_bytes(content)


def test_a_left_out_kind_is_measured_by_the_network_that_never_saw_it(
    images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def load(card: object, kind: str, runs: Path) -> Rule:
        asked.append(kind)
        return Rule()

    monkeypatch.setattr(leave_out, "load", load)
    assert leave_out.missing("rule", ["gan", "vae"], tmp_path) == ["gan", "vae"]
    _trained_without("vae", tmp_path)
    assert leave_out.missing("rule", ["gan", "vae"], tmp_path) == ["gan"]
    found = leave_out.figures(Rule().card, images, tmp_path, seed=7)
    assert set(found) == {"vae"}
    assert set(found["vae"]) == {"clean", "clean, as they came", "JPEG 80", "JPEG 80, as they came"}
    assert found["vae"]["clean"]["synthetic"] == 30
    assert leave_out.figures(Rule().card, images, tmp_path, seed=7) == found
    assert asked == ["vae"]  # figures of the same weights are not measured twice
    _trained_without("vae", tmp_path, b"other weights")
    leave_out.figures(Rule().card, images, tmp_path, seed=7)
    assert asked == ["vae", "vae"]


def test_left_out_kinds_stand_in_the_report_with_the_worst_of_them_as_aim(
    evaluation: Evaluation, images: Images
) -> None:
    ways = {"clean": leave_out.measure(Rule(), "vae", images, 7)["clean"]}
    figures = evaluation.figures | {"left_out_generator": {"vae": ways, "gan": {"clean": ways["clean"] | {"auc": 0.5}}}}
    rows = {row[0]: row for row in aims.targets(figures)}
    assert rows["AUC, left-out generator, worst: gan"][3] == "missed"
    assert rows["the same after JPEG 80"][3] == "not measured"
