"""What is known of a series becomes one probability; few patients decide how, and a strange source is told."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models import calibration, fusing, fusion, release
from models.calibration import turns
from models.card import Calibration, Fusion, Logistic, ModelCard, Thresholds
from models.figures import auc, balanced_calibration_error, upper_bound
from models.fusion import EIGHT_BIT, NATIVE, Evidence
from models.trials import PIXEL_THRESHOLDS, ScanTrial, SliceTrial, StudyTrial, Trials
from models.trials.kept import TrialsUnreadable, keep, kept

_CARD = ModelCard(name="m", version="1", network="none", arguments={}, digest="0" * 64, licence="test")
_VOLUME = np.arange(8 * 32 * 32, dtype=np.uint16).reshape(8, 32, 32)


def _edit(*boxes: tuple[slice, slice, slice], matrix: int = 32) -> NDArray[np.float32]:
    edit = np.full((8, matrix, matrix), 0.01, np.float32)
    for box in boxes:
        edit[box] = 0.95
    return edit


_ONE = (slice(2, 5), slice(4, 12), slice(4, 12))
_SPECK = (slice(6, 7), slice(20, 24), slice(20, 24))


def test_evidence_is_of_the_strongest_region_and_says_how_much_lies_elsewhere() -> None:
    logits = np.array([-2, -2, 1, 2, 3, -2, -2, -2], np.float32)
    found = fusion.evidence(_edit(_ONE, _SPECK), logits, _VOLUME, None)
    assert found.volume == pytest.approx(3 * 64 / 32**2)
    assert found.beside == pytest.approx(2.0)
    assert found.elsewhere == pytest.approx(16 / (16 + 192))
    assert found.strength == pytest.approx(np.log(0.95 / 0.05), rel=1e-4)
    assert found.flagged == pytest.approx(208 / _VOLUME.size)


def test_evidence_does_not_depend_on_the_matrix() -> None:
    logits = np.zeros(8, np.float32)
    small = fusion.evidence(_edit(_ONE), logits, _VOLUME, None)
    wide = (_ONE[0], slice(8, 24), slice(8, 24))
    large = fusion.evidence(_edit(wide, matrix=64), logits, np.kron(_VOLUME, np.ones((1, 2, 2), np.uint16)), None)
    assert large == small


def test_a_silent_map_is_no_evidence_and_no_fault() -> None:
    found = fusion.evidence(_edit(), np.zeros(8, np.float32), _VOLUME, None, through_plane=True)
    assert (found.volume, found.elsewhere, found.flagged, found.jitter) == (0, 0, 0, 0)
    assert all(np.isfinite(value) for value in fusion.features(np.zeros(8, np.float32), found, Calibration()).values())


def test_eight_bits_are_told_by_their_values_whatever_the_units() -> None:
    grey = np.random.default_rng(1).integers(0, 256, (8, 64, 64)).astype(np.uint8)
    assert fusion.depth_of(grey) == EIGHT_BIT
    assert fusion.depth_of(grey.astype(np.float32) * 3.7 - 12) == EIGHT_BIT
    assert fusion.depth_of(np.random.default_rng(1).integers(0, 4096, (8, 64, 64))) == NATIVE


def test_a_card_without_fusion_judges_as_before_to_the_bit() -> None:
    logits = np.array([0.3, 1.7, 2.2, -1.0, 0.1], np.float32)
    assert fusion.probability(_CARD, logits, Evidence(strength=9.0)) == _CARD.study_probability(logits)
    fused = _CARD.model_copy(update={"fusion": Fusion(weights={"strength": 1.0}, offset=0.0)})
    assert fusion.probability(fused, logits, None) == _CARD.study_probability(logits)
    assert fusion.unlike(_CARD, logits, Evidence(flagged=1.0)) == []
    assert "fusion" not in ModelCard.model_validate_json(_CARD.model_dump_json(exclude={"fusion", "judging"})).judging


def test_a_group_with_a_calibration_of_its_own_has_it() -> None:
    own = Fusion(weights={"strength": 1.0}, offset=1.0, pooled=Logistic(offset=-1.0), groups={EIGHT_BIT: Logistic()})
    card = _CARD.model_copy(update={"fusion": own})
    logits = np.zeros(4, np.float32)
    assert fusion.logit(card, logits, Evidence(strength=2.0, depth=EIGHT_BIT)) == pytest.approx(3.0)
    assert fusion.logit(card, logits, Evidence(strength=2.0, depth=NATIVE)) == pytest.approx(2.0)


def test_a_series_that_is_loud_everywhere_is_unlike_those_calibrated_on() -> None:
    limits = {fusion.FLAGGED: 0.02, fusion.FLOOR: 0.5}
    card = _CARD.model_copy(update={"fusion": Fusion(weights={}, offset=0.0, loudest=limits)})
    quiet, loud = np.full(20, -2, np.float32), np.full(20, 2, np.float32)
    assert fusion.unlike(card, quiet, Evidence(flagged=0.01)) == []
    (pixels,) = fusion.unlike(card, quiet, Evidence(flagged=0.12))
    assert "12.0% of all pixels look edited" in pixels
    (slices,) = fusion.unlike(card, loud, Evidence(flagged=0.01))
    assert "three quarters of its slices" in slices


def _trials(rng: np.random.Generator, patients: int, *, helps: bool, series: int = 2, of: int = 3) -> Trials:
    """Series whose slice logits tell little; with `helps`, their regions tell the rest."""
    made = Trials()
    for patient in range(patients):
        for number in range(series):
            for family in (None, *["telea"] * of):
                logits = np.full(12, rng.normal(1.0 if family else 0.0, 1.0), np.float32)
                strength = rng.normal(3.0 if helps and family else 0.0, 1.0)
                found = Evidence(
                    strength=float(strength),
                    volume=float(rng.uniform(0, 0.02)),
                    beside=float(strength),
                    elsewhere=float(rng.uniform()),
                    flagged=float(rng.uniform(0, 0.002)),
                    depth=EIGHT_BIT if number else NATIVE,
                )
                made.studies.append(StudyTrial("s", f"p{patient}", family, False, logits, found))
    return made


def _judged(made: Trials) -> fusing.Judging:
    run = calibration.run_of(made.studies)
    return fusing.judge(made, Calibration(run=run), Thresholds(), ("telea",))


def test_evidence_that_helps_on_patients_left_out_is_fused() -> None:
    made = _judged(_trials(np.random.default_rng(5), 6, helps=True))
    assert made.told["by"] == "fusion"
    assert made.fused is not None
    left_out = made.told["leave_one_patient_out"]
    assert left_out["fusion"]["log_loss"] < left_out["strongest run"]["log_loss"]
    card = _CARD.model_copy(update={"fusion": made.fused, "calibration": Calibration(run=1)})
    fresh = _trials(np.random.default_rng(6), 9, helps=True).studies
    said = {
        kind: [fusion.probability(card, each.logits, each.evidence) for each in fresh if (each.family is None) == kind]
        for kind in (True, False)
    }
    assert auc(said[False], said[True]) > 0.93
    for name, weight in made.fused.weights.items():
        assert weight * fusion.FEATURES[name] > 0
    assert made.fused.groups == {}  # six genuine series of each are too few


def test_evidence_that_helps_nobody_left_out_stays_out_of_the_card() -> None:
    made = _judged(_trials(np.random.default_rng(7), 6, helps=False))
    assert made.fused is None
    assert made.told["by"] == "strongest run"
    assert "left out" in made.told["why"]


def test_too_few_patients_and_missing_evidence_are_said() -> None:
    made = _trials(np.random.default_rng(8), 3, helps=True)
    assert "3 patients" in _judged(made).told["why"]
    made.studies[0] = replace(made.studies[0], evidence=None)
    assert "no evidence" in _judged(made).told["why"]


def test_a_group_of_few_patients_is_calibrated_with_the_others_and_the_card_says_so() -> None:
    made = _trials(np.random.default_rng(9), 6, helps=True)
    few = [
        replace(each, evidence=replace(each.evidence, depth=EIGHT_BIT))
        if each.evidence and each.patient not in ("p0", "p1")
        else each
        for each in made.studies
    ]
    judged = _judged(Trials(studies=few))
    assert judged.fused is not None
    assert set(judged.fused.groups) == {EIGHT_BIT}
    assert "too few" in judged.told["groups"][NATIVE]


def test_thresholds_state_the_bound_that_so_few_series_can_show() -> None:
    few = turns([0.0, 1.0, 2.0], Logistic())
    assert not few.bounds["review"].reached
    assert few.bounds["review"].at_most == upper_bound(0, 3)
    assert few.bounds["suspect"].margin > 0
    assert few.suspect == pytest.approx(float(Logistic().probability(3.0)))
    assert few.told()["review_bound"]["of"] == 3  # type: ignore[index]


def test_with_enough_genuine_series_the_bound_decides_and_not_the_loudest() -> None:
    genuine = list(np.linspace(0, 3, 500))
    many = turns(genuine, Logistic())
    review, suspect = many.bounds["review"], many.bounds["suspect"]
    assert review.reached
    assert review.at_most <= 0.05
    assert upper_bound(review.alarms + 1, 500) > 0.05
    assert suspect.reached
    assert suspect.alarms == sum(Logistic().probability(each) >= many.suspect for each in genuine)
    assert many.review < many.suspect < float(Logistic().probability(3.0))


def test_the_calibration_error_weighs_both_kinds_alike() -> None:
    assert balanced_calibration_error(np.zeros(3), np.ones(50)) == 0
    assert balanced_calibration_error(np.full(2, 0.55), np.full(40, 0.55)) == pytest.approx(0.05)
    assert np.isnan(balanced_calibration_error(np.zeros(0), np.ones(2)))


def _whole(rng: np.random.Generator, patients: int = 3) -> Trials:
    made = _trials(rng, patients, helps=True)
    for number in range(12):
        family = "telea" if number % 2 else None
        pixels = np.tile(np.array([30, 5, 20]), (len(PIXEL_THRESHOLDS), 1)) * (family is not None)
        made.slices.append(
            SliceTrial("s", f"p{number}", family, False, float(number % 2), 0.0, pixels, shares=np.ones(3, np.float32))
        )
        made.scans.append(ScanTrial("s", f"p{number}", family, False, False, np.array([1.0], np.float32)))
    made.edits += [1, 2, 3]
    return made


def test_a_model_is_refitted_from_kept_trials_without_training(published: Path, tmp_path: Path) -> None:
    folder, run = tmp_path / "models", tmp_path / "run"
    for part in ("cards/untrained.json", "weights/untrained.safetensors"):
        (folder / part).parent.mkdir(parents=True)
        (folder / part).write_bytes((published / part).read_bytes())
    before = ModelCard.read(folder / "cards" / "untrained.json")
    made = _whole(np.random.default_rng(3), patients=6)
    for path in release.kept_trials(run):
        keep(made, path)
    card, figures = release.refit("untrained", run, folder=folder)
    assert ModelCard.read(folder / "cards" / "untrained.json") == card
    assert (card.digest, card.families) == (before.digest, before.families)
    assert card.fusion is not None
    whole = figures["studies"]["all"]
    assert whole["auc"] > whole["without_fusion"]["auc"]
    assert whole["unlike_any_calibrated"] == {"genuine": 0, "edited": 0}
    page = (folder / "cards" / "untrained.md").read_text(encoding="utf-8")
    assert "by: fusion" in page
    assert "5% cannot be shown by so few" in page
    assert "all, by the strongest run alone" in page


def test_kept_trials_are_the_trials(tmp_path: Path) -> None:
    made = _whole(np.random.default_rng(1))
    keep(made, tmp_path / "trials.jsonl.gz")
    again = kept(tmp_path / "trials.jsonl.gz")
    assert again.edits == made.edits
    for one, other in zip(made.studies, again.studies, strict=True):
        assert one.evidence == other.evidence
        np.testing.assert_array_equal(one.logits, other.logits)
        assert one.logits.dtype == other.logits.dtype
    for first, second in zip(made.slices, again.slices, strict=True):
        np.testing.assert_array_equal(first.pixels, second.pixels)
        assert (first.logit, first.family, first.tumour) == (second.logit, second.family, second.tumour)
    assert release.fitted(_CARD, again) == release.fitted(_CARD, made)


def test_trials_that_are_not_there_or_damaged_are_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(TrialsUnreadable, match="kept when a model is published"):
        kept(tmp_path / "none.jsonl.gz")
    (tmp_path / "bad.jsonl.gz").write_bytes(b"not compressed")
    with pytest.raises(TrialsUnreadable, match="publish the model again"):
        kept(tmp_path / "bad.jsonl.gz")
