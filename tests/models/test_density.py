"""The density map: what it means, boxes from it, and the U-Net that gives it on top of old weights."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from models import density, inputs, networks, registry
from models.datasets import Case
from models.errors import CheckpointMismatch
from models.samples import Crops, PairBatches
from models.splits import Split
from models.tampering.phantom import phantom_volume
from models.training import TrainingConfig, fit, losses

ARGUMENTS = {"channels": len(inputs.CHANNELS), "width": 4}


def test_the_density_is_the_share_of_edited_pixels_around_and_needs_no_other_slice() -> None:
    masks = torch.zeros(2, 32, 32, dtype=torch.uint8)
    masks[0, 8:24, 8:24] = 1
    masks[1, 10, 10] = 1
    said = density.target(masks)
    assert said[0, 16, 16] == pytest.approx(1)
    assert said[0, 8, 16] == pytest.approx(5 / 9)
    assert said[1].max() == pytest.approx(1 / 81)
    np.testing.assert_allclose(density.of_probabilities(masks.numpy().astype(np.float32)), said.numpy(), atol=1e-6)


def test_the_boundary_is_the_rim_of_the_edit() -> None:
    mask = torch.zeros(1, 16, 16)
    mask[0, 4:12, 4:12] = 1
    rim = density.boundary(mask)[0]
    assert rim[4, 8] == rim[3, 8] == 1
    assert rim[8, 8] == rim[1, 8] == 0


def test_boxes_are_read_from_dense_spots_alone() -> None:
    mask = np.zeros((1, 64, 64), np.float32)
    mask[0, 10:30, 20:44] = 1
    mask[0, 50:52, 50:52] = 1
    (found,) = density.boxes(density.of_probabilities(mask)[0])
    assert found.box == pytest.approx((10, 20, 30, 44), abs=3)
    assert found.density == pytest.approx(1)
    assert density.boxes(0.3 * density.of_probabilities(mask)[0]) == []


def test_weights_of_the_plain_unet_say_the_same_in_the_one_with_a_density(tmp_path: Path) -> None:
    torch.manual_seed(0)
    plain, dense = (networks.build(name, **ARGUMENTS).eval() for name in ("edit_unet", "edit_unet_density"))
    missing = dense.load_state_dict(plain.state_dict(), strict=False)
    assert {key.split(".")[0] for key in missing.missing_keys} == {"where"}
    assert not missing.unexpected_keys
    x = torch.rand(2, len(inputs.CHANNELS), 32, 48)
    with torch.inference_mode():
        before, after = plain(x), dense(x)
    assert before.density is None
    for one, other in zip(before[:3], after[:3], strict=True):
        assert torch.equal(one, other)
    assert 0 <= after.density.min() <= after.density.max() <= 1


def test_a_density_is_trained_on_weights_that_stay_as_they_are(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    volume = phantom_volume(np.random.default_rng(3), slices=3, matrix=96)
    cases = [Case("phantom", "one", "one", Split.TRAIN, volume, (3.0, 1.0, 1.0))]
    start = networks.build("edit_unet", **ARGUMENTS).state_dict()
    save_file(start, tmp_path / "start.safetensors")
    config = TrainingConfig(
        data=tmp_path, output=tmp_path / "run", network="edit_unet_density", arguments=ARGUMENTS, families=("telea",),
        stages=((2, 64, 1),), threads=1, workers=0, bfloat16=False, start=tmp_path / "start.safetensors",
    )  # fmt: skip
    batches = PairBatches(cases, [], config.families, [(2, Crops(64, 1))], config.seed)
    fit(config, batches, stop_after=1, quiet=True)
    fit(config, batches, quiet=True)
    trained = load_file(config.output / "weights.safetensors")
    assert all(torch.equal(trained[key], value) for key, value in start.items())
    torch.manual_seed(config.seed)
    fresh = networks.build("edit_unet_density", **ARGUMENTS).state_dict()
    assert not torch.equal(trained["where.0.weight"], fresh["where.0.weight"])
    with pytest.raises(CheckpointMismatch, match="leave no layer"):
        fit(replace(config, network="edit_unet"), batches, quiet=True)


def test_the_loss_falls_when_the_density_is_right() -> None:
    mask = torch.zeros((1, 16, 16), dtype=torch.uint8)
    mask[0, 4:12, 4:12] = 1
    said = networks.NetworkOutput(12.0 * mask.float() - 6, torch.zeros((1, 3, 16, 16)), torch.tensor([6.0]))
    right = said._replace(density=density.target(mask), boundary=12 * density.boundary(mask) - 6)
    wrong = said._replace(density=1 - density.target(mask), boundary=6 - 12 * density.boundary(mask))
    label, edit_type = torch.tensor([1]), torch.tensor([1])
    assert losses(right, mask, edit_type, label)[0] < losses(wrong, mask, edit_type, label)[0]


def test_a_model_gives_its_density_on_the_grid_of_the_volume(published: Path, tmp_path: Path) -> None:
    card = registry.available(published)[0].model_copy(update={"network": "edit_unet_density", "arguments": ARGUMENTS})
    registry.publish(networks.build("edit_unet_density", **ARGUMENTS), card, tmp_path)
    said = registry.load(card.name, folder=tmp_path).predict(np.ones((2, 65, 70), np.float32))
    assert said.density is not None
    assert said.density.shape == (2, 65, 70)
    assert registry.load("untrained", folder=published).predict(np.ones((1, 64, 64), np.float32)).density is None
