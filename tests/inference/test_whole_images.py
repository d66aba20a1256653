"""Whole images: an organ that the slices agree on, one answer for each series, and no CLEAR that nobody gave."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.uid import CTImageStorage, DigitalXRayImageStorageForPresentation, SecondaryCaptureImageStorage

from inference import looking, whole_images
from inference.analysis import analyse_study
from inference.errors import InferenceError
from inference.findings import Severity, StudyAnalysis, Verdict
from inference.instances import read_instance
from inference.presented import MOST_SLICES, chosen, presented
from inference.whole_images import agreement, image_model_for, judged
from models.errors import UnknownModel
from models.images.organs import Organ
from models.images.prediction import ImageModel, ImagePrediction
from tests.image_models import KnownImages, always
from tests.inference.conftest import KnownCube, WriteDataset, WriteSeries

BRAIN, CHEST, UNKNOWN = Organ.BRAIN_MR, Organ.CHEST_XRAY, Organ.UNKNOWN
BOX = ((2, 6), (20, 40), (30, 50))
XRAY = {
    "SOPClassUID": DigitalXRayImageStorageForPresentation, "Modality": "DX", "BodyPartExamined": "CHEST",
    "ImagePositionPatient": None, "ImageOrientationPatient": None, "FrameOfReferenceUID": None,
}  # fmt: skip


def study(files: list[Path], model: ImageModel | None, *boxes: Any, **limits: Any) -> StudyAnalysis:
    return analyse_study(files, models=[KnownCube(*boxes)], image_model=model, **limits)


def answers(*organs: Organ, logit: float = 0.0) -> list[ImagePrediction]:
    return [KnownImages(always(each, logit)).predict([np.zeros((64, 64))])[0] for each in organs]


@pytest.fixture
def noise() -> NDArray[np.uint16]:
    return np.random.default_rng(3).integers(0, 900, (8, 64, 80)).astype(np.uint16)


# What the slices say together


@pytest.mark.parametrize(
    ("organs", "organ", "agreeing"),
    [
        ([BRAIN, BRAIN, BRAIN], BRAIN, 3),
        ([BRAIN, UNKNOWN], BRAIN, 1),
        ([BRAIN, UNKNOWN, UNKNOWN], UNKNOWN, 0),
        ([BRAIN, BRAIN, CHEST], BRAIN, 2),
        ([BRAIN, CHEST, UNKNOWN], UNKNOWN, 0),
        ([UNKNOWN], UNKNOWN, 0),
        ([], UNKNOWN, 0),
    ],
)
def test_an_organ_is_named_where_half_of_the_slices_show_it(organs: list[Organ], organ: Organ, agreeing: int) -> None:
    found = agreement(answers(*organs), KnownImages(always(BRAIN)).card)
    assert (found.organ, found.agreeing, found.images) == (organ, agreeing, len(organs))
    assert bool(found.probability) == (organ is not UNKNOWN)
    if organs and organ is UNKNOWN:
        assert found.reason


def test_a_series_is_judged_by_its_slices_together() -> None:
    model = KnownImages(always(BRAIN))
    look = whole_images.Look("1.2", ("1.2.1", "1.2.2"), tuple(answers(BRAIN, BRAIN, logit=9.0)), 40, model.card)
    quiet = replace(look, predictions=tuple(answers(BRAIN, BRAIN, BRAIN, BRAIN, logit=-9.0)), total=10)
    assert judged([look]).verdict is Verdict.SUSPECT
    together = judged([look, quiet])
    assert (together.verdict, together.total, len(together.images)) == (Verdict.CLEAR, 50, 4)
    assert together.probability == pytest.approx(model.card.series_probability(np.array([9, 9, -9, -9, -9, -9])))


def test_slices_without_an_organ_say_nothing_about_their_origin() -> None:
    model = KnownImages(always(BRAIN))
    mixed = (*answers(BRAIN, BRAIN, logit=-9.0), *answers(UNKNOWN, logit=99.0))
    found = judged([whole_images.Look("1.2", ("1", "2", "3"), mixed, 3, model.card)])
    assert found.verdict is Verdict.CLEAR
    assert found.scores[2] is None
    nothing = judged([whole_images.Look("1.2", ("1",), tuple(answers(UNKNOWN, logit=99.0)), 1, model.card)])
    assert (nothing.verdict, nothing.probability, nothing.organ) == (Verdict.ABSTAIN, None, "unknown")


def test_one_image_alone_has_to_pass_the_threshold_of_one_image() -> None:
    strict = KnownImages(always(CHEST), thresholds={"image": 0.99, "review": 0.5, "suspect": 0.9}).card
    look = whole_images.Look("1.2", ("1",), tuple(answers(CHEST, logit=3.0)), 1, strict)
    assert judged([look]).verdict is Verdict.CLEAR
    assert judged([replace(look, images=("1", "2"), predictions=tuple(answers(CHEST, CHEST, logit=3.0)))]).verdict is (
        Verdict.SUSPECT
    )


@pytest.mark.parametrize(
    "wrong",
    [
        lambda _: [],
        lambda answer: [answer, answer],
        lambda answer: [replace(answer, organs=answer.organs[:2])],
        lambda answer: [replace(answer, synthesis_logit=float("nan"))],
    ],
)
def test_an_answer_that_does_not_fit_is_refused(wrong: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = KnownImages(always(BRAIN))
    right = model.predict([np.zeros((64, 64))])[0]
    monkeypatch.setattr(model, "predict", lambda *_, **__: wrong(right))
    with pytest.raises(InferenceError, match="known-images"):
        whole_images.look([np.zeros((64, 64))], model)


# As a viewer shows them


@pytest.mark.parametrize("count", [1, 2, 5, 6, 16, 24, 30, 200, 1_000])
def test_few_slices_are_looked_at_and_not_the_outermost(count: int) -> None:
    places = chosen(count)
    assert 1 <= len(places) <= MOST_SLICES
    assert list(places) == sorted(set(places))
    assert 0 <= places[0] <= places[-1] < count
    if count >= 6:
        assert places[0] >= count // 6
        assert places[-1] < count - count // 6


def shown(path: Path, pixels: NDArray[np.float32]) -> NDArray[np.uint8]:
    instance = read_instance(path)
    return presented(pixels, instance, instance.frames[0])


def test_the_window_of_the_instance_is_what_a_viewer_shows(write_series: WriteSeries, brain: NDArray[Any]) -> None:
    (file,) = write_series(brain[:1], WindowCenter=[100, 5], WindowWidth=[100, 5])
    ramp = np.linspace(0, 200, 64 * 80, dtype=np.float32).reshape(64, 80)
    grey = shown(file, ramp)
    assert (grey[ramp <= 50] == 0).all()
    assert (grey[ramp >= 150] == 255).all()
    assert grey.dtype == np.uint8


def test_a_window_that_shows_nothing_is_not_used(write_series: WriteSeries, brain: NDArray[Any]) -> None:
    (file,) = write_series(brain[:1], WindowCenter=90_000, WindowWidth=10)
    assert np.ptp(shown(file, brain[0].astype(np.float32))) == 255


def test_ct_without_a_window_is_shown_as_soft_tissue(write_series: WriteSeries, brain: NDArray[Any]) -> None:
    (file,) = write_series(brain[:1], Modality="CT", SOPClassUID=CTImageStorage)
    ramp = np.linspace(-1000, 1000, 64 * 80, dtype=np.float32).reshape(64, 80)
    grey = shown(file, ramp)
    assert (grey[ramp < -160] == 0).all()
    assert (grey[ramp > 240] == 255).all()
    air = np.linspace(-950, -500, 64 * 80, dtype=np.float32).reshape(64, 80)
    assert np.ptp(shown(file, air)) > 50  # a slice of lung alone: the wide window shows it


def test_a_negative_image_is_shown_as_its_positive_twin(
    write_dataset: WriteDataset, make_head: Any, tmp_path: Path
) -> None:
    stored = np.arange(64 * 80, dtype=np.uint16).reshape(64, 80)
    window = {"BitsStored": 13, "HighBit": 12, "WindowCenter": 1_000, "WindowWidth": 1_000}
    model = KnownImages(always(BRAIN))
    for name, pixels, photometric in (("a", stored, "MONOCHROME2"), ("b", stored, "MONOCHROME1")):
        file = write_dataset(
            make_head(pixels, PhotometricInterpretation=photometric, **window), tmp_path / f"{name}.dcm"
        )
        study([file], model)
    positive, negative = (each.astype(int) for each in model.shown)
    assert np.ptp(positive) == 255
    assert np.abs(positive - (255 - negative)).max() <= 1


# In the verdict


def test_generated_images_make_a_study_suspect(write_series: WriteSeries, noise: NDArray[Any]) -> None:
    analysis = study(write_series(noise), KnownImages(always(BRAIN, 8.0)))
    assert analysis.verdict is Verdict.SUSPECT
    assert analysis.score > 0.99
    assert "the whole images look generated, not made by a scanner" in analysis.reasons[0]
    (series,) = analysis.synthesis
    assert (series.organ, series.verdict, series.total) == ("brain MR", Verdict.SUSPECT, 8)
    assert [model.name for model in analysis.models] == ["known-cube", "known-images"]
    assert not analysis.findings


def test_a_doubtful_series_is_for_review(write_series: WriteSeries, noise: NDArray[Any]) -> None:
    analysis = study(write_series(noise), KnownImages(always(BRAIN, 1.0)))
    assert analysis.verdict is Verdict.REVIEW
    assert "may be generated" in analysis.reasons[0]


def test_edited_regions_are_told_beside_generated_images(write_series: WriteSeries, noise: NDArray[Any]) -> None:
    analysis = study(write_series(noise), KnownImages(always(BRAIN, 8.0)), BOX)
    assert analysis.verdict is Verdict.SUSPECT
    assert "look generated" in analysis.reasons[0]
    assert "looks as if something was removed" in analysis.reasons[1]


def test_a_quiet_model_leaves_a_clear_study_clear_and_says_so(write_series: WriteSeries, noise: NDArray[Any]) -> None:
    analysis = study(write_series(noise), KnownImages(always(BRAIN)))
    assert analysis.verdict is Verdict.CLEAR
    assert analysis.reasons[1].startswith("no sign that whole images were generated in 1 series (6 images looked at")


def test_without_a_whole_image_model_nothing_changes(write_series: WriteSeries, noise: NDArray[Any]) -> None:
    analysis = study(write_series(noise), None)
    assert analysis.verdict is Verdict.CLEAR
    assert analysis.synthesis == ()
    assert len(analysis.reasons) == 1


def test_an_organ_without_a_model_is_named_and_makes_nothing_clear(
    write_series: WriteSeries, noise: NDArray[Any]
) -> None:
    analysis = study(write_series(noise[:1], **XRAY), KnownImages(always(CHEST)))
    assert analysis.verdict is Verdict.ABSTAIN
    assert "shows a chest X-ray; no model for added or removed lesions covers it" in analysis.reasons[0]
    assert "no sign that whole images were generated" in analysis.reasons[1]
    assert analysis.synthesis[0].verdict is Verdict.CLEAR


def test_a_generated_radiograph_is_suspect_though_no_other_model_covers_it(
    write_series: WriteSeries, noise: NDArray[Any]
) -> None:
    analysis = study(write_series(noise[:1], **XRAY), KnownImages(always(CHEST, 8.0)))
    assert analysis.verdict is Verdict.SUSPECT
    assert any("no model for added or removed lesions covers it" in reason for reason in analysis.reasons)


def test_images_of_no_known_organ_are_abstained_from(write_series: WriteSeries, noise: NDArray[Any]) -> None:
    analysis = study(write_series(noise), KnownImages(always(UNKNOWN, 9.0)))
    assert analysis.verdict is Verdict.ABSTAIN
    assert "no organ that I know in its images: unlike all that it was shown" in analysis.reasons[0]
    assert analysis.synthesis[0].probability is None


def test_a_header_that_contradicts_is_observed_and_not_overruled(
    write_series: WriteSeries, noise: NDArray[Any]
) -> None:
    analysis = study(write_series(noise), KnownImages(always(CHEST)), BOX)
    (observed,) = [each for each in analysis.observations if each.rule == "organ-contradicts-body-part"]
    assert observed.severity is Severity.WARNING
    assert observed.evidence["organ"] == "chest X-ray"
    assert observed.evidence["agreeing"] == observed.evidence["images"] == 6
    assert analysis.verdict is Verdict.ABSTAIN
    assert observed.text in analysis.reasons


def test_a_doubtful_answer_contradicts_no_header(write_series: WriteSeries, noise: NDArray[Any]) -> None:
    unsure = study(write_series(noise), KnownImages(always(CHEST), sure=0.85))
    assert "organ-contradicts-body-part" not in {each.rule for each in unsure.observations}


@pytest.mark.parametrize("part", ["SPINE", "KNEE", "LIVER"])
def test_a_header_that_the_model_never_learned_is_no_warning(
    part: str, write_series: WriteSeries, noise: NDArray[Any]
) -> None:
    """A network of five organs calls an MR of the spine a brain: that speaks against the network."""
    analysis = study(write_series(noise, BodyPartExamined=part), KnownImages(always(BRAIN)))
    (observed,) = [each for each in analysis.observations if each.rule == "organ-contradicts-body-part"]
    assert observed.severity is Severity.INFO
    assert analysis.verdict is Verdict.ABSTAIN  # the detector is not opened by the images


@pytest.mark.parametrize("part", ["BRAIN", "HEAD", "SKULL", "HEAD_NECK"])
def test_a_header_that_fits_is_not_observed(part: str, write_series: WriteSeries, noise: NDArray[Any]) -> None:
    analysis = study(write_series(noise, BodyPartExamined=part), KnownImages(always(BRAIN)))
    assert "organ-contradicts-body-part" not in {each.rule for each in analysis.observations}


def test_a_brain_that_no_header_names_is_analysed_as_one(write_series: WriteSeries, noise: NDArray[Any]) -> None:
    files = write_series(noise, BodyPartExamined=None)
    assert study(files, None, BOX).verdict is Verdict.ABSTAIN
    analysis = study(files, KnownImages(always(BRAIN)), BOX)
    assert analysis.verdict is Verdict.SUSPECT
    assert "body-part-from-images" in {each.rule for each in analysis.observations}


def test_a_description_that_names_another_part_keeps_the_detector_closed(
    write_series: WriteSeries, noise: NDArray[Any]
) -> None:
    files = write_series(noise, BodyPartExamined=None, SeriesDescription="T2 lumbar spine")
    assert study(files, KnownImages(always(BRAIN)), BOX).verdict is Verdict.ABSTAIN


def test_what_the_header_refuses_for_another_reason_stays_refused(
    write_series: WriteSeries, noise: NDArray[Any]
) -> None:
    analysis = study(write_series(noise, LossyImageCompression="01"), KnownImages(always(BRAIN)), BOX)
    assert analysis.verdict is Verdict.ABSTAIN
    assert "lossy compression" in analysis.reasons[0]
    assert "no model" not in analysis.reasons[0]


def test_planning_slices_are_not_looked_at(write_series: WriteSeries, noise: NDArray[Any]) -> None:
    model = KnownImages(always(BRAIN))
    planning = {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"], "SeriesInstanceUID": "1.2.3.4"}
    files = [*write_series(noise), *write_series(noise[:2], folder="scout", BodyPartExamined="NECK", **planning)]
    analysis = study(files, model)
    assert [series.series_uid for series in analysis.synthesis] == ["1.2.826.0.1.3680043.8.498.1.1"]
    assert analysis.verdict is Verdict.CLEAR


def test_a_series_that_is_too_large_is_looked_at_in_a_few_slices(
    write_series: WriteSeries, noise: NDArray[Any]
) -> None:
    model = KnownImages(always(Organ.LUNG_CT, 8.0))
    decoded: list[str] = []

    def decode(instance: Any) -> Any:
        from inference.decoding import decode as plain

        decoded.append(instance.sop_instance_uid)
        return plain(instance)

    files = write_series(np.tile(noise, (5, 1, 1)), Modality="CT", SOPClassUID=CTImageStorage, BodyPartExamined="CHEST")
    analysis = study(files, model, max_voxels=4 * 64 * 80, decode=decode)
    assert len(model.shown) == len(decoded) == 4
    assert analysis.verdict is Verdict.SUSPECT
    assert (len(analysis.synthesis[0].images), analysis.synthesis[0].total) == (4, 40)


def test_a_covered_series_that_is_too_large_is_still_no_clear_one(
    write_series: WriteSeries, noise: NDArray[Any]
) -> None:
    for attributes in ({}, {"BodyPartExamined": None}):
        analysis = study(write_series(noise, **attributes), KnownImages(always(BRAIN)), max_voxels=3 * 64 * 80)
        assert analysis.verdict is Verdict.ABSTAIN
        assert any("more than 15,360 voxels" in reason for reason in analysis.reasons), analysis.reasons


def test_the_time_limit_counts_the_looks_at_whole_images(write_series: WriteSeries, noise: NDArray[Any]) -> None:
    def slow(_: NDArray[Any]) -> tuple[Organ, float]:
        time.sleep(0.4)
        return BRAIN, -6.0

    model = KnownImages(slow)
    analysis = study(write_series(noise), model, time_limit=1.0)
    assert analysis.verdict is Verdict.ABSTAIN
    assert any("time limit" in reason for reason in analysis.reasons)
    assert len(model.shown) < 6


def test_every_series_has_one_answer(write_series: WriteSeries, noise: NDArray[Any]) -> None:
    """Two orientations in one series, and another series."""
    turned = {"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}
    files = [
        *write_series(noise),
        *write_series(noise[:3], folder="turned", places=[0, 0, 0], **turned),
        *write_series(noise, folder="other", SeriesInstanceUID="1.2.3.4"),
    ]
    analysis = study(files, KnownImages(always(BRAIN)))
    assert sorted(series.series_uid[-3:] for series in analysis.synthesis) == ["1.1", "3.4"]


def test_an_analysis_with_whole_images_comes_back_whole(
    write_series: WriteSeries, noise: NDArray[Any], tmp_path: Path
) -> None:
    analysis = study(write_series(noise), KnownImages(always(BRAIN, 8.0)))
    analysis.save(tmp_path / "kept")
    assert StudyAnalysis.load(tmp_path / "kept").synthesis == analysis.synthesis


# Input that is no image of a patient


def bad_pixels() -> dict[str, NDArray[Any]]:
    rows, columns = np.meshgrid(np.arange(64), np.arange(64), indexing="ij")
    return {
        "constant": np.full((64, 64), 7, np.uint16),
        "noise": np.random.default_rng(1).integers(0, 65_536, (64, 64)).astype(np.uint16),
        "16 bit": (rows * 900 + columns).astype(np.uint16),
        "8 × 8": (rows[:8, :8] * 8 + columns[:8, :8]).astype(np.uint16),
        "page of text": np.where((rows % 8 < 4) & (columns % 5 < 3), 0, 255).astype(np.uint8),
    }


@pytest.mark.parametrize("kind", bad_pixels())
@pytest.mark.parametrize("sop_class", [None, SecondaryCaptureImageStorage, CTImageStorage])
def test_no_image_of_an_organ_is_ever_more_than_an_abstention(
    kind: str, sop_class: str | None, write_series: WriteSeries
) -> None:
    attributes: dict[str, Any] = {} if sop_class is None else {"SOPClassUID": sop_class, "BodyPartExamined": None}
    if sop_class is not None:
        attributes["Modality"] = "CT" if sop_class == CTImageStorage else "OT"
    analysis = study(write_series(bad_pixels()[kind][None], **attributes), KnownImages(always(UNKNOWN)))
    assert analysis.verdict is Verdict.ABSTAIN
    assert "no organ that I know" in analysis.reasons[0]


def test_a_huge_image_is_looked_at_as_it_is(write_series: WriteSeries, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking, "observe_pixels", lambda _: ())  # provenance has its own tests, and takes its time
    model = KnownImages(always(UNKNOWN))
    pixels = np.tile(np.arange(6000, dtype=np.uint16) % 4096, (1, 6000, 1))
    assert study(write_series(pixels), model).verdict is Verdict.ABSTAIN
    assert model.shown[0].shape == (6000, 6000)


def test_colour_is_abstained_from_with_its_reason(write_dataset: WriteDataset, make_head: Any, tmp_path: Path) -> None:
    colour = make_head(
        np.zeros((64, 64 * 3), np.uint8), Columns=64, SamplesPerPixel=3, PhotometricInterpretation="RGB",
        PlanarConfiguration=0,
    )  # fmt: skip
    model = KnownImages(always(UNKNOWN))
    analysis = study([write_dataset(colour, tmp_path / "rgb.dcm")], model)
    assert analysis.verdict is Verdict.ABSTAIN
    assert "no organ that I know in its images" in analysis.reasons[0]
    assert "RGB image; only grey images are analysed" in analysis.reasons[0]
    assert model.shown == []


def test_packed_bits_are_abstained_from_with_their_reason(write_series: WriteSeries) -> None:
    files = write_series(np.zeros((4, 64, 8), np.uint8), Columns=64, BitsAllocated=1, BitsStored=1, HighBit=0)
    analysis = study(files, KnownImages(always(UNKNOWN)))
    assert analysis.verdict is Verdict.ABSTAIN
    assert "1 bits allocated" in analysis.reasons[0]


# Which model


def test_a_setting_names_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    model = KnownImages(always(BRAIN))
    assert image_model_for(None) is None
    assert image_model_for("none") is None
    assert image_model_for(model) is model
    monkeypatch.setattr(whole_images, "_shipped", lambda: None)
    assert image_model_for("auto", device="cpu") is None
    with pytest.raises(UnknownModel, match="no-such-model"):
        image_model_for("no-such-model", device="cpu")
