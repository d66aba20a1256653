import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models import networks, registry
from models.errors import UnknownModel, WeightsMismatch
from models.images import inputs
from models.images.organs import KNOWN, Organ
from models.images.prediction import ImageModel
from models.images.registry import load_image_model


def texture(rows: int = 150, columns: int = 200, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 255, (rows, columns)).astype(np.uint8)


def test_one_changed_byte_of_the_weights_is_refused(published: Path, tmp_path: Path) -> None:
    shutil.copytree(published, tmp_path, dirs_exist_ok=True)
    weights = tmp_path / "weights" / "untrained.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(WeightsMismatch, match="SHA-256"):
        load_image_model("untrained", folder=tmp_path)
    with pytest.raises(WeightsMismatch, match="SHA-256"):
        registry.verify("untrained", folder=tmp_path)


def test_weights_of_another_network_are_refused(published: Path, tmp_path: Path) -> None:
    (card,) = registry.available_image_models(published)
    registry.publish(networks.build("organ_attention", channels=len(inputs.CHANNELS), width=8), card, tmp_path)
    with pytest.raises(WeightsMismatch, match="do not fit"):
        load_image_model("untrained", folder=tmp_path)


def test_each_kind_of_card_is_found_by_its_own_loader_only(published: Path) -> None:
    assert registry.available(published) == []
    assert [card.name for card in registry.available_image_models(published)] == ["untrained"]
    with pytest.raises(UnknownModel):
        registry.load("untrained", folder=published)
    with pytest.raises(UnknownModel, match="untrained"):
        load_image_model("edit-unet", folder=published)


def test_every_shipped_card_has_the_weights_that_it_was_measured_with() -> None:
    for card in registry.available_image_models():
        assert load_image_model(card.name).card == card


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((8, 8), np.uint8),
        np.full((300, 300), 7, np.uint16),
        np.full((64, 64), np.nan, np.float32),
        np.eye(200) > 0,
        np.zeros((3, 64, 64), np.uint8),
        np.zeros(0, np.float32),
    ],
    ids=["8x8", "constant", "nan", "1-bit", "three axes", "empty"],
)
def test_what_cannot_be_judged_is_unknown_with_a_reason(published: Path, image: NDArray[Any]) -> None:
    (said,) = load_image_model("untrained", folder=published).predict([image], saliency=True)
    assert said.organ is Organ.UNKNOWN
    assert said.reason
    assert said.organs.sum() == pytest.approx(1)


def test_an_image_is_judged_the_same_beside_any_other(published: Path) -> None:
    model: ImageModel = load_image_model("untrained", folder=published)
    images: list[NDArray[Any]] = [
        texture(seed=1),
        texture(260, 300, seed=2).astype(np.uint16) * 200,
        texture(64, 64, seed=3),
    ]
    together = model.predict(images)
    for image, said in zip(images, together, strict=True):
        (alone,) = model.predict([image])
        assert alone.synthesis_logit == pytest.approx(said.synthesis_logit, abs=1e-5)
        assert len(said.organs) == len(KNOWN)
        assert said.organs.sum() == pytest.approx(1, abs=1e-5)


def test_saliency_lies_on_the_grid_of_the_image(published: Path) -> None:
    image = texture(300, 130)
    (said,) = load_image_model("untrained", folder=published).predict([image], saliency=True)
    assert said.saliency is not None
    assert said.saliency.shape == image.shape
    assert said.saliency.min() >= 0
    assert said.saliency.max() <= 1


def test_window_and_depth_change_little_of_what_is_seen() -> None:
    image = texture(256, 256)
    eight, sixteen = inputs.see(image), inputs.see(image.astype(np.uint16) * 100 + 1000)
    np.testing.assert_allclose(eight.view, sixteen.view, atol=0.02)
    np.testing.assert_allclose(eight.tiles, sixteen.tiles, atol=0.02)


def test_the_work_for_a_large_image_is_bounded() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 60, (2000, 3000)).astype(np.uint16)
    image[700:900, 1500:1700] += 4000
    seen = inputs.see(image)
    assert len(seen.tiles) == inputs.MOST_TILES
    assert any(600 <= row <= 900 and 1400 <= column <= 1700 for row, column in seen.corners)
