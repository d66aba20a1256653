"""Training of generators: it goes on where it was stopped, and touches training patients alone."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from models.errors import CheckpointMismatch, MissingData
from models.splits import Split
from models.tampering.generators.kinds import KINDS, UnknownKind, kind_of
from models.tampering.generators.material import Example, Material, squared, stored
from models.tampering.generators.training import GeneratorConfig, about, load, train
from tests.models.generators.tiny import TINY


def config(kind: str, folder: Path, seed: int = 1, steps: int = 3) -> GeneratorConfig:
    return GeneratorConfig(kind, folder / f"{kind}-{seed}", seed, steps, changes=TINY[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_takes_the_same_next_step_after_a_stop(kind: str, tmp_path: Path, examples: list[Example]) -> None:
    whole = train(config(kind, tmp_path / "whole"), examples, quiet=True)
    train(config(kind, tmp_path / "halves"), examples, stop_after=2, quiet=True)
    halves = train(config(kind, tmp_path / "halves"), examples, quiet=True)
    expected, found = load_file(whole), load_file(halves)
    assert expected.keys() == found.keys()
    for key in expected:
        assert torch.allclose(found[key], expected[key], rtol=1.3e-6, atol=1e-5), key
    assert about(halves)["steps"] == "3"


def test_another_seed_is_another_instance(tmp_path: Path, examples: list[Example]) -> None:
    first, second = (
        load_file(train(config("vae", tmp_path, seed), examples, stop_after=1, quiet=True)) for seed in (1, 2)
    )
    assert any(not torch.equal(first[key], second[key]) for key in first)


def test_a_checkpoint_of_another_configuration_is_not_continued(tmp_path: Path, examples: list[Example]) -> None:
    begun = config("vae", tmp_path)
    train(begun, examples, stop_after=1, quiet=True)
    with pytest.raises(CheckpointMismatch):
        train(replace(begun, seed=2), examples, quiet=True)


def test_a_generator_never_sees_a_patient_of_another_split(examples: list[Example]) -> None:
    material = Material(examples, 32)
    allowed = {
        squared(example.image.pixels, 32).tobytes() for example in examples if example.image.split is Split.TRAIN
    }
    seen = {
        image.tobytes() for seed in range(20) for image in stored(material.whole(np.random.default_rng(seed), 4).images)
    }
    assert seen <= allowed
    assert len(seen) > 6


def test_both_organs_are_drawn_equally(examples: list[Example]) -> None:
    material = Material(examples, 32)
    assert material.crops(np.random.default_rng(1), 8, 16).organs.bincount().max() == 4


def test_without_a_training_image_it_says_so(examples: list[Example]) -> None:
    with pytest.raises(MissingData, match="training split"):
        Material([example for example in examples if example.image.split is Split.TEST], 32)


def test_an_unknown_kind_is_answered_with_those_that_there_are() -> None:
    with pytest.raises(UnknownKind, match="gan_nearest"):
        kind_of("gan_nothing")


def test_a_generator_that_is_not_trained_is_named_with_the_command(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match="scanwarden generators train"):
        load(tmp_path / "generator.safetensors")
