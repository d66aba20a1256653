"""What is said of a picture or NIfTI volume by itself, and how sure a verdict may be."""

import time
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from matplotlib import get_data_path
from PIL import Image, ImageDraw

from inference.findings import FindingClass, Verdict
from inference.limits import Limits
from inference.pictures import read_pixels, sort_files, subjects_of
from inference.pictures.judging import Judges, PlainAnalysis, judge
from inference.pictures.written import write
from models.card import Thresholds
from models.images.organs import Organ
from tests.image_models import KnownImages, always
from tests.inference.pictures.conftest import Grey
from tests.plain_files import interpolated, saved

MAX = 4096 * 4096
BOX = ((0, 1), (10, 30), (20, 50))
SERIES_BOX = ((2, 5), (10, 30), (20, 50))


def judged(path: Path, judges: Judges, *, volumes: bool = False) -> PlainAnalysis:
    found = sort_files([path] if path.is_file() else sorted(path.rglob("*.*")))
    (subject,) = subjects_of(found.plain, path, volumes=volumes)
    return judge(subject, judges, Limits(8, MAX, time.monotonic() + 60, None), read_pixels)


def test_one_picture_with_a_finding_is_at_most_review(tmp_path: Path, grey: Grey, known_cube: Any) -> None:
    plain = judged(saved(tmp_path / "a.png", grey), Judges([known_cube(BOX)], KnownImages(always(Organ.BRAIN_MR))))
    assert plain.analysis.verdict is Verdict.REVIEW
    assert plain.analysis.score > 0.9
    (finding,) = plain.analysis.findings
    assert finding.box == (10, 20, 30, 50)
    assert plain.finding_class == FindingClass.REMOVED_TUMOUR.value
    assert any("one picture is less evidence than a series" in reason for reason in plain.analysis.reasons)


def test_one_quiet_picture_is_never_clear(tmp_path: Path, grey: Grey, known_cube: Any) -> None:
    plain = judged(saved(tmp_path / "a.png", grey), Judges([known_cube()], KnownImages(always(Organ.BRAIN_MR))))
    assert plain.analysis.verdict is Verdict.ABSTAIN
    assert plain.analysis.score < 0.1
    assert "no sign of an added or removed tumour in this picture" in plain.analysis.reasons[0]
    assert plain.finding_class is None  # a model of edits says nothing about tumours that are there


def test_a_quiet_volume_of_less_detail_than_its_matrix_is_not_clear(nifti: Any, known_cube: Any) -> None:
    noise = np.random.default_rng(3).integers(0, 900, (8, 64, 80))
    path = nifti(interpolated(noise).transpose(2, 1, 0))
    whole = KnownImages(lambda image: (Organ.BRAIN_MR, 9.0 if min(image.shape) >= 128 else -9.0))
    plain = judged(path, Judges([known_cube()], whole))
    assert plain.analysis.verdict is Verdict.ABSTAIN
    assert any("less detail than their matrix" in reason for reason in plain.analysis.reasons)


def test_a_volume_gets_the_verdicts_of_a_series(nifti: Any, brain: Any, known_cube: Any) -> None:
    path = nifti(brain[:, ::-1, ::-1].transpose(2, 1, 0))
    brains = KnownImages(always(Organ.BRAIN_MR))
    assert judged(path, Judges([known_cube()], brains)).analysis.verdict is Verdict.CLEAR
    plain = judged(path, Judges([known_cube(SERIES_BOX)], brains))
    assert plain.analysis.verdict is Verdict.SUSPECT
    (finding,) = plain.analysis.findings
    assert finding.slices == (2, 4)
    assert finding.volume_mm3 == pytest.approx(3 * 20 * 30 * 4.0 * 0.9 * 0.8)


def test_less_than_a_whole_sound_volume_is_never_sure(nifti: Any, brain: Any, known_cube: Any) -> None:
    holes = brain.astype(np.float32).transpose(2, 1, 0)
    holes[0, 0, 0] = np.nan
    brains = KnownImages(always(Organ.BRAIN_MR))
    for path in (nifti(holes, "holes.nii"), nifti(np.stack([brain.transpose(2, 1, 0)] * 2, axis=-1), "4d.nii")):
        assert judged(path, Judges([known_cube()], brains)).analysis.verdict is Verdict.ABSTAIN
    assert judged(nifti(holes), Judges([known_cube(SERIES_BOX)], brains)).analysis.verdict is Verdict.REVIEW


def test_pictures_of_a_folder_are_slices_only_when_that_is_said(tmp_path: Path, grey: Grey, known_cube: Any) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    for number in (10, 9, 11, 1):
        saved(folder / f"slice-{number}.png", grey + np.uint8(number))
    found = sort_files(sorted(folder.iterdir()))
    assert [subject.file for subject in subjects_of(found.plain, folder, volumes=False)] == [
        f"slice-{number}.png" for number in (1, 9, 10, 11)
    ]
    plain = judged(folder, Judges([known_cube()], KnownImages(always(Organ.BRAIN_MR))), volumes=True)
    assert plain.analysis.verdict is Verdict.CLEAR
    assert [entry["file"] for entry in plain.to_json()["slices"]][:2] == ["slice-1.png", "slice-9.png"]
    saved(folder / "slice-12.png", grey[:40])
    other = judged(folder, Judges([known_cube()]), volumes=True)
    assert other.analysis.verdict is Verdict.ABSTAIN
    assert "pictures of 2 sizes (40×80, 64×80)" in other.analysis.reasons[0]


def test_what_shows_no_brain_is_not_asked_about_edits(tmp_path: Path, grey: Grey, known_cube: Any) -> None:
    path = saved(tmp_path / "a.png", grey)
    for organ, reason in (
        (Organ.UNKNOWN, "no organ that I know: unlike all that it was shown"),
        (Organ.CHEST_XRAY, "no model for added or removed lesions covers a chest X-ray"),
    ):
        detector = known_cube(BOX)
        plain = judged(path, Judges([detector], KnownImages(always(organ))))
        assert (plain.analysis.verdict, plain.analysis.score) == (Verdict.ABSTAIN, 0.5)
        assert reason in plain.analysis.reasons[0]
        assert detector.seen == 0
    alone = judged(path, Judges([known_cube(BOX)]))
    assert "nothing says what it shows" in alone.analysis.reasons[0]


def test_the_callers_word_counts_until_a_model_sees_something_else(tmp_path: Path, grey: Grey, known_cube: Any) -> None:
    path = saved(tmp_path / "a.png", grey)
    said = judged(path, Judges([known_cube(BOX)], None, Organ.BRAIN_MR))
    assert said.analysis.verdict is Verdict.REVIEW
    assert "taken for a brain MR because --shows says so" in said.analysis.reasons
    other = judged(path, Judges([known_cube(BOX)], KnownImages(always(Organ.KNEE_XRAY)), Organ.BRAIN_MR))
    assert other.analysis.verdict is Verdict.ABSTAIN
    assert "looks like a knee X-ray" in other.analysis.reasons[0]


def test_a_generated_picture_is_flagged_with_what_its_score_rests_on(tmp_path: Path, grey: Grey) -> None:
    class Lower(KnownImages):
        def predict(self, images: Any, *, saliency: bool = False) -> Any:
            answers = super().predict(images, saliency=saliency)
            for answer in answers if saliency else ():
                assert answer.saliency is not None
                answer.saliency[40:60, 10:30] = 1
            return answers

    plain = judged(saved(tmp_path / "a.png", grey), Judges([], Lower(always(Organ.CHEST_XRAY, 6.0))))
    assert plain.analysis.verdict is Verdict.REVIEW  # one picture, however sure
    assert plain.analysis.score > 0.99
    assert "looks generated, not made by a scanner" in plain.analysis.reasons[0]
    assert plain.finding_class == "resynthesised"
    record = plain.to_json()
    assert record["synthesis"][0]["organ"] == "chest X-ray"
    assert "within rows 40-60 and columns 10-30" in record["rests_on"][0]["words"]
    written = {path.name for path in write(plain, tmp_path / "out")}
    assert written == {"analysis.json", "saliency.png"}


def test_a_generated_volume_is_suspect_by_its_slices_together(nifti: Any, brain: Any, known_cube: Any) -> None:
    path = nifti(brain.transpose(2, 1, 0))
    model = KnownImages(always(Organ.BRAIN_MR, 6.0))
    assert judged(path, Judges([known_cube()], model)).analysis.verdict is Verdict.SUSPECT


def test_what_is_found_lies_on_the_picture_and_on_the_volume_again(
    tmp_path: Path, grey: Grey, nifti: Any, brain: Any, known_cube: Any
) -> None:
    brains = KnownImages(always(Organ.BRAIN_MR))
    plain = judged(saved(tmp_path / "a.png", grey), Judges([known_cube(BOX)], brains))
    names = {path.name for path in write(plain, tmp_path / "one")}
    assert names == {"analysis.json", "boxes.json", "finding-01.png", "mask.png", "masks.npz", "saliency.png"}
    mask = np.asarray(Image.open(tmp_path / "one" / "mask.png"))
    expected = np.zeros(grey.shape, np.uint8)
    expected[10:30, 20:50] = 255
    assert np.array_equal(mask, expected)
    volume = nifti(brain[:, ::-1, ::-1].transpose(2, 1, 0))
    write(judged(volume, Judges([known_cube(SERIES_BOX)], brains)), tmp_path / "two")
    back: Any = nibabel.load(tmp_path / "two" / "mask.nii.gz")
    source: Any = nibabel.load(volume)
    assert np.allclose(back.affine, source.affine)
    painted = np.asarray(back.dataobj).transpose(2, 1, 0)[:, ::-1, ::-1]
    cube = np.zeros(brain.shape, bool)
    cube[tuple(slice(*ends) for ends in SERIES_BOX)] = True
    assert np.array_equal(painted > 0, cube)


def _text(size: tuple[int, int]) -> Image.Image:
    page = Image.new("1", size, 1)
    for row in range(8, size[1], 14):
        ImageDraw.Draw(page).text((8, row), "a page of text, " * 4, fill=0)
    return page


@pytest.mark.parametrize(
    ("picture", "reason"),
    [
        (np.full((64, 64), 7, np.uint8), "every pixel has the same value"),
        (np.arange(64, dtype=np.uint8).reshape(8, 8), "8×8 pixels"),
        (np.arange(256, dtype=np.uint8).reshape(16, 16), "16×16 pixels"),
        (_text((200, 120)), "only 2 different grey values"),
        (np.full((64, 64), np.nan, np.float32), "not one number"),
    ],
)
def test_what_is_no_image_is_told_without_asking_anybody(
    tmp_path: Path, picture: Any, reason: str, known_cube: Any
) -> None:
    model, detector = KnownImages(always(Organ.BRAIN_MR)), known_cube(BOX)
    plain = judged(saved(tmp_path / "a.tif", picture), Judges([detector], model))
    assert (plain.analysis.verdict, plain.analysis.score) == (Verdict.ABSTAIN, 0.5)
    assert reason in plain.analysis.reasons[0]
    assert (detector.seen, model.shown) == (0, [])


@pytest.mark.parametrize("kind", ["noise", "photograph", "large", "sixteen bit"])
def test_the_shipped_models_are_never_sure_of_what_is_no_brain(tmp_path: Path, kind: str) -> None:
    from inference.detectors import detectors_for
    from inference.whole_images import image_model_for

    generator = np.random.default_rng(3)
    noise = generator.integers(0, 255, (256, 256), np.uint8)
    photograph = Image.open(Path(get_data_path()) / "sample_data" / "grace_hopper.jpg").convert("L")
    picture: Any = {
        "noise": noise,
        "photograph": photograph.resize((300, 350)),
        "large": np.tile(noise, (8, 8)),
        "sixteen bit": noise.astype(np.uint16) * 257,
    }[kind]
    path = saved(tmp_path / "a.png", picture)
    for shows in (None, Organ.BRAIN_MR):
        judges = Judges(detectors_for(["edit-unet"], device="cpu"), image_model_for("auto", device="cpu"), shows)
        plain = judged(path, judges)
        assert plain.analysis.verdict in (Verdict.ABSTAIN, Verdict.REVIEW)
        assert plain.analysis.reasons


def test_the_thresholds_of_one_slice_decide_about_one_picture(tmp_path: Path, grey: Grey, known_cube: Any) -> None:
    path = saved(tmp_path / "a.png", grey)
    for slice_, verdict in ((0.9, Verdict.ABSTAIN), (0.8, Verdict.REVIEW)):
        detector = known_cube(BOX, logit=1.8, thresholds=Thresholds(slice=slice_, review=0.1, suspect=0.2))
        plain = judged(path, Judges([detector], None, Organ.BRAIN_MR))
        assert plain.analysis.verdict is verdict
        assert bool(plain.analysis.findings) == (verdict is Verdict.REVIEW)


def test_the_answer_is_json_without_paths_of_this_machine(tmp_path: Path, grey: Grey, known_cube: Any) -> None:
    folder = tmp_path / "somebody"
    folder.mkdir()
    plain = judged(saved(folder / "a.png", grey), Judges([known_cube(BOX)], None, Organ.BRAIN_MR))
    record = plain.to_json()
    assert record["file"] == "a.png"
    assert record["study_uid"] == ""
    assert record["slices"][0] == {"sop_instance_uid": "", "index": 0, "score": record["score"], "file": "a.png"}
    assert str(tmp_path) not in repr(record)


def test_a_place_is_named_only_where_the_weight_has_one() -> None:
    from inference.saliency import rests_on

    weights = np.zeros((100, 100), np.float32)
    assert rests_on(weights).startswith("no place in it")
    weights[20:30, 40:60] = 1
    assert "within rows 20-30 and columns 40-60" in rests_on(weights)
    weights[[0, 99], [0, 99]] = 1
    assert rests_on(weights).startswith("places all over the image")
    assert rests_on(np.ones((100, 100), np.float32)).startswith("the image as a whole")


def test_a_window_that_cuts_off_the_brightest_values_leaves_no_sure_word(
    nifti: Any, brain: Any, known_cube: Any
) -> None:
    brains = KnownImages(always(Organ.BRAIN_MR))
    path = nifti(np.minimum(brain, np.percentile(brain, 98)).astype(np.int16).transpose(2, 1, 0))
    quiet = judged(path, Judges([known_cube()], brains)).analysis
    assert quiet.verdict is Verdict.ABSTAIN
    assert any("brightest values are cut off" in reason for reason in quiet.reasons)
    assert judged(path, Judges([known_cube(SERIES_BOX)], brains)).analysis.verdict is Verdict.REVIEW
