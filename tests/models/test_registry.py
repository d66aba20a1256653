import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models import inputs, networks, registry
from models.card import Calibration, ModelCard
from models.errors import UnknownModel, UnusableVolume, WeightsMismatch


def test_one_changed_byte_of_the_weights_is_refused(published: Path, tmp_path: Path) -> None:
    shutil.copytree(published, tmp_path, dirs_exist_ok=True)
    weights = tmp_path / "weights" / "untrained.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(WeightsMismatch, match="SHA-256"):
        registry.load("untrained", folder=tmp_path)


def test_weights_of_another_network_are_refused(published: Path, tmp_path: Path) -> None:
    card = registry.available(published)[0]
    other = networks.build("edit_unet", channels=len(inputs.CHANNELS), width=8)
    registry.publish(other, card, tmp_path)
    with pytest.raises(WeightsMismatch, match="do not fit"):
        registry.load("untrained", folder=tmp_path)


def test_an_unknown_model_is_named_with_those_that_there_are(published: Path) -> None:
    with pytest.raises(UnknownModel, match="untrained"):
        registry.load("mask-rcnn", folder=published)
    with pytest.raises(UnknownModel, match="edit_unet"):
        networks.build("mask-rcnn")


def test_every_shipped_card_has_the_weights_that_it_was_measured_with() -> None:
    for card in registry.available():
        assert registry.load(card.name).card == card


@pytest.mark.parametrize("matrix", [(128, 128), (65, 90), (100, 64)])
def test_predictions_lie_on_the_grid_of_the_volume(published: Path, matrix: tuple[int, int]) -> None:
    model = registry.load("untrained", folder=published)
    said = model.predict(np.random.default_rng(0).gamma(2, 50, (3, *matrix)).astype(np.float32), None, batch=2)
    assert said.edit.shape == (3, *matrix)
    assert said.edit_type.shape == (3, 3, *matrix)
    assert said.image_logit.shape == (3,)
    assert said.edit.min() >= 0
    assert said.edit.max() <= 1
    np.testing.assert_allclose(said.edit_type.sum(axis=1), 1, atol=1e-5)


def test_a_slice_is_judged_the_same_in_any_batch(published: Path, head: NDArray[np.uint16]) -> None:
    model = registry.load("untrained", folder=published)
    volume = head.astype(np.float32)
    together, apart = model.predict(volume, batch=7), model.predict(volume, batch=1)
    np.testing.assert_allclose(together.edit, apart.edit, atol=1e-4)
    some = model.predict(volume, only=[2, 5])
    np.testing.assert_allclose(some.image_logit, together.image_logit[[2, 5]], atol=1e-4)


def test_nan_constant_and_single_slices_get_finite_predictions(published: Path) -> None:
    model = registry.load("untrained", folder=published)
    for volume in (np.full((2, 64, 64), np.nan), np.zeros((1, 64, 64)), np.full((64, 64), 5.0)):
        said = model.predict(volume.astype(np.float32))
        assert np.isfinite(said.edit).all()
        assert np.isfinite(said.image_logit).all()


def test_a_matrix_that_the_card_does_not_cover_is_refused(published: Path) -> None:
    model = registry.load("untrained", folder=published)
    with pytest.raises(UnusableVolume, match="outside 64 to 1024"):
        model.predict(np.zeros((1, 63, 200), dtype=np.float32))


def test_the_strongest_run_of_slices_stands_for_the_series(published: Path) -> None:
    card = registry.available(published)[0]
    assert card.study_logit(np.array([0, 0, 9, 0, 0, 0], dtype=np.float32)) == pytest.approx(3)
    assert card.study_logit(np.array([0, 4, 4, 4, 0], dtype=np.float32)) == pytest.approx(4)
    assert card.study_logit(np.array([2.0], dtype=np.float32)) == pytest.approx(2)
    assert card.study_probability(np.array([], dtype=np.float32)) == 0.0


def test_a_source_outside_the_measured_domain_is_told_in_words(published: Path) -> None:
    card = registry.available(published)[0].model_copy(
        update={"domain": {"relative_noise": (0.01, 0.05), "pixel_mm": (0.4, 1)}}
    )
    assert card.outside_domain({"relative_noise": 0.02, "pixel_mm": 0.0}) == []
    assert "pixel size is 2 mm; " in card.outside_domain({"relative_noise": 0.02, "pixel_mm": 2.0})[0]
    assert "relative noise is 0.2" in card.outside_domain({"relative_noise": 0.2, "pixel_mm": 0.5})[0]


def test_a_card_survives_its_file(published: Path, tmp_path: Path) -> None:
    card = registry.available(published)[0].model_copy(update={"calibration": Calibration(run=2)})
    card.write(tmp_path / "card.json")
    assert ModelCard.read(tmp_path / "card.json") == card
