"""A wholly synthetic series: genuine headers and grey values, no genuine slice."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch

from models.errors import UnusableVolume
from models.tampering.generators.base import Generator
from models.tampering.generators.kinds import kind_of
from models.tampering.generators.material import specified
from models.tampering.generators.study import synthesise_study
from models.tampering.phantom import make_phantom_study
from tests.models.generators.tiny import TINY


def untrained(kind: str) -> Generator:
    torch.manual_seed(3)
    return kind_of(kind).build(**TINY[kind]).eval()


@pytest.mark.parametrize("kind", ["vae", "diffusion", "vq"])
def test_every_slice_is_generated_under_genuine_headers(kind: str, tmp_path: Path) -> None:
    genuine = make_phantom_study(tmp_path / "genuine", np.random.default_rng(2), slices=3, matrix=64)
    made = synthesise_study(tmp_path / "made", untrained(kind), 1, template=tmp_path / "genuine")
    assert len(made.paths) == 3
    for before, after in zip(map(pydicom.dcmread, genuine), map(pydicom.dcmread, made.paths), strict=True):
        assert (after.pixel_array != before.pixel_array).mean() > 0.5
        np.testing.assert_array_equal(np.sort(after.pixel_array, axis=None), np.sort(before.pixel_array, axis=None))
        assert after.BitsStored == before.BitsStored
        assert after.ImagePositionPatient == before.ImagePositionPatient
        assert after.StudyInstanceUID == made.study_uid != before.StudyInstanceUID
        assert after.SOPInstanceUID == after.file_meta.MediaStorageSOPInstanceUID != before.SOPInstanceUID


def test_without_a_template_the_phantom_lends_its_headers(tmp_path: Path) -> None:
    made = synthesise_study(tmp_path / "made", untrained("vae"), 1, slices=2)
    datasets = [pydicom.dcmread(path) for path in made.paths]
    assert [dataset.Modality for dataset in datasets] == ["MR", "MR"]
    assert {dataset.SeriesInstanceUID for dataset in datasets} == {made.series_uid}


def test_the_wanted_number_comes_from_the_middle(tmp_path: Path) -> None:
    make_phantom_study(tmp_path / "genuine", np.random.default_rng(2), slices=5, matrix=64)
    made = synthesise_study(tmp_path / "made", untrained("vae"), 1, template=tmp_path / "genuine", slices=3)
    assert [pydicom.dcmread(path).InstanceNumber for path in made.paths] == [2, 3, 4]


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UnusableVolume):
        synthesise_study(tmp_path / "made", untrained("vae"), 1, template=tmp_path / "empty")


def test_specified_values_keep_the_order_of_brightness() -> None:
    made = np.array([[0.2, -1.0], [0.9, 0.1]], np.float32)
    genuine = np.array([[7, 7], [40, 900]], np.uint16)
    np.testing.assert_array_equal(specified(made, genuine), np.array([[40, 7], [900, 7]], np.uint16))
