from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.errors import NoPlaceToEdit, UnknownFamily, UnusableStudy
from models.tampering import benign, donors
from models.tampering.compose import tamper_volume
from models.tampering.families import FAMILIES, HELD_OUT, TRAINED, EditType, family
from models.tampering.material import Material
from models.tampering.phantom import phantom_volume
from models.tampering.study import tamper_study


@pytest.mark.parametrize("name", FAMILIES)
@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_every_family_leaves_the_pixels_outside_its_mask_alone(name: str, seed: int) -> None:
    volume = phantom_volume(np.random.default_rng(3), slices=5, matrix=96)
    tampered = tamper_volume(volume, name, np.random.default_rng(seed))
    assert tampered.volume.dtype == volume.dtype
    np.testing.assert_array_equal(tampered.volume[~tampered.mask], volume[~tampered.mask])
    assert volume.min() <= tampered.volume.min()
    assert tampered.volume.max() <= volume.max()
    assert (tampered.volume != volume)[tampered.mask].mean() > 0.1


@pytest.mark.parametrize("name", FAMILIES)
def test_the_same_seed_gives_the_same_edit(name: str, head: NDArray[np.uint16]) -> None:
    first, second = (tamper_volume(head, name, np.random.default_rng(9)) for _ in range(2))
    np.testing.assert_array_equal(first.volume, second.volume)
    other = tamper_volume(head, name, np.random.default_rng(10))
    assert not np.array_equal(first.volume, other.volume)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32])
def test_edits_are_stored_in_the_integers_of_the_series(dtype: type, head: NDArray[np.uint16]) -> None:
    volume: NDArray[Any] = (head // 4).clip(0, 255).astype(dtype)
    if dtype is np.int16:
        volume -= 100
    tampered = tamper_volume(volume, "telea", np.random.default_rng(1))
    assert tampered.volume.dtype == dtype
    np.testing.assert_array_equal(tampered.volume[~tampered.mask], volume[~tampered.mask])


def test_a_single_slice_can_be_edited(head: NDArray[np.uint16]) -> None:
    for name in FAMILIES:
        assert tamper_volume(head[3:4], name, np.random.default_rng(2)).mask.any()


def test_a_real_lesion_of_another_patient_is_cloned(head: NDArray[np.uint16]) -> None:
    found = donors.of_volume(head)
    assert found
    tampered = tamper_volume(head, "poisson_clone", np.random.default_rng(5), donors=found)
    assert tampered.edit_type is EditType.ADDED
    np.testing.assert_array_equal(tampered.volume[~tampered.mask], head[~tampered.mask])


def test_air_alone_offers_no_place_to_edit() -> None:
    with pytest.raises(NoPlaceToEdit):
        tamper_volume(np.zeros((3, 64, 64), dtype=np.uint16), "telea", np.random.default_rng(0))


def test_an_unknown_family_is_named_with_those_that_there_are() -> None:
    with pytest.raises(UnknownFamily, match="navier_stokes"):
        family("fourier")


def test_families_are_either_trained_or_held_out() -> None:
    assert set(TRAINED).isdisjoint(HELD_OUT)
    assert len(TRAINED) >= 6
    assert {FAMILIES[name].edit_type for name in TRAINED} == set(EditType)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_the_benign_pipeline_makes_the_same_choices_for_both_twins(seed: int) -> None:
    slab = phantom_volume(np.random.default_rng(3), slices=3, matrix=64).astype(np.float32)
    journey = benign.draw(Material.of(slab), np.random.default_rng(seed), untouched=0.1)
    once, again = journey(slab), journey(slab.copy())
    np.testing.assert_array_equal(once, again)
    np.testing.assert_array_equal(once, np.rint(once))
    assert journey.mask(slab > 100).shape == once.shape


@pytest.mark.parametrize("new_uids", [False, True])
def test_tampering_a_study_changes_only_pixels_and_the_wanted_uids(study: Path, tmp_path: Path, new_uids: bool) -> None:
    done = tamper_study(study, tmp_path, "painted", np.random.default_rng(1), new_uids=new_uids)
    allowed = {"PixelData"} | (
        {"StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID"} if new_uids else set()
    )
    changed = set()
    for path in sorted(study.glob("*.dcm")):
        before, after = pydicom.dcmread(path), pydicom.dcmread(tmp_path / path.name)
        differing = {element.keyword for element in before if after.get(element.tag) != element}
        assert differing <= allowed
        assert before.keys() == after.keys()
        assert after.file_meta.MediaStorageSOPInstanceUID == after.SOPInstanceUID
        mask = done.masks.get(str(after.SOPInstanceUID), np.zeros(before.pixel_array.shape, dtype=np.bool_))
        np.testing.assert_array_equal(before.pixel_array[~mask], after.pixel_array[~mask])
        if "PixelData" in differing:
            changed.add(tmp_path / path.name)
        assert (before.StudyInstanceUID == after.StudyInstanceUID) is not new_uids
    assert changed == set(done.edited)
    assert changed


def test_new_uids_are_one_study_and_one_series(study: Path, tmp_path: Path) -> None:
    done = tamper_study(study, tmp_path, "telea", np.random.default_rng(1), new_uids=True)
    headers = [pydicom.dcmread(path, stop_before_pixels=True) for path in tmp_path.glob("*.dcm")]
    assert {str(header.StudyInstanceUID) for header in headers} == {done.study_uid}
    assert {str(header.SeriesInstanceUID) for header in headers} == {done.series_uid}
    assert len({header.SOPInstanceUID for header in headers}) == len(headers) == 6
    assert len({header.FrameOfReferenceUID for header in headers}) == 1


def test_a_losslessly_compressed_study_keeps_its_syntax(study: Path, tmp_path: Path) -> None:
    compressed, output = tmp_path / "in", tmp_path / "out"
    compressed.mkdir()
    for path in study.glob("*.dcm"):
        dataset = pydicom.dcmread(path)
        dataset.compress(pydicom.uid.RLELossless)
        dataset.save_as(compressed / path.name)
    done = tamper_study(compressed, output, "telea", np.random.default_rng(1))
    for path in output.glob("*.dcm"):
        dataset = pydicom.dcmread(path)
        assert dataset.file_meta.TransferSyntaxUID == pydicom.uid.RLELossless
        genuine = pydicom.dcmread(compressed / path.name).pixel_array
        assert np.array_equal(dataset.pixel_array, genuine) is (path not in done.edited)


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnusableStudy, match="no DICOM file"):
        tamper_study(tmp_path, tmp_path / "out", "telea", np.random.default_rng(0))
