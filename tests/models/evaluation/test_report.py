import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import calibration, networks, registry
from models.card import strongest_run
from models.datasets import Case
from models.evaluation import cases, compare, page, report, tables
from models.figures import auc, calibration_error, f1, interval, sensitivity_at, upper_bound
from models.release import conclude, restate
from models.reports import as_json
from models.reports import page as html
from models.reports.plain import plain
from models.splits import Split
from models.tampering.phantom import phantom_volume
from models.trials import Plan, Trials, run

_FAMILIES = ("telea", "painted", "smoothed", "painted_onto")
_PLAN = Plan(native_edits=1, single_genuine=4, single_edits=2, native_conditions=1, single_conditions=1)
scores = st.lists(st.floats(-5, 5), min_size=1, max_size=30)


@given(positive=scores, negative=scores)
def test_auc_counts_the_pairs_in_the_right_order(positive: list[float], negative: list[float]) -> None:
    pairs = [(p > n) + 0.5 * (p == n) for p in positive for n in negative]
    assert auc(positive, negative) == pytest.approx(np.mean(pairs))


def test_measures_of_known_cases() -> None:
    assert np.isnan(auc([], [1.0]))
    assert sensitivity_at([5.0, 0.0], list(range(100)), 0.05) == 0
    assert sensitivity_at([99.5, 0.0], [float(k) for k in range(100)], 0.05) == 0.5
    np.testing.assert_allclose(f1(np.array([[2, 2, 2], [0, 0, 0], [3, 0, 0]])), [0.5, 0, 1])
    assert upper_bound(0, 59) == pytest.approx(0.05, abs=0.001)  # the rule of three
    assert upper_bound(0, 0) == 1
    assert calibration_error(np.array([0.95, 0.95]), np.array([True, True])) == pytest.approx(0.05)
    low, high = interval(["a", "b"], lambda chosen: float(chosen.mean()), seed=1)
    assert (low, high) == (0, 1)


@pytest.fixture(scope="module")
def trials(published: Path) -> Trials:
    model = registry.load("untrained", folder=published)
    cases = [
        Case("series", name, name, Split.TEST, phantom_volume(np.random.default_rng(seed), 5, 96), (3.0, 1.0, 1.0))
        for seed, name in enumerate(("one", "two"))
    ]
    cases.append(
        Case("singles", "three", "three", Split.TEST, phantom_volume(np.random.default_rng(5), 4, 96), separate=True)
    )
    made = Trials()
    for part in run(model, cases, _FAMILIES, (), _PLAN, seed=1):
        made.add(part)
    return made


def test_the_report_counts_every_family_and_source(trials: Trials, published: Path) -> None:
    card = registry.available(published)[0]
    figures = report(trials, card)
    assert set(figures["families"]) == set(_FAMILIES)
    assert set(figures["sources"]) == {"series", "singles"}
    assert figures["genuine_slices"] == 14
    assert figures["studies"]["all"]["genuine"] == 2
    assert 0 <= figures["overall"]["auc"] <= 1
    assert [table.caption for table in tables(figures)] == ["Images", "False alarms", "Series"]


def test_a_report_made_twice_is_equal(trials: Trials, published: Path) -> None:
    card = registry.available(published)[0]
    first, second = (report(trials, card) for _ in range(2))
    assert as_json(first) == as_json(second)
    assert html(page(trials, card, first)) == html(page(trials, card, second))
    assert compare(plain(first), second).equal


def test_the_page_holds_every_part_and_the_worst_cases(trials: Trials, published: Path) -> None:
    card = registry.available(published)[0]
    made = page(trials, card, report(trials, card))
    titles = [section.title for section in made.sections]
    assert {"Four classes", "Regions", "Calibration", "Compression, matrix, noise", "The worst cases"} <= set(titles)
    worst = made.sections[titles.index("The worst cases")]
    assert len(worst.pictures) == 2
    assert all(picture.png.startswith(b"\x89PNG") for picture in worst.pictures)


def test_the_card_decides_which_families_were_trained(trials: Trials, published: Path) -> None:
    named = {"families": {"painted_onto": "trained", "telea": "held out", "smoothed": "trained"}}
    card = registry.available(published)[0].model_copy(update=named)
    figures = report(trials, card)
    assert set(figures["families"]) == {"painted_onto", "telea", "smoothed"}
    assert set(figures["later_families"]) == {"painted"}
    assert figures["never_trained"] == ["telea", "painted"]
    edited = [trial for trial in trials.slices if trial.family in ("painted_onto", "smoothed")]
    assert figures["edited_slices"] == len(edited)


def test_families_that_came_later_do_not_change_the_edits_of_the_card(trials: Trials, published: Path) -> None:
    model = registry.load("untrained", folder=published)
    case = Case("series", "one", "one", Split.TEST, phantom_volume(np.random.default_rng(0), 5, 96), (3.0, 1.0, 1.0))
    again = next(run(model, [case], _FAMILIES, (), _PLAN, seed=1, more=("renoised",)))
    assert {trial.family for trial in again.slices} == {None, *_FAMILIES, "renoised"}
    assert again.edits == trials.edits[: len(again.edits)]


def test_each_case_is_a_line_with_what_a_report_needs(trials: Trials, published: Path, tmp_path: Path) -> None:
    cases.write(trials, registry.available(published)[0], tmp_path / "cases.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "cases.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {line["kind"] for line in lines} == {"slice", "condition", "scan", "series"}
    assert len(lines) == sum(len(part) for part in (trials.slices, trials.conditions, trials.scans, trials.studies))
    edited = next(line for line in lines if line["kind"] == "slice" and line["family"] == "painted")
    assert {
        "series",
        "index",
        "position",
        "size",
        "twin",
        "logit",
        "touched_up",
        "edit_type",
        "pixels",
    } <= edited.keys()


def test_the_same_seed_gives_the_same_report(trials: Trials, published: Path) -> None:
    model = registry.load("untrained", folder=published)
    case = Case("series", "one", "one", Split.TEST, phantom_volume(np.random.default_rng(0), 5, 96), (3.0, 1.0, 1.0))
    again = next(run(model, [case], _FAMILIES, (), _PLAN, seed=1))
    first = [trial.logit for trial in trials.slices if trial.patient == "one"]
    np.testing.assert_allclose([trial.logit for trial in again.slices], first, atol=1e-4)


def test_no_genuine_series_of_the_calibration_patients_reaches_suspect(trials: Trials) -> None:
    fitted = calibration.fit(trials)
    chosen = calibration.thresholds(trials, fitted)
    genuine = [strongest_run(trial.logits, fitted.run) for trial in trials.studies if trial.family is None]
    assert (fitted.study.probability(np.array(genuine)) < chosen.suspect).all()
    assert chosen.review <= chosen.suspect
    assert min(chosen.slice, chosen.review) >= 0.5


def test_a_released_model_loads_and_its_page_tells_the_figures(trials: Trials, published: Path, tmp_path: Path) -> None:
    card = registry.available(published)[0]
    network = networks.build(card.network, **card.arguments)
    released, figures = conclude(card, network, trials, trials, tmp_path)
    assert registry.load("untrained", folder=tmp_path).card == released
    page = (tmp_path / "cards" / "untrained.md").read_text(encoding="utf-8")
    assert released.digest in page
    assert f"{figures['overall']['auc']:.3f}" in page
    assert "painted_onto" in page
    again = restate(released, figures | {"edits": "of another lab"}, tmp_path)
    assert registry.load("untrained", folder=tmp_path).card == again
    assert "of another lab" in (tmp_path / "cards" / "untrained.md").read_text(encoding="utf-8")
