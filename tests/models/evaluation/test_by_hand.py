"""Figures of cases that are small enough to count on paper."""

import numpy as np
import pytest

from models.card import Calibration as CardCalibration
from models.card import Logistic, ModelCard
from models.evaluation import agreement, classes, compare, regions
from models.evaluation.groups import position, size
from models.evaluation.reliability import reliability
from models.evaluation.slices import alarms, between, images
from models.tampering.material import Material
from models.trials import PIXEL_THRESHOLDS, ScanTrial, SliceTrial
from models.trials.conditions import CONDITIONS
from models.trials.regions import regions as regions_of

CARD = ModelCard(
    name="rule",
    version="0",
    network="edit_unet",
    arguments={},
    digest="0" * 64,
    licence="Apache-2.0",
    calibration=CardCalibration(slice=Logistic(slope=1.0, offset=0.0)),
)


def trial(
    logit: float,
    twin: float = 0.0,
    counts: tuple[int, int, int] = (0, 0, 0),
    *,
    family: str | None = "telea",
    edit_type: str | None = "removed",
    tumour: bool | None = None,
    tumour_said: float = float("nan"),
    shares: tuple[float, float, float] = (0.1, 0.8, 0.1),
    patient: str = "one",
    at: float = 0.5,
    wide: float = 0.07,
) -> SliceTrial:
    return SliceTrial(
        "source",
        patient,
        family,
        False,
        logit,
        twin,
        np.tile(np.array(counts), (len(PIXEL_THRESHOLDS), 1)),
        edit_type=edit_type if family else None,
        tumour=tumour,
        tumour_said=tumour_said,
        shares=np.array(shares, dtype=np.float32),
        position=at,
        size=wide,
    )


def scan(family: str | None, *scores: float) -> ScanTrial:
    return ScanTrial("source", "one", family, False, False, np.array(scores, dtype=np.float32))


def test_froc_allows_as_many_false_alarms_as_the_rate_and_counts_missed_edits() -> None:
    scans = [scan(None, 3.0, 1.0), scan(None, 2.0), scan("telea", 2.5), scan("telea", 0.5), scan("telea")]
    figures = regions.froc(scans)
    assert figures["genuine_scans"] == 2
    assert figures["sensitivity"]["0.1"] == 0  # no alarm is allowed, and the loudest is at 3
    assert figures["sensitivity"]["0.5"] == pytest.approx(1 / 3)  # one is: what lies above 2
    assert figures["sensitivity"]["1"] == pytest.approx(1 / 3)
    assert figures["found_at_all"] == pytest.approx(2 / 3)
    rates, found = regions.points(scans)
    assert list(rates) == sorted(rates)
    assert (rates[-1], found[-1]) == (1.5, pytest.approx(2 / 3))


def test_missed_edits_count_as_zero_in_pixel_figures_and_are_left_out_of_the_published_one() -> None:
    figures = images([trial(1.0, counts=(10, 0, 10)), trial(1.0, counts=(0, 5, 20))], CARD)
    assert figures["pixel_f1_mean"] == pytest.approx((20 / 30 + 0) / 2)
    assert figures["pixel_iou_mean"] == pytest.approx((0.5 + 0) / 2)
    assert figures["pixel_iou_found"] == pytest.approx(0.5)
    assert figures["slices_with_found_pixels"] == 0.5


def test_calibration_error_is_the_gap_between_what_was_said_and_what_was_true() -> None:
    edited = [trial(np.log(4.0), patient=name) for name in "abcd"]  # said: 0.8
    genuine = [trial(np.log(0.25), family=None, patient=name) for name in "abcd"]  # said: 0.2
    figures = reliability(edited, genuine, CARD)
    assert figures["error"] == pytest.approx(0.2, abs=1e-6)
    assert [row["edited"] for row in figures["bins"]] == [0, 1]
    assert figures["interval"] == pytest.approx([0.2, 0.2], abs=1e-6)


def test_one_or_two_patients_give_no_interval() -> None:
    assert np.isnan(between(["a", "b"], lambda chosen: [float(chosen.mean())], 1)[0]).all()
    low, high = between(["a", "b", "c"], lambda chosen: [float(chosen.mean())], 1)[0]
    assert 0 <= low < high <= 2


def test_the_four_classes_weigh_the_same_however_many_slices_each_has() -> None:
    told = [trial(-3.0, family=None, tumour=True, tumour_said=0.9)] * 9
    told += [trial(-3.0, family=None, tumour=False, tumour_said=0.7)]  # a healthy slice called a tumour
    told += [trial(3.0, edit_type="added", shares=(0.9, 0.0, 0.1)), trial(3.0)]
    figures = classes.classes(told, CARD)
    assert figures["tells_tumours"]
    assert figures["accuracy_four"] == pytest.approx(3 / 4)
    assert figures["accuracy_three"] == 1
    assert figures["classes"]["real tumour"]["precision"] == pytest.approx(0.9)
    matrix = dict(zip(figures["truths"], figures["matrix"], strict=True))
    assert matrix["no tumour"][figures["answers"].index("real tumour")] == 1


def test_a_model_that_marks_edits_alone_claims_no_four_class_accuracy() -> None:
    told = [trial(-3.0, family=None, tumour=True), trial(-3.0, family=None, tumour=False), trial(3.0)]
    told += [trial(3.0, edit_type="resynthesised"), trial(-3.0, family=None)]  # nobody marked the last: left out
    figures = classes.classes(told, CARD)
    assert np.isnan(figures["accuracy_four"])
    assert figures["accuracy_three"] == 1
    assert np.sum(figures["matrix"]) == 4
    assert figures["classes"]["no tumour"]["recall"] == 1


def test_a_region_hits_an_edit_only_when_it_fits_it() -> None:
    edit = np.full((1, 40, 40), 0.01, dtype=np.float32)
    mask = np.zeros((1, 40, 40), dtype=np.bool_)
    mask[0, 10:20, 10:20] = True
    assert len(regions_of(edit)) == 0
    edit[0, 12:20, 12:20] = 0.9
    edit[0, 30:32, 30:32] = 0.99  # a speck
    assert regions_of(edit).tolist() == pytest.approx([np.log(9)], abs=1e-3)
    assert regions_of(edit, mask).tolist() == pytest.approx([np.log(9)], abs=1e-3)
    edit[0, 2:6, 30:38] = 0.999  # stronger, and beside the edit
    assert regions_of(edit)[0] > regions_of(edit, mask)[0]
    assert len(regions_of(np.full_like(edit, 0.95), mask)) == 0  # the whole image is no answer


def test_false_alarms_are_counted_with_the_rate_that_is_not_exceeded() -> None:
    figures = alarms([trial(-3.0, family=None)] * 58 + [trial(3.0, family=None, counts=(0, 59, 0))], CARD)
    assert figures["per_1000"] == pytest.approx(1000 / 59)
    assert 70 < figures["per_1000_at_most"] < 85
    assert figures["flagged_pixels_a_slice"] == pytest.approx(1.0)


def test_groups_have_the_bounds_that_they_say() -> None:
    assert [position(trial(0, at=value)) for value in (0.0, 0.34, 1.0)] == ["first third", "middle third", "last third"]
    assert position(trial(0, at=float("nan"))) == ""
    assert [size(trial(0, wide=value)) for value in (0.049, 0.05, 0.3)] == ["below 5 %", "5 to 10 %", "above 15 %"]


def test_a_condition_does_the_same_to_both_twins_and_grows_the_matrix_as_it_says() -> None:
    rng = np.random.default_rng(1)
    slab = rng.uniform(0, 200, (1, 64, 80)).astype(np.float32)
    other = slab.copy()
    other[0, 8:16, 8:16] += 5
    material = Material.of(slab)
    for name, (condition, factor) in CONDITIONS.items():
        first, second = (condition(each, material) for each in (slab, other))
        assert first.shape == (1, round(64 * factor), round(80 * factor)), name
        np.testing.assert_array_equal(first[0, 32:, 40:], second[0, 32:, 40:], err_msg=name)
    np.testing.assert_array_equal(CONDITIONS["as stored"][0](slab, material), slab)


def test_an_evaluation_says_whether_it_repeats_the_card_and_why_not() -> None:
    stated = {"edits": "a", "overall": {"auc": 0.9, "interval": [0.8, 0.95]}, "unknown": None, "slices": 400}
    same = compare(stated, {"edits": "a", "overall": {"auc": 0.9004, "interval": [0.8, 0.95]}, "slices": 401})
    assert same.equal
    assert "all 4 figures" in same.sentence()
    other = compare(stated, stated | {"edits": "b", "overall": {"auc": 0.8, "interval": [0.8, 0.95]}})
    assert not other.equal
    assert other.differences == ("overall.auc: card 0.9, here 0.8",)
    assert "the edits are not the card's" in other.sentence()
    assert "no figures" in agreement.compare({}, stated).sentence()
