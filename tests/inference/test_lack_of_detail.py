"""Interpolated images: what a scanner and a generator have in common proves neither."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from inference.analysis import analyse_study
from inference.findings import StudyAnalysis, Verdict
from inference.whole_images import look
from models.images.organs import Organ
from tests.image_models import KnownImages
from tests.inference.conftest import KnownCube, WriteSeries
from tests.plain_files import interpolated

BRAIN = Organ.BRAIN_MR


def study(files: list[Path], model: KnownImages) -> StudyAnalysis:
    return analyse_study(files, models=[KnownCube()], image_model=model)


@pytest.fixture
def noise() -> NDArray[np.uint16]:
    return np.random.default_rng(3).integers(0, 900, (8, 64, 80)).astype(np.uint16)


def by_size(logit: float, smaller: float) -> KnownImages:
    """Takes images of the full matrix for generated, and the same made smaller as `smaller` says."""
    return KnownImages(lambda image: (BRAIN, logit if image.shape[0] >= 128 else smaller))


def test_a_lack_of_detail_alone_never_makes_a_series_suspect_and_never_clear(
    write_series: WriteSeries, noise: NDArray[np.uint16]
) -> None:
    files = write_series(interpolated(noise))
    doubted = study(files, by_size(9.0, -9.0))
    assert doubted.verdict is Verdict.ABSTAIN
    assert any("less detail than their matrix" in reason for reason in doubted.reasons)
    (series,) = doubted.synthesis
    assert (series.verdict, series.probability, series.organ) == (Verdict.ABSTAIN, None, BRAIN.value)
    assert "less detail" in series.doubt
    assert study(files, by_size(9.0, 9.0)).verdict is Verdict.SUSPECT
    assert study(files, by_size(-9.0, 9.0)).verdict is Verdict.CLEAR


def test_images_that_fill_their_matrix_are_asked_about_once(write_series: WriteSeries) -> None:
    files = write_series(np.random.default_rng(0).integers(0, 900, (4, 128, 160)).astype(np.uint16))
    assert study(files, by_size(9.0, -9.0)).verdict is Verdict.SUSPECT


def test_where_no_organ_is_seen_at_their_own_detail_images_are_still_not_called_generated(
    noise: NDArray[np.uint16],
) -> None:
    model = KnownImages(lambda image: (BRAIN, 9.0) if image.shape[0] >= 128 else (Organ.UNKNOWN, 0.0))
    (answer,) = look([interpolated(noise)[0]], model)
    assert answer.surest == 0.0
