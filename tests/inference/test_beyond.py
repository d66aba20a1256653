"""Asked beyond its domain, a model may call for a look where it sees one place; it never makes sure of anything."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from inference.analysis import analyse_study
from inference.beyond import MOST_REGIONS, MOST_TISSUE
from inference.detectors import Detection
from inference.findings import FindingClass, Severity, StudyAnalysis, Verdict
from inference.limits import Limits
from inference.pictures import read_pixels, sort_files, subjects_of
from inference.pictures.judging import Judges, judge
from inference.volume import Volume
from models.images.organs import Organ
from models.images.prediction import ImageModel
from tests.image_models import KnownImages, always
from tests.inference.conftest import KnownCube, WriteSeries
from tests.plain_files import nifti_file

PLACE = ((2, 5), (20, 28), (30, 38))
ELSEWHERE: dict[str, Any] = {"domain": {"rows": (200.0, 600.0)}}
OTHER = "1.2.826.0.1.3680043.8.498.1.7"
Voxels = NDArray[np.uint16]


class Spotted(KnownCube):
    """Flags every box of `spots`."""

    def __init__(self, spots: list[Any], **card: Any) -> None:
        super().__init__(spots[0], **card)
        self._spots = spots

    def detect(self, volume: Volume, *, batch: int) -> Detection:
        detection = super().detect(volume, batch=batch)
        for box in self._spots:
            detection.edit[tuple(slice(*ends) for ends in box)] = 0.95
        return detection


@pytest.fixture
def noise() -> Voxels:
    return np.random.default_rng(3).integers(0, 900, (8, 64, 80)).astype(np.uint16)


@pytest.fixture
def large() -> Voxels:
    """Within the domain that `noise` is outside of."""
    return np.random.default_rng(4).integers(0, 900, (8, 256, 80)).astype(np.uint16)


def study(files: list[Path], detector: KnownCube, images: ImageModel | None = None) -> StudyAnalysis:
    return analyse_study(files, models=[detector], image_model=images)


def strange() -> ImageModel:
    return KnownImages(always(Organ.UNKNOWN))


@pytest.mark.parametrize(
    ("card", "images", "doubt"),
    [
        ({}, strange(), "no organ that I know in its images: unlike all that it was shown"),
        (ELSEWHERE, None, "rows is 64; known-cube was measured on 200 to 600"),
        (ELSEWHERE, KnownImages(always(Organ.BRAIN_MR)), "rows is 64"),
    ],
)
def test_one_place_is_for_review_and_never_suspect(
    write_series: WriteSeries, noise: Voxels, card: Any, images: Any, doubt: str
) -> None:
    analysis = study(write_series(noise), KnownCube(PLACE, **card), images)
    assert analysis.verdict is Verdict.REVIEW
    assert analysis.score > 0.9  # what the model says; the verdict says what it is worth
    (finding,) = analysis.findings
    assert (finding.slices, finding.beyond_domain) == ((2, 4), True)
    assert np.count_nonzero(analysis.series[0].labels) == 3 * 8 * 8
    assert "looks as if something was removed: images 3 to 5" in analysis.reasons[0]
    assert doubt in analysis.reasons[1]
    assert "beyond what known-cube was measured on; so this is for REVIEW, and no more" in analysis.reasons[1]
    (flag,) = [each for each in analysis.observations if each.rule == "asked-beyond-domain"]
    assert (flag.severity, flag.evidence["sense"]) == (Severity.INFO, "local")


@pytest.mark.parametrize(("card", "images"), [({}, strange()), (ELSEWHERE, None)])
@pytest.mark.parametrize(("box", "logit", "said"), [(None, 6.0, "0.00"), (PLACE, 1.0, "0.73")])
def test_what_would_not_be_suspect_at_home_is_an_abstention_and_never_clear(
    write_series: WriteSeries, noise: Voxels, card: Any, images: Any, box: Any, logit: float, said: str
) -> None:
    analysis = study(write_series(noise), KnownCube(box, logit=logit, **card), images)
    assert analysis.verdict is Verdict.ABSTAIN
    assert f"it finds nothing that would count there (probability {said})" in analysis.reasons[0]
    assert analysis.score == pytest.approx(float(said), abs=0.005)
    assert analysis.findings == ()
    assert len(analysis.to_json()["slices"]) == 8


def spots(count: int) -> list[Any]:
    """Places of 4 × 4 pixels on three slices, apart from each other."""
    places = [(8 * row, 8 * column) for row in range(7) for column in range(9)]
    return [((2, 5), (row, row + 4), (column, column + 4)) for row, column in places[:count]]


@pytest.mark.parametrize(
    ("flagged", "verdict"),
    [
        (spots(1), Verdict.REVIEW),
        (spots(MOST_REGIONS), Verdict.REVIEW),
        (spots(MOST_REGIONS + 1), Verdict.ABSTAIN),
        ([((0, 8), (0, 64), (0, 80))], Verdict.ABSTAIN),
        ([((0, 8), (10, 40), (10, 60))], Verdict.ABSTAIN),
    ],
)
def test_a_model_that_is_loud_all_over_says_nothing_of_an_edit(
    write_series: WriteSeries, noise: Voxels, flagged: list[Any], verdict: Verdict
) -> None:
    analysis = study(write_series(noise, PixelSpacing=[1, 1]), Spotted(flagged, **ELSEWHERE))
    assert analysis.verdict is verdict
    if verdict is Verdict.ABSTAIN:
        assert "gives answers that make no sense on these images" in analysis.reasons[0]
        assert analysis.findings == ()
        assert analysis.score == 0.5  # an answer without sense is no probability
        assert max(entry["score"] for entry in analysis.to_json()["slices"]) > 0.9
    else:
        assert len(analysis.findings) == len(flagged)


def test_the_share_of_tissue_leaves_room_for_the_largest_edit() -> None:
    """32 mm as it lies in the smallest head of the shared studies, HF1139 of 917,594 voxels of tissue."""
    assert MOST_TISSUE > 3 * 12_716 / 917_594


def test_a_clear_series_beside_it_makes_no_clear_study(write_series: WriteSeries, noise: Voxels, large: Voxels) -> None:
    files = [*write_series(large), *write_series(noise, folder="b", SeriesInstanceUID=OTHER)]
    analysis = study(files, KnownCube(**ELSEWHERE))
    assert analysis.verdict is Verdict.ABSTAIN
    assert "in the 8 slices that were analysed" in analysis.reasons[1]
    assert len(analysis.series) == 2


def test_what_is_sure_stands_before_what_is_beyond(write_series: WriteSeries, noise: Voxels, large: Voxels) -> None:
    files = [*write_series(noise, SeriesInstanceUID=OTHER), *write_series(large, folder="b")]
    analysis = study(files, KnownCube(PLACE, **ELSEWHERE))
    assert analysis.verdict is Verdict.SUSPECT
    assert [finding.beyond_domain for finding in analysis.findings] == [False, True]
    assert any("so this is for REVIEW" in reason for reason in analysis.reasons[1:])


def test_a_quiet_series_beside_a_flagged_one_is_told(write_series: WriteSeries, noise: Voxels, large: Voxels) -> None:
    class Partly(KnownCube):
        def detect(self, volume: Volume, *, batch: int) -> Detection:
            known = KnownCube(PLACE if volume.source_shape[1] == 64 else None)
            return known.detect(volume, batch=batch)

    files = [*write_series(large), *write_series(noise, folder="b", SeriesInstanceUID=OTHER)]
    analysis = study(files, Partly(PLACE, **ELSEWHERE))
    assert analysis.verdict is Verdict.REVIEW
    assert "looks as if something was removed" in analysis.reasons[0]
    assert any(reason.startswith("the other images show no sign of editing") for reason in analysis.reasons)


@pytest.mark.parametrize("organ", [Organ.CHEST_XRAY, Organ.KNEE_XRAY])
def test_images_of_another_organ_are_not_asked_about(write_series: WriteSeries, noise: Voxels, organ: Organ) -> None:
    detector = KnownCube(PLACE)
    analysis = study(write_series(noise), detector, KnownImages(always(organ)))
    assert (analysis.verdict, detector.seen) == (Verdict.ABSTAIN, 0)


def test_what_is_taken_for_no_image_of_an_organ_is_not_asked_about(write_series: WriteSeries, noise: Voxels) -> None:
    class Page(KnownImages):
        def predict(self, images: Any, *, saliency: bool = False) -> Any:
            return [replace(answer, is_none=True) for answer in super().predict(images, saliency=saliency)]

    detector = KnownCube(PLACE)
    analysis = study(write_series(noise), detector, Page(always(Organ.UNKNOWN)))
    assert (analysis.verdict, analysis.score, detector.seen) == (Verdict.ABSTAIN, 0.5, 0)


def test_a_header_that_names_another_part_opens_nothing(write_series: WriteSeries, noise: Voxels) -> None:
    detector = KnownCube(PLACE)
    for part in ("KNEE", None):
        analysis = study(write_series(noise, BodyPartExamined=part), detector, strange())
        assert (analysis.verdict, detector.seen) == (Verdict.ABSTAIN, 0)


def test_a_model_that_only_names_tumours_is_not_asked_beyond_its_domain(
    write_series: WriteSeries, noise: Voxels
) -> None:
    detector = KnownCube(PLACE, judges_edits=False, **ELSEWHERE)
    assert study(write_series(noise), detector).verdict is Verdict.ABSTAIN
    assert detector.seen == 0


def test_the_flag_survives_the_way_to_the_next_step(write_series: WriteSeries, noise: Voxels, tmp_path: Path) -> None:
    analysis = study(write_series(noise), KnownCube(PLACE, **ELSEWHERE))
    analysis.save(tmp_path / "kept")
    assert StudyAnalysis.load(tmp_path / "kept").findings[0].beyond_domain
    assert analysis.findings[0].finding_class is FindingClass.REMOVED_TUMOUR


@pytest.mark.parametrize(
    ("detector", "verdict"),
    [
        (KnownCube(PLACE, **ELSEWHERE), Verdict.REVIEW),
        (KnownCube(**ELSEWHERE), Verdict.ABSTAIN),
        (KnownCube(PLACE, logit=1.0, **ELSEWHERE), Verdict.ABSTAIN),
        (KnownCube(((0, 8), (0, 64), (0, 80)), **ELSEWHERE), Verdict.ABSTAIN),
    ],
)
def test_a_nifti_volume_is_judged_by_the_same_rule(
    tmp_path: Path, noise: Voxels, detector: KnownCube, verdict: Verdict
) -> None:
    file = nifti_file(tmp_path / "a.nii", noise.transpose(2, 1, 0).astype(np.int16))
    (subject,) = subjects_of(sort_files([file]).plain, tmp_path, volumes=False)
    limits = Limits(8, 1 << 24, time.monotonic() + 60, None)
    brains = KnownImages(always(Organ.BRAIN_MR))
    analysis = judge(subject, Judges([detector], brains), limits, read_pixels).analysis
    assert analysis.verdict is verdict
    assert any("beyond what known-cube was measured on" in reason for reason in analysis.reasons)
    assert [each.rule for each in analysis.observations] == ["asked-beyond-domain"]
    # the caller's word against a model that recognises nothing is no more than a reason to look
    doubted = judge(subject, Judges([KnownCube(PLACE)], strange(), Organ.BRAIN_MR), limits, read_pixels).analysis
    assert doubted.verdict is Verdict.REVIEW
