"""Pictures and NIfTI volumes by themselves: what is read, what is refused and why, and how sure a verdict may be."""

import gzip
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from matplotlib import get_data_path
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from inference.errors import InferenceError, TooLarge, UnreadablePicture
from inference.findings import FindingClass, Verdict
from inference.limits import Limits
from inference.pictures import Kind, Pixels, read_pixels, sort_files, subjects_of
from inference.pictures.judging import Judges, PlainAnalysis, judge
from inference.pictures.kinds import kind_of
from inference.pictures.written import write
from models.card import Thresholds
from models.images.organs import Organ
from tests.image_models import KnownImages, always

MAX = 4096 * 4096
BOX = ((0, 1), (10, 30), (20, 50))
SERIES_BOX = ((2, 5), (10, 30), (20, 50))
Grey = NDArray[np.uint8]


@pytest.fixture
def grey() -> Grey:
    """(64, 80) no two rows or columns alike."""
    rows, columns = np.meshgrid(np.arange(64), np.arange(80), indexing="ij")
    return (rows * 2 + columns).astype(np.uint8)


@pytest.fixture
def nifti(tmp_path: Path) -> Callable[..., Path]:
    """Writes a volume (x, y, z); `header` changes fields of the raw NIfTI-1 header by their offset."""

    def make(
        voxels: NDArray[Any], name: str = "volume.nii.gz", affine: Any = None, **header: tuple[int, bytes]
    ) -> Path:
        image: Any = nibabel.Nifti1Image
        made = image(voxels, np.diag([0.8, 0.9, 4.0, 1.0]) if affine is None else affine)
        raw = bytearray(made.to_bytes())
        for place, content in header.values():
            raw[place : place + len(content)] = content
        path = tmp_path / name
        path.write_bytes(gzip.compress(bytes(raw)) if name.endswith(".gz") else bytes(raw))
        return path

    return make


def saved(path: Path, pixels: NDArray[Any] | Image.Image, **options: Any) -> Path:
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(path, **options)
    return path


def read(path: Path, limit: int = MAX) -> Pixels:
    return read_pixels(path, kind_of(path), limit)


def judged(path: Path, judges: Judges, *, volumes: bool = False) -> PlainAnalysis:
    found = sort_files([path] if path.is_file() else sorted(path.rglob("*.*")))
    (subject,) = subjects_of(found.plain, path, volumes=volumes)
    return judge(subject, judges, Limits(8, MAX, time.monotonic() + 60, None), read_pixels)


@pytest.mark.parametrize("suffix", ["png", "webp", "bmp", "tif"])
def test_a_lossless_picture_is_read_to_the_pixel_whatever_its_coding(tmp_path: Path, grey: Grey, suffix: str) -> None:
    path = saved(tmp_path / f"a.{suffix}", grey, **({"lossless": True} if suffix == "webp" else {}))
    pixels = read(path)
    assert np.array_equal(pixels.voxels[0], grey)
    assert (pixels.doubts, pixels.gaps, pixels.is_shown) == ((), (), True)


def test_depth_palette_alpha_and_equal_channels_are_one_grey_picture(tmp_path: Path, grey: Grey) -> None:
    deep = read(saved(tmp_path / "deep.png", grey.astype(np.uint16) * 200))
    assert np.array_equal(deep.voxels[0], grey.astype(np.float32) * 200)
    assert not deep.is_shown
    assert np.array_equal(read(saved(tmp_path / "rgb.png", np.dstack([grey] * 3))).voxels[0], grey)
    assert np.array_equal(read(saved(tmp_path / "p.png", Image.fromarray(grey).convert("P"))).voxels[0], grey)
    alpha = read(saved(tmp_path / "a.png", np.dstack([grey, grey, grey, np.full_like(grey, 9)])))
    assert np.array_equal(alpha.voxels[0], grey)
    assert alpha.notes == ("its transparency was ignored",)


def test_a_jpeg_is_read_as_its_luminance_and_is_less_evidence(tmp_path: Path, grey: Grey) -> None:
    one = read(saved(tmp_path / "l.jpg", grey, quality=90))
    three = read(saved(tmp_path / "rgb.jpg", np.dstack([grey] * 3), quality=90))
    assert np.array_equal(one.voxels, three.voxels)
    assert one.doubts == ("lossy JPEG compression",)


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def test_a_picture_of_too_many_pixels_is_refused_by_its_header(tmp_path: Path) -> None:
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    path = tmp_path / "bomb.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(b"\0" * 9999)))
    with pytest.raises(TooLarge, match="more pixels"):
        read(path)
    with pytest.raises(TooLarge, match=r"64×80 is more than 5,000"):
        read(saved(tmp_path / "small.png", np.zeros((64, 80), np.uint8)), 5_000)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_a_cut_picture_is_named_as_damaged(tmp_path: Path, grey: Grey, suffix: str) -> None:
    path = saved(tmp_path / f"a.{suffix}", np.tile(grey, (4, 4)))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UnreadablePicture, match="copy or export it again"):
        read(path)


def test_several_pictures_in_one_file_are_not_judged_by_the_first(tmp_path: Path, grey: Grey) -> None:
    first, second = Image.fromarray(grey), Image.fromarray(grey[::-1])
    for name in ("pages.tif", "moving.png", "moving.webp"):
        with pytest.raises(UnreadablePicture, match="holds 2 pictures"):
            read(saved(tmp_path / name, first, save_all=True, append_images=[second]))


def test_colour_is_refused_and_a_name_alone_makes_no_picture(tmp_path: Path) -> None:
    with pytest.raises(UnreadablePicture, match="a colour picture"):
        read(Path(get_data_path()) / "sample_data" / "grace_hopper.jpg")
    for name, content, reason in (("a.png", b"hello", "not what its name says"), ("b.nii", b"", "the file is empty")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UnreadablePicture, match=reason):
            read(tmp_path / name)


def test_content_sorts_files_and_not_their_names(
    tmp_path: Path, grey: Grey, write_series: Any, brain: Any, nifti: Any
) -> None:
    (instance,) = write_series(brain[:1])
    dicom = instance.rename(tmp_path / "instance.png")
    picture = saved(tmp_path / "picture", grey, format="png")
    (tmp_path / "note.txt").write_text("a note")
    volume = nifti(np.zeros((4, 4, 4), np.int16)).rename(tmp_path / "volume")
    found = sort_files([dicom, picture, tmp_path / "note.txt", volume])
    assert found.dicom == [dicom]
    assert found.plain == [(picture, Kind.PNG), (volume, Kind.NIFTI)]
    assert found.strangers == [tmp_path / "note.txt"]


def test_a_volume_is_cut_where_the_scanner_cut_it_and_a_mask_finds_back(nifti: Any) -> None:
    x, y, z = np.meshgrid(np.arange(6), np.arange(7), np.arange(5), indexing="ij")
    stored = (x + 10 * y + 100 * z).astype(np.int16)
    pixels = read(nifti(stored))  # RAS: anterior and the patient's right are the high ends
    assert pixels.spacing == pytest.approx((4.0, 0.9, 0.8))
    assert pixels.voxels.shape == (5, 7, 6)
    assert pixels.voxels[1, 0, 0] == 100 + 10 * 6 + 5  # foot to head, anterior up, the patient's right on the left
    assert pixels.placement is not None
    assert np.array_equal(pixels.placement.back(pixels.voxels), stored)
    sagittal = read(nifti(stored, affine=np.diag([4.0, 0.9, 0.8, 1.0])))
    assert sagittal.voxels.shape == (6, 5, 7)
    assert sagittal.voxels[0, 0, 0] == 5 + 10 * 6 + 100 * 4
    assert sagittal.placement is not None
    assert np.array_equal(sagittal.placement.back(sagittal.voxels), stored)


def test_scale_holes_and_further_volumes_of_a_nifti_are_told(nifti: Any) -> None:
    stored = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)
    scaled = read(nifti(stored, slope=(112, struct.pack("<2f", 2.0, -7.0))))
    assert np.array_equal(np.sort(scaled.voxels, axis=None), np.arange(120) * 2.0 - 7)
    holes = stored.astype(np.float32)
    holes[0, 0, :] = np.nan
    found = read(nifti(holes))
    assert np.isfinite(found.voxels).all()
    assert found.doubts == ("5.0% of its voxels are no numbers",)
    series = read(nifti(np.stack([stored] * 3, axis=-1), "four.nii"))
    assert series.voxels.size == 120
    assert series.gaps == ("2 more volumes of a 4D file; only the first was read",)


@pytest.mark.parametrize(
    ("place", "content", "reason"),
    [
        (40, struct.pack("<8h", 3, -4, 5, 6, 1, 1, 1, 1), "gives the dimensions"),
        (40, struct.pack("<8h", 77, 4, 5, 6, 1, 1, 1, 1), "gives the dimensions"),
        (40, struct.pack("<8h", 3, 32767, 32767, 32767, 1, 1, 1, 1), "more than 16,777,216 voxels"),
        (40, struct.pack("<8h", 3, 4, 5, 60, 1, 1, 1, 1), "ends before its last voxel"),
        (70, struct.pack("<h", 128), "data type 128"),
        (108, struct.pack("<f", 1e30), "puts the voxels at byte 1e"),
        (108, struct.pack("<f", float("nan")), "puts the voxels at byte nan"),
        (344, b"ni1\0", "pair"),
    ],
)
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_a_nifti_header_that_makes_no_sense_is_refused(
    nifti: Any, name: str, place: int, content: bytes, reason: str
) -> None:
    path = nifti(np.zeros((4, 5, 6), np.int16), name, changed=(place, content))
    with pytest.raises(InferenceError, match=reason):
        read(path)


def test_as_much_is_inflated_as_the_header_promises_and_no_more(
    nifti: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = nifti(np.arange(120, dtype=np.int16).reshape(4, 5, 6))
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()) + bytes(64 << 20)))
    inflated = 0
    whole = gzip.GzipFile.read

    def counting(self: Any, size: int | None = -1) -> bytes:
        nonlocal inflated
        content = whole(self, size)
        inflated += len(content)
        return content

    monkeypatch.setattr(gzip.GzipFile, "read", counting)
    assert read(path).voxels.size == 120
    assert inflated < 1 << 20


def test_senseless_spacing_and_orientation_are_unknown_and_not_invented(nifti: Any) -> None:
    nowhere = (252, struct.pack("<2h", 0, 0))
    path = nifti(np.zeros((4, 5, 6), np.int16), a=nowhere, b=(76, struct.pack("<4f", 1, -1, 0, float("nan"))))
    pixels = read(path)
    assert pixels.spacing is None
    assert pixels.notes == ("its header does not say how it lies in the patient", "its header gives no usable spacing")


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


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path, known_cube: Any) -> None:
    path = tmp_path / "a.png"
    path.symlink_to(tmp_path / "gone.png")
    assert kind_of(path) is Kind.PRETENDER
    with pytest.raises(UnreadablePicture, match="cannot be read"):
        read(path)


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
