"""Where a card fuses what is known of a series, its score and those of its findings come from there."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from inference.analysis import analyse_study
from inference.findings import Verdict
from models import fusion
from models.card import Calibration, Fusion, Thresholds
from tests.inference.conftest import KnownCube, WriteSeries

PLACE = ((2, 5), (20, 28), (30, 38))
EVERYWHERE = ((0, 8), (0, 64), (0, 80))
JUDGED: dict[str, Any] = {
    "calibration": Calibration(run=1),
    "thresholds": Thresholds(review=0.6, suspect=0.9),
}
BY_STRENGTH = Fusion(weights={"strength": 1.0}, offset=0.0, loudest={fusion.FLAGGED: 0.05, fusion.FLOOR: 1.0})


@pytest.fixture
def noise() -> NDArray[np.uint16]:
    return np.random.default_rng(3).integers(0, 900, (8, 64, 80)).astype(np.uint16)


def test_the_fusion_of_the_card_gives_the_score(write_series: WriteSeries, noise: NDArray[np.uint16]) -> None:
    files = write_series(noise)
    alone = analyse_study(files, models=[KnownCube(PLACE, logit=1.0, **JUDGED)])
    fused = analyse_study(files, models=[KnownCube(PLACE, logit=1.0, fusion=BY_STRENGTH, **JUDGED)])
    assert (alone.verdict, fused.verdict) == (Verdict.REVIEW, Verdict.SUSPECT)
    assert fused.score == pytest.approx(0.95, abs=0.01)
    (finding,) = fused.findings
    assert finding.score <= fused.score


@pytest.mark.parametrize("length", range(1, 8))
def test_no_stretch_of_a_series_is_more_likely_edited_than_the_series(length: int) -> None:
    from inference import calibration

    rng = np.random.default_rng(length)
    weights = {"run of 4": 1.0, "run of 1": 0.5, "persistence": 1.0}
    card = KnownCube(**JUDGED).card.model_copy(update={"fusion": Fusion(weights=weights, offset=0.0)})
    for _ in range(20):
        logits, found = [rng.normal(0, 2, 12).astype(np.float32)], [fusion.Evidence()]
        whole = calibration.study_score([card], logits, found)
        first = int(rng.integers(0, 13 - length))
        assert calibration.run_score([card], logits, first, first + length - 1, found) <= whole + 1e-9


def test_a_series_that_is_loud_everywhere_is_neither_suspect_nor_clear(
    write_series: WriteSeries, noise: NDArray[np.uint16]
) -> None:
    files = write_series(noise)
    sure = analyse_study(files, models=[KnownCube(EVERYWHERE, **JUDGED)])
    assert sure.verdict is Verdict.SUSPECT  # what a card without a fusion makes of it
    strange = analyse_study(files, models=[KnownCube(EVERYWHERE, fusion=BY_STRENGTH, **JUDGED)])
    assert strange.verdict is Verdict.ABSTAIN
    assert any("of all pixels look edited" in reason for reason in strange.reasons)
    assert strange.findings == ()


def test_a_scanner_that_no_network_was_trained_on_gets_no_confident_answer(scanwarden_data: Path) -> None:
    files = sorted((scanwarden_data / "dicom" / "t1-healthy").rglob("*.dcm"))
    analysis = analyse_study(files[20:26], models=["edit-unet"], device="cpu", threads=1)
    assert analysis.verdict in (Verdict.ABSTAIN, Verdict.REVIEW)
