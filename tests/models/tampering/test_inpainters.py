from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from models.datasets import Case
from models.errors import CheckpointMismatch, MissingData, UnknownInpainter, WeightsMismatch
from models.splits import Split
from models.tampering.inpainters import networks, weights
from models.tampering.inpainters.catalogue import INPAINTERS, Approach, inpainter
from models.tampering.inpainters.crops import PLANES, SIZE, Pool, pool
from models.tampering.inpainters.training import TrainingPlan, train
from models.tampering.phantom import phantom_volume


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    volume = phantom_volume(np.random.default_rng(3), slices=6, matrix=128)
    lesion = np.zeros(volume.shape, dtype=np.bool_)
    lesion[2:4, 50:70, 40:60] = True
    held = np.full_like(volume, 7)
    return [
        Case("brain-lgg-du", "one", "one", Split.TRAIN, volume, (3.0, 1.0, 1.0), lesion=lesion),
        Case("brain-lgg-du", "two", "two", Split.TEST, held, (3.0, 1.0, 1.0)),
        Case("brain-ms", "three", "three", Split.CALIBRATION, held, (3.0, 1.0, 1.0)),
    ]


@pytest.fixture(scope="module")
def crops(cases: list[Case]) -> Pool:
    return pool(cases, 12, 1)


def test_crops_come_from_training_patients_alone(cases: list[Case], crops: Pool) -> None:
    # Every other patient is a constant image, of which a crop would be flat.
    assert (crops.image.std(axis=(1, 2, 3)) > 0.02).all()
    assert crops.lesion.any()
    with pytest.raises(MissingData, match="no training patient"):
        pool(cases[1:], 4, 1)


def test_a_batch_is_decided_by_seed_and_step(crops: Pool) -> None:
    one, other, third = (crops.batch(step, 3, 3, 5) for step in (2, 2, 3))
    assert one.image.shape == one.hole.shape == one.lesion.shape == (3, 3, SIZE, SIZE)
    assert torch.equal(one.image, other.image)
    assert not torch.equal(one.image, third.image)
    assert crops.batch(0, 1, 0, 5).image.shape[1] == PLANES
    assert set(np.unique(one.hole.numpy()).tolist()) <= {0.0, 1.0}
    assert not (one.lesion[one.hole == 0] != 0).any()


@pytest.mark.parametrize("name", ["autoencoder_4", "gan_shuffle", "gan_volume", "partial", "diffusion"])
def test_a_resumed_run_ends_in_the_weights_of_an_uninterrupted_one(name: str, crops: Pool, tmp_path: Path) -> None:
    kind = replace(INPAINTERS[name], arguments=INPAINTERS[name].arguments | {"width": 4}, batch=2)
    plans = [TrainingPlan(kind, tmp_path / each, steps=3, bfloat16=False) for each in ("whole", "broken")]
    whole = train(plans[0], crops, quiet=True)
    train(plans[1], crops, stop_after=2, quiet=True)
    resumed = train(plans[1], crops, quiet=True)
    assert whole.stat().st_size < 1_000_000
    for key, value in load_file(whole).items():
        torch.testing.assert_close(value, load_file(resumed)[key], rtol=0, atol=0)
    with pytest.raises(CheckpointMismatch):
        train(replace(plans[1], kind=replace(kind, seed=99)), crops, quiet=True)


def test_an_adversary_learns_beside_the_network(crops: Pool, tmp_path: Path) -> None:
    kind = replace(INPAINTERS["gan_nearest"], batch=2)
    train(TrainingPlan(kind, tmp_path, steps=2), crops, quiet=True)
    held = load_file(tmp_path / "gan_nearest-checkpoint.safetensors")
    start = {key for key in held if key.startswith("optimiser.critic") and key.endswith("exp_avg")}
    assert start
    assert any(held[key].abs().max() > 0 for key in start)
    assert not any(key.startswith("critic") for key in load_file(tmp_path / "gan_nearest.safetensors"))


def test_every_inpainter_is_small_and_no_two_are_built_alike(untrained_inpainters: Path) -> None:
    sizes = [path.stat().st_size for path in untrained_inpainters.glob("*.safetensors")]
    assert len(sizes) == len(INPAINTERS)
    assert max(sizes) < 1_000_000
    assert len({kind.seed for kind in INPAINTERS.values()}) == len(INPAINTERS)
    assert {kind.approach for kind in INPAINTERS.values()} == set(Approach)
    assert {kind.arguments.get("up") for kind in INPAINTERS.values()} >= {
        "transposed",
        "nearest",
        "shuffle",
        "bilinear",
    }
    assert {kind.planes for kind in INPAINTERS.values()} == {0, 1, 3}


def test_weights_of_another_build_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCANWARDEN_INPAINTERS", str(tmp_path))
    weights.save(INPAINTERS["partial"], networks.build("partial", width=4).state_dict(), 1, tmp_path)
    with pytest.raises(WeightsMismatch, match="inpainters train partial"):
        weights.load("partial")
    (tmp_path / "partial.safetensors").write_bytes(b"no weights")
    with pytest.raises(WeightsMismatch):
        weights.load("partial")
    with pytest.raises(UnknownInpainter, match="gan_slab"):
        inpainter("vae")
