"""The figures of a model of instances: what finds all is told so, what finds nothing too."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models import instance_release, registry
from models.card import INSTANCES, ModelCard
from models.datasets import Case
from models.instance_evaluation import evaluate
from models.instance_model import Instance
from models.recipes import RECIPES, recipe_of
from models.splits import Split
from models.tampering.phantom import phantom_volume


@pytest.fixture(scope="module")
def case() -> Case:
    volume = phantom_volume(np.random.default_rng(3), slices=5, matrix=96)
    lesion = np.zeros(volume.shape, dtype=np.bool_)
    lesion[1:4, 50:62, 40:52] = True
    return Case("phantom", "one", "one", Split.TEST, volume, (3.0, 1.0, 1.0), lesion=lesion)


class Knowing:
    """Sees the lesion of the case with a score of 0.8 where it is, and every other change as removed tissue."""

    def __init__(self, case: Case, *, blind: bool) -> None:
        self._case, self._blind = case, blind

    def predict(self, volume: NDArray[np.float32], proposals: Any, *, only: Sequence[int]) -> list[list[Instance]]:
        assert len(proposals) == len(volume)
        return [[] if self._blind else self._on(volume, index) for index in only]

    def _on(self, volume: NDArray[np.float32], index: int) -> list[Instance]:
        seen = []
        lesion = self._case.lesion
        if lesion is not None and lesion[index].any():
            seen.append(Instance("real", 0.8, (50, 40, 62, 52), np.ones((12, 12), np.float32)))
        changed = volume[index] != self._case.images[index]
        if changed.any():
            rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
            box = (int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)
            inside = changed[box[0] : box[2], box[1] : box[3]].astype(np.float32)
            seen.append(Instance("removed", 0.7, box, inside))
        return seen


def test_what_sees_all_is_told_so(case: Case) -> None:
    model: Any = Knowing(case, blind=False)
    said = evaluate(model, None, [case], [], ("smooth_fill", "painted"), quiet=True)
    real = said["real"]["phantom"]
    assert (real["series"], real["lesions"], real["slices_with_a_lesion"], real["slices_without"]) == (1, 1, 3, 2)
    assert (real["lesions_found"], real["found_on_slices"], real["dice_mean"], real["false_on_slices"]) == (1, 1, 1, 0)
    assert said["lesion_threshold"] <= 0.8
    assert said["kinds"]["removed"]["found_at_5_percent"] == 1
    assert said["kinds"]["removed"]["of_these_class_right"] == 1
    assert said["kinds"]["added"]["of_these_class_right"] == 0


def test_what_sees_nothing_is_told_so(case: Case) -> None:
    model: Any = Knowing(case, blind=True)
    said = evaluate(model, None, [case], [], ("smooth_fill",), lesion=0.5, quiet=True)
    assert said["real"]["phantom"]["lesions_found"] == 0
    assert said["real"]["phantom"]["dice_mean"] == 0
    assert said["kinds"]["removed"]["found_at_5_percent"] == 0


def test_the_page_of_a_card_shows_its_figures(case: Case) -> None:
    model: Any = Knowing(case, blind=False)
    card = ModelCard(
        name="finder", version="1", task=INSTANCES, network="edit_maskrcnn", arguments={}, digest="a" * 64,
        licence="test", domain={"rows": (64.0, 512.0)}, data={"phantom": "generated"}, judges_edits=False,
        figures=evaluate(model, None, [case], [], ("smooth_fill",), quiet=True), known_failures=("It is a test.",),
    )  # fmt: skip
    page = instance_release.readable(card)
    assert "| phantom | 1 | 1 | 1.00 | 3 | 1.00 | 1.00 | 2 | 0.00 |" in page
    assert "| smooth_fill |" in page
    assert "- `rows`: 64 to 512" in page


def test_a_name_says_which_training_is_meant(tmp_path: Path) -> None:
    assert recipe_of("edit-maskrcnn-2") is RECIPES["edit-maskrcnn"]
    assert recipe_of("edit-unet-2") is RECIPES["edit-unet"]
    assert recipe_of("anything") is RECIPES["edit-unet"]
    networks = {name: recipe.configuration(tmp_path, tmp_path).network for name, recipe in RECIPES.items()}
    assert networks == {"edit-unet": "edit_unet_density", "edit-maskrcnn": "edit_maskrcnn"}


def test_the_unet_that_proposes_regions_is_one_that_ships() -> None:
    assert instance_release.PROPOSER in {card.name for card in registry.available()}
