"""Boxes of a density map against the edits: counted by hand, and by a network that has such a map."""

from pathlib import Path

import numpy as np
import pytest
import torch

from models import inputs, networks, registry
from models.card import ModelCard
from models.datasets import Case
from models.evaluation import report
from models.evaluation.tabulated import froc_of_boxes
from models.splits import Split
from models.tampering.phantom import phantom_volume
from models.trials import Plan, Trials, run
from models.trials.boxes import boxes, overlap


def test_overlap_of_boxes_is_their_intersection_over_union() -> None:
    assert overlap((0, 0, 10, 10), (0, 5, 10, 15)) == pytest.approx(1 / 3)
    assert overlap((0, 0, 10, 10), (10, 0, 20, 10)) == 0


def test_boxes_of_neighbouring_slices_are_one_and_only_what_lies_on_the_edit_hits_it() -> None:
    density = np.zeros((6, 64, 64), np.float16)
    density[1:4, 10:26, 10:26] = 0.8
    density[2, 12:20, 12:20] = 0.9
    density[3, 40:56, 40:56] = 0.6
    density[5, 10:26, 10:26] = 0.7  # a slice lies between: another chain
    assert boxes(density).tolist() == pytest.approx([0.9, 0.7, 0.6], abs=1e-3)
    mask = np.zeros(density.shape, np.bool_)
    mask[3, 38:54, 42:58] = True
    assert boxes(density, mask).tolist() == pytest.approx([0.6], abs=1e-3)
    assert boxes(density, np.roll(mask, 2, axis=0)).size == 0
    assert boxes(np.zeros((2, 64, 64), np.float16)).size == 0


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> tuple[ModelCard, Trials]:
    """The trials of a network that says a density of about a half everywhere."""
    torch.set_num_threads(1)
    arguments = {"channels": len(inputs.CHANNELS), "width": 4}
    folder: Path = tmp_path_factory.mktemp("dense")
    card = ModelCard(
        name="dense", version="0", network="edit_unet_density", arguments=arguments, digest="0" * 64, licence="none",
        families={"telea": "trained"},
    )  # fmt: skip
    torch.manual_seed(0)
    registry.publish(networks.build("edit_unet_density", **arguments), card, folder)
    volume = phantom_volume(np.random.default_rng(1), 5, 96)
    cases = [Case("brain-ms", "one", "one", Split.TEST, volume, (3.0, 1.0, 1.0))]
    made = Trials()
    for part in run(registry.load("dense", folder=folder), cases, ("telea",), (), Plan(native_conditions=0), seed=1):
        made.add(part)
    return card, made


def test_a_network_with_a_density_map_is_measured_by_its_boxes_too(dense: tuple[ModelCard, Trials]) -> None:
    card, trials = dense
    assert [trial.family for trial in trials.boxes] == [trial.family for trial in trials.scans]
    figures = report(trials, card)
    (table,) = froc_of_boxes(figures)
    assert figures["froc_boxes"]["known sources"]["genuine_scans"] == 1
    assert [row[0] for row in table.rows] == ["known sources", "brain-ms"]


def test_a_network_without_one_has_no_such_figures(dense: tuple[ModelCard, Trials]) -> None:
    card, trials = dense
    figures = report(Trials(slices=trials.slices, studies=trials.studies, scans=trials.scans), card)
    assert figures["froc_boxes"] == {}
    assert froc_of_boxes(figures) == []
