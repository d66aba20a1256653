"""Training without a family or a source, and what an evaluation makes of such runs."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from models import datasets, inputs, registry
from models.card import ModelCard
from models.datasets import Case
from models.evaluation import left_out
from models.evaluation.left_out import LeftOut, NothingToLeaveOut, without
from models.splits import Split
from models.tampering.families import FAMILIES
from models.tampering.phantom import phantom_volume
from models.training import TrainingConfig, train
from models.trials import Plan

PLAN = Plan(edits=1, native_edits=1, conditions=0, native_conditions=0)


def phantoms(folder: Path, cache: Path) -> Iterator[Case]:
    for seed, split in ((1, Split.TRAIN), (2, Split.TEST)):
        volume = phantom_volume(np.random.default_rng(seed), slices=4, matrix=96)
        yield Case("phantom", str(seed), f"phantom-{seed}", split, volume, (3.0, 1.0, 1.0))


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainingConfig:
    monkeypatch.setattr(datasets, "SOURCES", {"phantom": phantoms, "other": phantoms})
    return TrainingConfig(
        data=tmp_path,
        output=tmp_path / "runs" / "untrained",
        arguments={"channels": len(inputs.CHANNELS), "width": 4},
        sources=("phantom", "other"),
        families=("telea", "smoothed"),
        stages=((2, 64, 1),),
        threads=1,
        workers=0,
        bfloat16=False,
    )


def test_a_run_says_in_its_folder_what_it_never_saw(config: TrainingConfig) -> None:
    made = without(config, LeftOut(("telea",), ("other",)))
    assert made.families == ("smoothed",)
    assert made.sources == ("phantom",)
    assert made.output.name == "untrained-without-family-telea-source-other"
    assert made.identity() != config.identity()
    assert without(config, LeftOut()) == config


def test_what_training_does_not_see_cannot_be_left_out(config: TrainingConfig) -> None:
    with pytest.raises(NothingToLeaveOut, match="family painted cannot be left out; training sees telea, smoothed"):
        without(config, LeftOut(families=("painted",)))
    with pytest.raises(NothingToLeaveOut, match="source"):
        without(config, LeftOut(sources=("phantom", "other")))


def test_leave_one_out_collects_the_runs_that_there_are_and_names_the_missing(
    config: TrainingConfig, published: Path, tmp_path: Path
) -> None:
    train(without(config, LeftOut(families=("telea",))), quiet=True)
    shipped = registry.available(published)[0]
    card = ModelCard.model_validate(
        shipped.model_dump()
        | {"families": {"telea": "trained", "smoothed": "trained", "painted": "held out"}, "data": {"phantom": "made"}}
    )
    figures = left_out.leave_one_out(card, tmp_path / "runs", tmp_path, tmp_path / "cache", plan=PLAN)
    assert set(figures["families"]) == {"telea"}
    assert 0 <= figures["families"]["telea"]["auc"] <= 1
    assert figures["families"]["telea"]["froc"]["edits"] == 1
    assert figures["missing"] == [
        "scanwarden train untrained --without-family smoothed",
        "scanwarden train untrained --without-source phantom",
    ]
    section = left_out.section(figures)
    assert section.tables[0].rows[0][0] == "without telea"
    assert "2 runs are missing" in section.paragraphs[1]


def test_many_left_out_still_make_the_name_of_one_folder() -> None:
    many = tuple(FAMILIES)
    first, second = (LeftOut(names).folder("edit-unet") for names in (many, many[:-1]))
    assert first != second
    assert len(first) < 200
    assert LeftOut(("telea",)).folder("edit-unet") == "edit-unet-without-family-telea"
