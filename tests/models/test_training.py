from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy import ndimage

from models import datasets, inputs, networks
from models.datasets import Case
from models.errors import CheckpointMismatch, MissingData
from models.samples import Crops, PairBatches
from models.splits import Split, split_of
from models.tampering.phantom import phantom_volume
from models.training import TrainingConfig, fit, losses


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    volume = phantom_volume(np.random.default_rng(3), slices=5, matrix=128)
    return [Case("phantom", "one", "one", Split.TRAIN, volume, (3.0, 1.0, 1.0))]


@pytest.fixture
def config(tmp_path: Path) -> TrainingConfig:
    return TrainingConfig(
        data=tmp_path,
        output=tmp_path / "run",
        arguments={"channels": len(inputs.CHANNELS), "width": 4},
        families=("telea", "smoothed"),
        stages=((4, 64, 2), (2, 96, 1)),
        threads=1,
        workers=0,
        bfloat16=False,
    )


def batches(cases: list[Case], config: TrainingConfig) -> PairBatches:
    stages = [(steps, Crops(size, pairs)) for steps, size, pairs in config.stages]
    return PairBatches(cases, [], config.families, stages, config.seed)


def test_a_resumed_run_ends_in_the_weights_of_an_uninterrupted_one(
    cases: list[Case], config: TrainingConfig, tmp_path: Path
) -> None:
    fit(config, batches(cases, config), quiet=True)
    broken = replace(config, output=tmp_path / "broken")
    fit(broken, batches(cases, broken), stop_after=3, quiet=True)
    torch.manual_seed(99)
    fit(broken, batches(cases, broken), quiet=True)
    whole, resumed = (load_file(each.output / "weights.safetensors") for each in (config, broken))
    assert whole.keys() == resumed.keys()
    for key, value in whole.items():
        torch.testing.assert_close(value, resumed[key], rtol=0, atol=0)
    assert (broken.output / "curves.png").stat().st_size > 1000


def test_a_checkpoint_of_another_configuration_is_refused(cases: list[Case], config: TrainingConfig) -> None:
    fit(config, batches(cases, config), stop_after=1, quiet=True)
    other = replace(config, learning_rate=1.0)
    with pytest.raises(CheckpointMismatch, match="another configuration"):
        fit(other, batches(cases, other), quiet=True)


def test_a_batch_is_decided_by_seed_and_step_alone(cases: list[Case], config: TrainingConfig) -> None:
    first, second = batches(cases, config), batches(cases, config)
    _ = first[0]
    for one, other in zip(first[2], second[2], strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    assert not torch.equal(first[1][0], first[2][0])


def test_twins_differ_only_around_the_edit(cases: list[Case], config: TrainingConfig) -> None:
    channels, mask, _, label = PairBatches(cases, [], ("telea",), [(9, Crops(96, 4))], 3)[0]
    assert channels.dtype == torch.bfloat16
    for genuine, edited, where, changed in zip(channels[:4], channels[4:], mask[4:], label[4:], strict=True):
        if changed:
            centre = (genuine[1] != edited[1]).numpy()
            assert centre.any()
            around = ndimage.binary_dilation(np.asarray(where, dtype=bool), iterations=12)  # a JPEG block spreads by 8
            assert not (centre & ~around).any()
    assert label[:4].sum() == 0
    assert mask[:4].sum() == 0


def test_the_loss_falls_when_the_prediction_is_right() -> None:
    mask = torch.zeros((2, 8, 8), dtype=torch.uint8)
    mask[1, 2:5, 2:5] = 1
    label, edit_type = torch.tensor([0, 1]), torch.tensor([-1, 2])
    types = torch.zeros((2, 3, 8, 8))
    right = networks.NetworkOutput(12.0 * mask.float() - 6, types, torch.tensor([-6.0, 6.0]))
    wrong = networks.NetworkOutput(6 - 12.0 * mask.float(), types, torch.tensor([6.0, -6.0]))
    assert losses(right, mask, edit_type, label)[0] < losses(wrong, mask, edit_type, label)[0]
    assert losses(right, mask, edit_type, label)[1] == 1


def test_absent_images_are_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match="SCANWARDEN_DATA"):
        datasets.load(tmp_path, tmp_path / "cache")
    with pytest.raises(MissingData, match="unknown sources"):
        datasets.load(tmp_path, tmp_path / "cache", ("organs",))


def test_the_studies_of_the_trial_are_never_trained_on() -> None:
    assert {split_of("flair-glioma", name) for name in ("HF1097", "HF1139")} == {Split.TEST}
    assert split_of("t1-healthy", "uih-umr770") is Split.TEST


@pytest.mark.real_data
def test_no_patient_is_in_two_splits(scanwarden_data: Path, tmp_path: Path) -> None:
    lgg = [path.name for path in (scanwarden_data / "brain-lgg").iterdir() if path.is_dir()]
    shares = [split_of("brain-lgg", name) for name in lgg]
    sites = {(name.split("_")[1], split) for name, split in zip(lgg, shares, strict=True)}
    assert sites == {(site, split) for site in ("CS", "DU") for split in Split}
    found = datasets.load(scanwarden_data, tmp_path / "cache", ("brain-ms", "flair-glioma"))
    splits: dict[str, set[Split]] = {}
    for case in found:
        splits.setdefault(case.patient, set()).add(case.split)
        assert case.images.ndim == 3
        assert case.spacing is not None
    assert all(len(each) == 1 for each in splits.values())
