"""The figures of a model of instances: what finds all is told so, what finds nothing too."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from models import fitting, inputs, instance_model, networks, registry
from models import instance_calibration as calibration
from models import instance_page as page
from models import instance_release as release
from models.card import INSTANCES, ModelCard, Thresholds
from models.datasets import Case
from models.errors import NotWorthShipping
from models.evaluation import compare
from models.instance_evaluation import report
from models.instance_model import Instance
from models.instance_training import configuration
from models.instance_trials import InstanceTrials, run
from models.recipes import RECIPES, recipe_of
from models.registry import SlicePredictions
from models.reports.plain import plain
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

    def predict(
        self, volume: NDArray[np.float32], proposals: Any = None, *, only: Sequence[int]
    ) -> list[list[Instance]]:
        assert proposals is None or len(proposals) == len(volume)
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


def looked(case: Case, *families: str, blind: bool = False, proposer: Any = None) -> InstanceTrials:
    model: Any = Knowing(case, blind=blind)
    return run(model, proposer, [case], [], families, seed=1, quiet=True)


CARD = ModelCard(
    name="finder", version="1", task=INSTANCES, network="edit_maskrcnn", arguments={}, digest="a" * 64,
    licence="test", domain={"rows": (64.0, 512.0)}, data={"phantom": "generated"}, judges_edits=False,
    known_failures=("It is a test.",),
)  # fmt: skip


def test_what_sees_all_is_told_so(case: Case) -> None:
    figures = report(looked(case, "smooth_fill", "painted"), CARD, None)
    real = figures["real"]["phantom"]
    assert (real["series"], real["lesions"], real["found"], real["dice"], real["dice_series"]) == (1, 1, 1, 1, 1)
    assert (real["on_slices"], real["false_a_series"], real["slices_without"], real["false_slices"]) == (1, 0, 2, 0)
    kinds = figures["kinds"]
    assert kinds["removed"]["found_at_5_percent"] == kinds["removed"]["kind_right"] == 1
    assert kinds["added"]["found_at_5_percent"] == 1
    assert kinds["added"]["kind_right"] == 0
    assert figures["edits"]["auc"] == 1
    assert "classes" not in figures


def test_what_sees_nothing_is_told_so(case: Case) -> None:
    figures = report(looked(case, "smooth_fill", blind=True), CARD, None)
    real = figures["real"]["phantom"]
    assert (real["found"], real["dice"], real["dice_series"]) == (0, 0, 0)
    assert figures["kinds"]["removed"]["found_at_5_percent"] == 0
    assert figures["edits"]["auc"] == 0.5


def test_what_is_marked_where_no_lesion_is_costs_a_false_one_and_no_dice_of_the_lesion(case: Case) -> None:
    class Seeing(Knowing):
        def _on(self, volume: NDArray[np.float32], index: int) -> list[Instance]:
            extra = Instance("real", 0.65, (10, 10, 22, 22), np.ones((12, 12), np.float32))
            return [*super()._on(volume, index), extra]

    model: Any = Seeing(case, blind=False)
    trials = run(model, None, [case], [], (), seed=1, quiet=True)
    low, high = (
        report(trials, CARD.model_copy(update={"thresholds": Thresholds(lesion=threshold)}), None)["real"]["phantom"]
        for threshold in (0.6, 0.7)
    )
    assert (low["false_a_series"], low["false_slices"], low["dice"]) == (1, 1, 1)
    assert low["dice_series"] < 0.6
    assert (high["false_a_series"], high["false_slices"], high["dice_series"]) == (0, 0, 1)
    assert calibration.lesion_threshold(trials) == pytest.approx(0.1)  # one false lesion is allowed, and Dice is equal


def test_an_edited_series_is_looked_at_as_often_as_was_asked(case: Case) -> None:
    families = ("smooth_fill", "telea", "painted", "copy_move")
    model: Any = Knowing(case, blind=True)
    tried = [
        {each.trial.family for each in run(model, None, [case], [], families, seed=1, edits=n, quiet=True).slices}
        for n in (0, 2)
    ]
    assert tried[0] == {None}
    assert len(tried[1] - {None}) == 2


class Beside:
    """A U-Net that flags the middle of every slice, says that all was added, and is sure of every other slice."""

    def __init__(self) -> None:
        self.card = ModelCard(
            name="unet", version="3", network="edit_unet", arguments={}, digest="b" * 64, licence="test",
            edit_types=("added", "removed", "resynthesised"),
        )  # fmt: skip

    def predict(self, volume: NDArray[np.float32], _: Any, *, only: Sequence[int]) -> SlicePredictions:
        edit = np.zeros((len(only), *volume.shape[1:]), np.float32)
        edit[:, 20:80, 20:80] = 0.9
        types = np.tile(np.array([0.5, 0.3, 0.2], np.float32)[:, None, None], (len(only), 1, *volume.shape[1:]))
        return SlicePredictions(edit, np.array([(-1.0) ** index for index in only], np.float32), types)


def test_both_networks_together_make_the_four_classes(case: Case) -> None:
    unmarked = looked(replace(case, lesion=None), "smooth_fill", proposer=Beside())
    gone = next(each for each in unmarked.slices if each.trial.family)
    assert int(gone.trial.shares.argmax()) == 0  # the U-Net alone calls it added
    assert int(gone.shares.argmax()) == 1
    figures = report(looked(case, "smooth_fill", proposer=Beside()), CARD, Beside().card)
    found = figures["classes"]
    assert found["truths"] == ["real tumour", "no tumour", "removed tumour"]
    assert found["tells_tumours"]
    assert 0 < found["accuracy_four"] < 1
    assert figures["proposer"] == "unet 3"


def test_a_second_network_has_a_say_on_edits_only_where_it_helps(case: Case) -> None:
    patients = [replace(case, patient=name, series=name) for name in ("one", "two", "three")]
    trials = InstanceTrials()
    for each in patients:
        more = looked(each, "smooth_fill", "telea", proposer=Beside())
        for name in ("lesions", "series", "slices"):
            getattr(trials, name).extend(getattr(more, name))
    card = CARD.model_copy(update={"calibration": calibration.calibrated(trials)})
    says, figures = calibration.judges(trials, card, Beside().card)
    assert says
    assert figures["gain"] == figures["both_auc"] - figures["unet_auc"] > 0.1
    mute = InstanceTrials(trials.lesions, trials.series, [replace(each, edited=-4.0) for each in trials.slices])
    assert not calibration.judges(mute, card, Beside().card)[0]
    assert not calibration.judges(trials, card, None)[0]


def test_what_misses_the_rule_is_not_published(case: Case) -> None:
    assert release.chosen(CARD, looked(case)).thresholds.lesion <= 0.8
    with pytest.raises(NotWorthShipping, match="0% of 1 real lesions"):
        release.chosen(CARD, looked(case, blind=True))


def test_the_page_and_the_card_show_the_figures(case: Case) -> None:
    trials = looked(case, "smooth_fill", proposer=Beside())
    card = CARD.model_copy(update={"figures": plain(report(trials, CARD, Beside().card))})
    said = page.readable(ModelCard.model_validate_json(card.model_dump_json()))
    assert "| phantom | 1 | 1 | 1.00 | 1.00 | 1.00 | 1.00 | 1.00 | 0.00 | 2 | 0.00 |" in said
    assert "| smooth_fill |" in said
    assert "| removed tumour |" in said
    assert "- `rows`: 64.0 to 512.0" in said
    shown = page.page(card, card.figures)
    assert "1 real lesions" in shown.summary[0]
    assert {"Real tumours of held-out patients", "Confusion matrix (slices)"} <= {each.caption for each in shown.tables}


def test_a_name_says_which_training_is_meant(tmp_path: Path) -> None:
    assert recipe_of("edit-maskrcnn-2") is RECIPES["edit-maskrcnn"]
    assert recipe_of("edit-unet-2") is RECIPES["edit-unet"]
    assert recipe_of("anything") is RECIPES["edit-unet"]
    networks = {name: recipe.configuration(tmp_path, tmp_path).network for name, recipe in RECIPES.items()}
    assert networks == {"edit-unet": "edit_unet_density", "edit-maskrcnn": "edit_maskrcnn"}


def test_the_unet_that_proposes_regions_is_one_that_ships() -> None:
    assert release.PROPOSER in {card.name for card in registry.available()}


def test_a_release_is_chosen_measured_written_and_measured_again_to_the_same_figures(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)
    cases = [replace(case, split=split, patient=split.value, series=split.value) for split in Split]
    monkeypatch.setattr("models.datasets.load", lambda *_: cases)
    monkeypatch.setattr("models.audits.audit", lambda *_: ())
    monkeypatch.setattr(calibration, "LEAST_FOUND", 0.0)  # nothing was trained
    monkeypatch.setattr(calibration, "MOST_FALSE", 99.0)
    config = replace(
        configuration(tmp_path, tmp_path / "run"), families=("smooth_fill",), threads=1, sources=("brain-lgg",),
        arguments={"channels": len(inputs.CHANNELS), "width": 8, "pyramid": 8},
    )  # fmt: skip
    config.output.mkdir()
    torch.manual_seed(0)
    network = networks.build(config.network, **config.arguments)
    save_file(network.state_dict(), config.output / fitting.WEIGHTS)
    card = release.release(config, "finder", "1.2", tmp_path / "published")
    assert card.proposals_from == "edit-unet"
    assert set(card.figures) >= {"real", "edits", "kinds", "classes", "calibration_patients"}
    assert "# finder 1.2" in (tmp_path / "published" / "cards" / "finder.md").read_text(encoding="utf-8")
    model = instance_model.load("finder", folder=tmp_path / "published")
    again = release.measured(model, tmp_path, tmp_path)
    stated = {key: value for key, value in model.card.figures.items() if key != "calibration_patients"}
    assert compare(stated, again).differences == ()
