import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from models import networks
from models.errors import CheckpointMismatch
from models.images import calibration, inputs, negatives, strangeness
from models.images.card import ImageModelCard
from models.images.datasets import GenuineImage
from models.images.organs import KNOWN, Organ
from models.images.registry import LoadedImageModel
from models.images.samples import NO_ORGAN, ImageBatches, Shares
from models.images.synthetic import SyntheticImage
from models.images.training import ImageTrainingConfig, fit, objective
from models.splits import Split
from tests.drawn_bodies import blurred, body

FEW = Shares(pairs=2, alone=1, organs=1, none=2)


def genuine(organ: Organ, count: int = 4) -> list[GenuineImage]:
    start = 100 * KNOWN.index(organ)
    return [
        GenuineImage(organ, "made-up", f"patient{k}", Split.TRAIN, body(start + k, 200 + 8 * k)) for k in range(count)
    ]


@pytest.fixture(scope="module")
def images() -> tuple[list[GenuineImage], list[SyntheticImage]]:
    real = [image for organ in (Organ.BRAIN_MR, Organ.LUNG_CT) for image in genuine(organ)]
    return real, [blurred(image, kind) for image in real for kind in ("first", "second")]


@pytest.fixture
def config(tmp_path: Path) -> ImageTrainingConfig:
    torch.set_num_threads(1)
    return ImageTrainingConfig(
        data=tmp_path,
        synthetic=tmp_path,
        output=tmp_path / "run",
        arguments={"channels": len(inputs.CHANNELS), "width": 8},
        steps=4,
        shares=FEW,
        workers=0,
    )


def batches(images: tuple[list[GenuineImage], list[SyntheticImage]], config: ImageTrainingConfig) -> ImageBatches:
    return ImageBatches(*images, config.steps, config.seed, config.shares)


def test_a_resumed_run_ends_in_the_weights_of_an_uninterrupted_one(
    images: tuple[list[GenuineImage], list[SyntheticImage]], config: ImageTrainingConfig, tmp_path: Path
) -> None:
    fit(config, batches(images, config), quiet=True)
    broken = replace(config, output=tmp_path / "broken")
    fit(broken, batches(images, broken), stop_after=2, quiet=True)
    torch.manual_seed(99)
    fit(broken, batches(images, broken), quiet=True)
    whole, resumed = (load_file(each.output / "weights.safetensors") for each in (config, broken))
    assert whole.keys() == resumed.keys()
    for key, value in whole.items():
        torch.testing.assert_close(value, resumed[key], rtol=0, atol=0)


def test_a_run_that_leaves_out_another_kind_does_not_go_on_from_this_checkpoint(
    images: tuple[list[GenuineImage], list[SyntheticImage]], config: ImageTrainingConfig
) -> None:
    fit(config, batches(images, config), stop_after=1, quiet=True)
    other = replace(config, without_kinds=("first",))
    assert json.loads(other.identity())["without_kinds"] == ["first"]
    with pytest.raises(CheckpointMismatch, match="another configuration"):
        fit(other, batches(images, other), quiet=True)


def test_a_batch_depends_on_its_seed_and_number_alone(
    images: tuple[list[GenuineImage], list[SyntheticImage]], config: ImageTrainingConfig
) -> None:
    one, other = batches(images, config), batches(images, config)
    _ = one[0], one[1]
    for mine, yours in zip(one[2], other[2], strict=True):
        assert torch.equal(mine, yours)
    assert not torch.equal(one[2].views, one[1].views)
    assert not torch.equal(one[2].views, ImageBatches(*images, 4, 2, FEW)[2].views)


def test_a_batch_holds_what_its_shares_say(
    images: tuple[list[GenuineImage], list[SyntheticImage]], config: ImageTrainingConfig
) -> None:
    batch = batches(images, config)[0]
    assert batch.tiles.shape == (2 * 2 + 1, 1, len(inputs.CHANNELS), inputs.TILE, inputs.TILE)
    assert batch.synthetic.sum() == 2
    assert batch.views.shape == (2 * 2 + 1 + 1 + 2, 1, inputs.VIEW, inputs.VIEW)
    assert (batch.organ == NO_ORGAN).sum() == 2
    assert torch.isfinite(batch.tiles.float()).all()
    assert torch.isfinite(batch.views).all()


@pytest.mark.parametrize("network", ["organ_resnet", "organ_attention"])
def test_every_weight_of_both_networks_learns(
    images: tuple[list[GenuineImage], list[SyntheticImage]], config: ImageTrainingConfig, network: str
) -> None:
    built = networks.build(network, channels=len(inputs.CHANNELS), width=8)
    loss, figures = objective(built, batches(images, config)[0], torch.device("cpu"))
    torch.autograd.backward(loss)
    assert np.isfinite(figures["loss"])
    for name, parameter in built.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0 or name.endswith("bias"), name


@pytest.mark.parametrize("kind", sorted(negatives.KINDS))
def test_every_picture_of_no_organ_is_a_picture(kind: str) -> None:
    organ = body(1).astype(np.float32) / np.float32(255)
    for seed in range(3):
        drawn = negatives.KINDS[kind](np.random.default_rng(seed), 120 + seed, organ)
        assert drawn.ndim == 2
        assert min(drawn.shape) >= 96
        assert np.isfinite(drawn).all()
        assert np.ptp(drawn) > 0.05


def test_an_image_far_from_every_organ_is_strange() -> None:
    rng = np.random.default_rng(0)
    organs = np.repeat([0, 3], 200)
    embeddings = (rng.normal(0, 1, (400, 32)) + 20 * organs[:, None]).astype(np.float32)
    usual = strangeness.fit(embeddings, organs)
    near = strangeness.distances(embeddings, usual)
    usual["limit"] = strangeness.limit_of(near, 0.99, 1.25)
    assert json.loads(json.dumps(usual)) == usual
    assert not strangeness.strange(float(np.median(near)), usual)
    between = strangeness.distances(np.full((1, 32), 30, dtype=np.float32), usual)
    assert strangeness.strange(float(between[0]), usual)


def test_the_image_threshold_is_passed_by_few_enough_genuine_images() -> None:
    logits = np.random.default_rng(1).normal(-3, 1, 1000).tolist()
    limit = calibration.quiet_logit(logits)
    assert (np.array(logits) > limit).sum() <= 4
    assert calibration.quiet_logit(logits[:100]) > max(logits[:100])


def test_calibration_makes_probabilities_of_logits_and_keeps_genuine_images_quiet(
    images: tuple[list[GenuineImage], list[SyntheticImage]],
) -> None:
    torch.manual_seed(0)
    arguments = {"channels": len(inputs.CHANNELS), "width": 8}
    card = ImageModelCard(
        name="tiny", version="0", network="organ_resnet", arguments=arguments, digest="0" * 64, licence="Apache-2.0"
    )
    model = LoadedImageModel(card, networks.build("organ_resnet", **arguments))
    heard = calibration.listen(model, *images, seed=1)
    assert sum(one.synthetic for one in heard) == 2 * len(images[1])
    assert sum(one.stored for one in heard) == len(images[0]) + len(images[1])
    embeddings = np.stack([one.embedding for one in heard])
    usual = strangeness.fit(embeddings, np.array([KNOWN.index(one.organ) for one in heard]))
    fitted = calibration.calibrated(card, heard, usual)
    genuine_logits = [one.logit for one in heard if one.stored and not one.synthetic]
    assert all(fitted.image_probability(logit) < fitted.thresholds.image for logit in genuine_logits) or (
        fitted.thresholds.image == pytest.approx(0.9999)
    )
    assert fitted.strangeness["limit"] > 0
    assert ImageModelCard.model_validate_json(fitted.model_dump_json()) == fitted
