"""The Mask R-CNN: two questions that make four classes, proposals from elsewhere, training, and the model at work."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.data import Dataset

from models import inputs, instance_model, networks, registry
from models.card import INSTANCES, ModelCard
from models.datasets import Case
from models.density import DensityBox
from models.errors import UnknownModel, UnusableVolume, WeightsMismatch
from models.instance_training import configuration, fit, lower
from models.instances import InstanceBatch, InstanceBatches, box_of, parts, targets_of
from models.networks.maskrcnn import ADDED, REAL, REMOVED, EditMaskRCNN, dense_loss, joint
from models.samples import Crops
from models.splits import Split
from models.tampering.families import EditType
from models.tampering.phantom import phantom_volume
from models.training import TrainingConfig

TINY = {"channels": len(inputs.CHANNELS), "width": 8, "pyramid": 8}


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    volume = phantom_volume(np.random.default_rng(3), slices=5, matrix=128)
    lesion = np.zeros(volume.shape, dtype=np.bool_)
    lesion[1:4, 50:70, 60:75] = True
    return [Case("phantom", "one", "one", Split.TRAIN, volume, (3.0, 1.0, 1.0), lesion=lesion)]


@pytest.fixture
def config(tmp_path: Path) -> TrainingConfig:
    torch.set_num_threads(1)
    return replace(
        configuration(tmp_path, tmp_path / "run"), arguments=TINY,
        families=("telea", "painted"), stages=((3, 64, 1),), threads=1, workers=0, bfloat16=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def published_instances(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one model of instances with random weights, named `untrained-instances`."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("instances")
    card = ModelCard(
        name="untrained-instances", version="0", task=INSTANCES, network="edit_maskrcnn", arguments=TINY,
        digest="0" * 64, licence="Apache-2.0", max_matrix=2048,
    )  # fmt: skip
    network = networks.build("edit_maskrcnn", **TINY)
    assert isinstance(network, EditMaskRCNN)
    torch.nn.init.constant_(network.roi_heads.box_predictor.lesion.bias, 2.0)
    registry.publish(network, card, folder)
    return folder


def test_the_classes_are_the_product_of_two_answers() -> None:
    lesion, edited = torch.tensor([2.0, -1.0]), torch.tensor([-3.0, 1.5])
    shares = joint(lesion, edited).softmax(dim=1)
    is_lesion, is_edited = lesion.sigmoid(), edited.sigmoid()
    torch.testing.assert_close(shares[:, REAL], is_lesion * (1 - is_edited))
    torch.testing.assert_close(shares[:, ADDED], is_lesion * is_edited)
    torch.testing.assert_close(shares[:, REMOVED], (1 - is_lesion) * is_edited)
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(2))


def test_injected_proposals_reach_the_heads() -> None:
    torch.manual_seed(0)
    network = EditMaskRCNN(**TINY).eval()
    looked_at: list[Tensor] = []
    network.roi_heads.box_roi_pool.register_forward_pre_hook(lambda _, given: looked_at.extend(given[1]))
    place = torch.tensor([[10.0, 12.0, 30.0, 34.0]])
    with torch.inference_mode():
        network(torch.zeros(2, len(inputs.CHANNELS), 64, 64), [place, torch.zeros(0, 4)])
    first, second = looked_at
    torch.testing.assert_close(first[-1], place[0])
    assert not (second == place).all(dim=1).any()


def test_what_was_removed_is_not_asked_of_the_region_proposals(monkeypatch: pytest.MonkeyPatch) -> None:
    network = EditMaskRCNN(**TINY)
    given: list[dict[str, Tensor]] = []
    plain = network.rpn.assign_targets_to_anchors

    def watched(anchors: list[Tensor], targets: list[dict[str, Tensor]]) -> object:
        given.extend(targets)
        return plain(anchors, targets)

    monkeypatch.setattr(network.rpn, "assign_targets_to_anchors", watched)
    masks = torch.zeros(2, 64, 64, dtype=torch.uint8)
    masks[0, 8:20, 8:20], masks[1, 30:50, 30:50] = 1, 1
    boxes = torch.tensor([[8.0, 8, 20, 20], [30, 30, 50, 50]])
    target = {"boxes": boxes, "labels": torch.tensor([REAL, REMOVED]), "masks": masks}
    losses = network(torch.zeros(1, len(inputs.CHANNELS), 64, 64), None, [target])
    of_boxes = {"loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg", "loss_mask"}
    assert set(losses) == {*of_boxes, "loss_dense"}
    torch.testing.assert_close(given[0]["boxes"], boxes[:1])


def test_a_slice_has_its_real_lesions_and_its_edit_as_instances() -> None:
    lesion, region = np.zeros((64, 64), np.bool_), np.zeros((64, 64), np.bool_)
    lesion[5:15, 5:15] = lesion[40:50, 40:52] = True
    region[38:54, 38:54] = True
    genuine = targets_of(lesion, np.zeros_like(region), None)
    assert genuine["labels"].tolist() == [REAL, REAL]
    removed = targets_of(lesion, region, EditType.REMOVED)
    assert removed["labels"].tolist() == [REAL, REMOVED]
    assert removed["boxes"].tolist() == [[5, 5, 15, 15], [38, 38, 54, 54]]
    assert targets_of(lesion, region, EditType.ADDED)["labels"].tolist() == [REAL, ADDED]
    assert targets_of(lesion, region, EditType.RESYNTHESISED)["labels"].tolist() == [REAL]
    assert targets_of(np.zeros_like(lesion), np.zeros_like(region), None)["masks"].shape == (0, 64, 64)


def test_a_lesion_torn_by_two_pixels_is_one_instance() -> None:
    mask = np.zeros((40, 40), np.bool_)
    mask[5:20, 5:20] = True
    mask[12, 5:20] = False
    (whole,) = parts(mask)
    assert box_of(whole) == (5, 5, 20, 20)


def test_instances_of_a_batch_are_decided_by_seed_and_step_alone(cases: list[Case], config: TrainingConfig) -> None:
    first, second = (InstanceBatches(cases, [], config.families, [(9, Crops(96, 2))], 4) for _ in range(2))
    _ = first[0]
    channels, targets, proposals = first[3]
    again, same_targets, same_proposals = second[3]
    assert torch.equal(channels, again)
    for one, other in zip(targets, same_targets, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)
    assert proposals is not None
    assert same_proposals is not None
    assert all(torch.equal(one, other) for one, other in zip(proposals, same_proposals, strict=True))
    labels = [set(target["labels"].tolist()) for target in targets]
    assert not (labels[0] | labels[1]) & {ADDED, REMOVED}
    assert any(REAL in each for each in labels)


def test_boxes_stand_for_masks_where_a_source_has_no_others() -> None:
    boxes = np.array([[20, 30, 60, 90]] * 3, dtype=np.int64)
    case = Case("boxed", "one", "one", Split.TRAIN, np.zeros((3, 128, 128), np.uint8), separate=True, boxes=boxes)
    batches = InstanceBatches([case], [], ("telea",), [(1, Crops(64, 1))], 1)
    mask = batches._lesion(case, (slice(0, 2), slice(0, 128), slice(0, 128)))
    assert mask is not None
    assert mask.shape == (2, 128, 128)
    assert 0.7 < mask[0].sum() / (40 * 60) < 0.85
    assert box_of(mask[0]) == pytest.approx((30, 20, 90, 60), abs=1)


def test_a_resumed_run_of_instances_ends_in_the_weights_of_an_uninterrupted_one(
    cases: list[Case], config: TrainingConfig, tmp_path: Path
) -> None:
    batches = InstanceBatches(cases, [], config.families, [(3, Crops(64, 1))], config.seed)
    fit(config, batches, quiet=True)
    broken = replace(config, output=tmp_path / "broken")
    fit(broken, batches, stop_after=2, quiet=True)
    torch.manual_seed(99)
    fit(broken, batches, quiet=True)
    whole, resumed = (load_file(each.output / "weights.safetensors") for each in (config, broken))
    for key, value in whole.items():
        torch.testing.assert_close(value, resumed[key], rtol=0, atol=0)
    assert (broken.output / "curves.png").stat().st_size > 1000


class _Plain(Dataset[InstanceBatch]):
    """A bright square that is real and the same square, striped, that was added: told apart at a glance."""

    def __len__(self) -> int:
        return 10_000

    def __getitem__(self, step: int) -> InstanceBatch:
        rng = np.random.default_rng(step)
        channels = torch.zeros(4, len(inputs.CHANNELS), 64, 64)
        targets, proposals = [], []
        for index in range(4):
            row, column = (int(value) for value in rng.integers(8, 36, 2))
            place = (slice(row, row + 20), slice(column, column + 20))
            channels[index, 0][place] = 2.0
            if index >= 2:
                channels[index, 3:9, place[0], place[1]] = 2.0
            mask = torch.zeros(1, 64, 64, dtype=torch.uint8)
            mask[0][place] = 1
            box = torch.tensor([[column, row, column + 20, row + 20]], dtype=torch.float32)
            targets.append({"boxes": box, "labels": torch.tensor([REAL if index < 2 else ADDED]), "masks": mask})
            proposals.append(torch.zeros(0, 4))
        return channels.to(torch.bfloat16), targets, proposals


def test_training_learns_two_pairs_that_are_told_apart_at_a_glance(config: TrainingConfig) -> None:
    # So few steps end while the rate still warms up, hence its height.
    run = replace(config, stages=((120, 64, 2),), learning_rate=2.5e-2, checkpoint_every=1000)
    fit(run, _Plain(), quiet=True)
    network = networks.build(run.network, **run.arguments).eval()
    network.load_state_dict(load_file(run.output / "weights.safetensors"))
    channels, targets, _ = _Plain()[9_999]
    with torch.inference_mode():
        found = network(channels.float(), None)
    for said, target in zip(found, targets, strict=True):
        surest = int(said["scores"].argmax())
        assert int(said["labels"][surest]) == int(target["labels"][0])
        (x0, y0, x1, y1), (c0, r0, c1, r1) = said["boxes"][surest].tolist(), target["boxes"][0].tolist()
        overlap = max(0.0, min(x1, c1) - max(x0, c0)) * max(0.0, min(y1, r1) - max(y0, r0))
        assert overlap / ((x1 - x0) * (y1 - y0) + (c1 - c0) * (r1 - r0) - overlap) > 0.5


def test_instances_lie_on_the_grid_of_the_slice(published_instances: Path) -> None:
    model = instance_model.load("untrained-instances", folder=published_instances)
    volume = np.random.default_rng(0).gamma(2, 50, (3, 70, 90)).astype(np.float32)
    found = model.predict(volume, [[DensityBox((5, 6, 30, 40), 0.8)], [], []], batch=2)
    assert len(found) == 3
    assert sum(len(instances) for instances in found) > 0
    for each in (instance for instances in found for instance in instances):
        row0, column0, row1, column1 = each.box
        assert 0 <= row0 < row1 <= 70
        assert 0 <= column0 < column1 <= 90
        assert each.mask.shape == (row1 - row0, column1 - column0)
        assert 0 <= each.mask.min() <= each.mask.max() <= 1
    (some,) = model.predict(volume, only=[1])
    assert [each.kind for each in some] == [each.kind for each in found[1]]


def test_a_large_slice_is_looked_at_in_tiles_that_cover_it(
    published_instances: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instance_model, "TILE", 64)
    monkeypatch.setattr(instance_model, "OVERLAP", 16)
    assert instance_model._tiles(64) == [0]
    assert instance_model._tiles(100) == [0, 36]
    model = instance_model.load("untrained-instances", folder=published_instances)
    corners: list[tuple[int, int]] = []
    plain = model._tile

    def watched(channels: Any, boxes: Any, corner: tuple[int, int]) -> Any:
        corners.append(corner)
        return plain(channels, boxes, corner)

    monkeypatch.setattr(model, "_tile", watched)
    (found,) = model.predict(np.random.default_rng(0).gamma(2, 50, (1, 64, 100)).astype(np.float32))
    assert corners == [(0, 0), (0, 36)]
    assert max(each.box[3] for each in found) > 64


def test_weights_of_instances_with_another_digest_are_refused(published_instances: Path, tmp_path: Path) -> None:
    card = registry.available(published_instances)[0]
    registry.publish(networks.build("edit_maskrcnn", **TINY), card, tmp_path)
    card.write(tmp_path / "cards" / f"{card.name}.json")
    with pytest.raises(WeightsMismatch, match="SHA-256"):
        instance_model.load(card.name, folder=tmp_path)


def test_a_model_is_loaded_as_what_its_card_says(published_instances: Path, published: Path) -> None:
    with pytest.raises(UnknownModel, match="marks no pixels"):
        registry.load("untrained-instances", folder=published_instances)
    with pytest.raises(UnknownModel, match="finds no instances"):
        instance_model.load("untrained", folder=published)
    model = instance_model.load("untrained-instances", folder=published_instances)
    with pytest.raises(UnusableVolume, match="outside 64 to 2048"):
        model.predict(np.zeros((1, 63, 200), dtype=np.float32))


def test_boxes_are_learned_after_what_is_asked_of_every_place(cases: list[Case], config: TrainingConfig) -> None:
    batches = InstanceBatches(cases, [], config.families, [(2, Crops(64, 1))], 1, boxes_from=1)
    network = EditMaskRCNN(**TINY)
    assert batches[0][2] is None
    losses = [lower(network, batches[step], torch.device("cpu"), bfloat16=False)[1] for step in (0, 1)]
    assert set(losses[0]) == {"loss", "dense"}
    assert set(losses[1]) > {"dense", "classifier", "mask"}


def test_what_is_asked_of_every_place_is_paid_for_where_it_is_wrong() -> None:
    masks = torch.zeros(2, 32, 32, dtype=torch.uint8)
    masks[0, 0:8, 0:8], masks[1, 16:32, 16:32] = 1, 1
    target = {"boxes": torch.zeros(2, 4), "labels": torch.tensor([REAL, REMOVED]), "masks": masks}
    said = torch.full((1, 2, 8, 8), -9.0)
    said[0, 0, :2, :2] = said[0, 1, 4:, 4:] = 9.0
    right = float(dense_loss(said, [target]))
    said[0, 0, 4:, 4:] = 9.0  # a lesion where one was removed
    assert right < 0.01
    assert float(dense_loss(said, [target])) > 1
