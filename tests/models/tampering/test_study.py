import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from highdicom.legacy import LegacyConvertedEnhancedMRImage
from numpy.typing import NDArray
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

from models.errors import NoPlaceToEdit, UnusableStudy
from models.tampering import marking
from models.tampering.compose import Place
from models.tampering.families import EditType
from models.tampering.phantom import make_phantom_study
from models.tampering.study import TamperedStudy, tamper_study
from models.tampering.truth import write_truth


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("series")
    make_phantom_study(folder, np.random.default_rng(4), slices=6, matrix=96)
    return folder


def edit(source: Path, output: Path, family: str = "painted", **more: Any) -> TamperedStudy:
    return tamper_study(source, output, family, np.random.default_rng(1), touched_up=False, **more)


def rewritten(source: Path, output: Path, change: Callable[[pydicom.FileDataset], None]) -> Path:
    output.mkdir()
    for path in source.glob("*.dcm"):
        dataset = pydicom.dcmread(path)
        change(dataset)
        dataset.save_as(output / path.name)
    return output


def differing_bytes(one: Path, other: Path) -> NDArray[np.int64]:
    first, second = (np.frombuffer(path.read_bytes(), np.uint8) for path in (one, other))
    assert len(first) == len(second)
    return np.flatnonzero(first != second)


def test_nothing_but_bytes_of_pixels_differs_and_other_files_are_the_same_to_the_byte(
    series: Path, tmp_path: Path
) -> None:
    done = edit(series, tmp_path / "out", place=Place((2, 48, 48), 9.0))
    edited = {path.name for path in done.edited}
    assert 0 < len(edited) < 6
    for path in series.glob("*.dcm"):
        different = differing_bytes(path, tmp_path / "out" / path.name)
        assert (len(different) > 0) is (path.name in edited)
        if len(different):
            pixels = pydicom.dcmread(path)["PixelData"]
            start = pixels.file_tell
            assert start is not None
            assert different.min() >= start
            assert different.max() < start + len(pixels.value)


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless, JPEGLSLossless, JPEG2000Lossless]
)
def test_an_edit_keeps_the_transfer_syntax(series: Path, tmp_path: Path, syntax: pydicom.uid.UID) -> None:
    def convert(dataset: pydicom.FileDataset) -> None:
        if syntax.is_compressed:
            dataset.compress(syntax, generate_instance_uid=False)
            return
        if syntax == ExplicitVRBigEndian:
            dataset.PixelData = dataset.pixel_array.astype(">u2").tobytes()
        dataset.file_meta.TransferSyntaxUID = syntax

    def save(dataset: pydicom.FileDataset, path: Path) -> None:
        if syntax.is_compressed:
            dataset.save_as(path)
        else:
            plain = pydicom.Dataset(dataset)
            plain.file_meta = dataset.file_meta
            plain.save_as(
                path,
                implicit_vr=syntax.is_implicit_VR,
                little_endian=syntax.is_little_endian,
                enforce_file_format=True,
            )

    source = tmp_path / "in"
    source.mkdir()
    for path in series.glob("*.dcm"):
        dataset = pydicom.dcmread(path)
        convert(dataset)
        save(dataset, source / path.name)
    done = edit(source, tmp_path / "out")
    assert done.notes == ()
    for path in source.glob("*.dcm"):
        before, after = pydicom.dcmread(path), pydicom.dcmread(tmp_path / "out" / path.name)
        assert before.file_meta == after.file_meta
        mask = done.masks.get(str(before.SOPInstanceUID), np.zeros((96, 96), dtype=np.bool_))
        np.testing.assert_array_equal(before.pixel_array[~mask], after.pixel_array[~mask])
        assert {each.keyword for each in before if after[each.tag] != each} <= {"PixelData"}


def test_signed_pixels_in_files_without_an_ending_stay_signed(signed: Path, tmp_path: Path) -> None:
    done = edit(signed, tmp_path / "out")
    for path in done.edited:
        before, after = (pydicom.dcmread(each) for each in (signed / path.relative_to(tmp_path / "out"), path))
        mask = done.masks[str(after.SOPInstanceUID)]
        np.testing.assert_array_equal(before.pixel_array[~mask], after.pixel_array[~mask])
        cells = np.frombuffer(after.PixelData, "<i2")
        np.testing.assert_array_equal(cells, after.pixel_array.ravel())  # the sign reaches to the highest bit


def test_bits_above_the_highest_stored_one_are_not_touched(series: Path, tmp_path: Path) -> None:
    def burn(dataset: pydicom.FileDataset) -> None:
        dataset.PixelData = (dataset.pixel_array | 0xA000).astype("<u2").tobytes()

    source = rewritten(series, tmp_path / "in", burn)
    done = edit(source, tmp_path / "out")
    for path in done.edited:
        cells = np.frombuffer(pydicom.dcmread(path).PixelData, "<u2")
        assert ((cells & 0xF000) == 0xA000).all()
        before = np.frombuffer(pydicom.dcmread(source / path.name).PixelData, "<u2")
        assert (cells != before).any()


def test_an_inverted_image_gets_a_bright_lesion_too(series: Path, tmp_path: Path) -> None:
    def invert(dataset: pydicom.FileDataset) -> None:
        dataset.PhotometricInterpretation = "MONOCHROME1"
        dataset.PixelData = (1000 - dataset.pixel_array.astype(int)).astype("<u2").tobytes()

    source = rewritten(series, tmp_path / "in", invert)
    kind = "ring"
    plain, inverted = edit(series, tmp_path / "plain", kind), edit(source, tmp_path / "out", kind)
    assert len(plain.frames) == len(inverted.frames)
    for one, other in zip(plain.edited, inverted.edited, strict=True):
        first, second = (pydicom.dcmread(path).pixel_array.astype(int) for path in (one, other))
        assert np.abs(first - (1000 - second)).max() <= 2


def test_a_multi_frame_image_is_edited_in_its_frames(series: Path, tmp_path: Path) -> None:
    whole = tmp_path / "in"
    whole.mkdir()
    slices = [pydicom.dcmread(path) for path in sorted(series.glob("*.dcm"))]
    made = LegacyConvertedEnhancedMRImage(
        slices, generate_uid(prefix=None), 7, generate_uid(prefix=None), 1, transfer_syntax_uid=ExplicitVRLittleEndian
    )
    made.save_as(whole / "enhanced.dcm")
    done = edit(whole, tmp_path / "out")
    before, after = (pydicom.dcmread(folder / "enhanced.dcm").pixel_array for folder in (whole, tmp_path / "out"))
    mask = done.masks[str(made.SOPInstanceUID)]
    assert mask.shape == before.shape == (6, 96, 96)
    np.testing.assert_array_equal(before[~mask], after[~mask])
    assert sorted(frame.frame for frame in done.frames) == np.flatnonzero((before != after).any(axis=(1, 2))).tolist()


def test_one_slice_is_enough_for_some_families_and_not_for_others(series: Path, tmp_path: Path) -> None:
    alone = series / "0003.dcm"
    assert edit(alone, tmp_path / "out").frames[0].index == 0
    with pytest.raises(NoPlaceToEdit, match="cuboid, and the longest stack has 1 slices"):
        edit(alone, tmp_path / "other", "ctgan", edit_type=EditType.ADDED)


def test_what_cannot_be_edited_is_refused_with_the_reason(series: Path, tmp_path: Path) -> None:
    def colour(dataset: pydicom.FileDataset) -> None:
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "RGB", 0
        dataset.BitsAllocated = dataset.BitsStored = 8
        dataset.HighBit = 7
        dataset.PixelData = bytes(96 * 96 * 3)

    def air(dataset: pydicom.FileDataset) -> None:
        dataset.PixelData = bytes(96 * 96 * 2)

    def no_image(dataset: pydicom.FileDataset) -> None:
        del dataset.PixelData

    made = {
        change.__name__: rewritten(series, tmp_path / change.__name__, change) for change in (colour, air, no_image)
    }
    with pytest.raises(UnusableStudy, match=r"no grey image to edit: 6 × colour \(RGB\)"):
        edit(made["colour"], tmp_path / "out")
    with pytest.raises(UnusableStudy, match="6 × no image"):
        edit(made["no_image"], tmp_path / "out")
    with pytest.raises(NoPlaceToEdit, match="no tissue"):
        edit(made["air"], tmp_path / "out")
    make_phantom_study(made["air"] / "another", np.random.default_rng(9), slices=2, matrix=96)
    with pytest.raises(UnusableStudy, match="holds 2 studies"):
        edit(made["air"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_place_outside_the_series_or_the_tissue_is_refused(series: Path, tmp_path: Path) -> None:
    with pytest.raises(NoPlaceToEdit, match=r"slice 9 is outside the series, which has 6"):
        edit(series, tmp_path / "out", place=Place((9, 40, 40)))
    with pytest.raises(NoPlaceToEdit, match="less than half of the region around row, column, slice 2, 2, 3"):
        edit(series, tmp_path / "out", place=Place((3, 2, 2)))


def test_a_lossy_source_is_named(series: Path, tmp_path: Path) -> None:
    def lossy(dataset: pydicom.FileDataset) -> None:
        dataset.LossyImageCompression = "01"

    done = edit(rewritten(series, tmp_path / "in", lossy), tmp_path / "out")
    assert "compressed lossily before" in done.notes[0]


def test_a_marked_study_says_so_in_every_file_and_nowhere_else_does_it_differ(series: Path, tmp_path: Path) -> None:
    done = edit(series, tmp_path / "out", mark=True)
    assert "tampered by Scanwarden for an exercise" in (tmp_path / "out" / marking.NOTICE).read_text()
    for path in series.glob("*.dcm"):
        before, after = pydicom.dcmread(path), pydicom.dcmread(tmp_path / "out" / path.name)
        assert not marking.is_marked(before)
        assert marking.is_marked(after)
        differing = {each.keyword for each in before if after[each.tag] != each}
        assert differing == ({"PixelData"} if path.name in {each.name for each in done.edited} else set())
        assert [each.tag.group for each in after if each.tag not in before] == [0x0099, 0x0099]


def test_the_truth_says_which_pixels_were_edited(series: Path, tmp_path: Path) -> None:
    done = edit(series, tmp_path / "out", new_uids=True)
    masks = write_truth(tmp_path / "truth.json", done, 1)
    truth = json.loads((tmp_path / "truth.json").read_text())
    assert truth["masks"] == masks.name == "truth.npz"
    assert (truth["family"], truth["edit_type"], truth["seed"]) == ("painted", "added", 1)
    files = {path.name: pydicom.dcmread(path) for path in (tmp_path / "out").glob("*.dcm")}
    with np.load(masks) as held:
        assert held["mask"].shape == (6, 96, 96)
        for place, instance in enumerate(truth["instances"]):
            dataset = files[instance["file"]]
            assert instance["sop_instance_uid"] == dataset.SOPInstanceUID == held["sop_instance_uids"][place]
            changed = dataset.pixel_array != pydicom.dcmread(series / instance["file"]).pixel_array
            row0, column0, row1, column1 = instance["box"]
            assert changed.sum() == changed[row0:row1, column0:column1].sum() == instance["pixels"]
            assert not changed[~held["mask"][held["slices"][place]]].any()
    assert truth["slices"] == [min(each["slice"] for each in truth["instances"]), truth["instances"][-1]["slice"]]
