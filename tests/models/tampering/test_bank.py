from pathlib import Path

import numpy as np
import pytest

from models.banking import fill_bank, slow_families
from models.datasets import Case
from models.errors import MissingEdits, MissingInpainter
from models.samples import Crops, PairBatches
from models.splits import Split
from models.tampering.bank import Bank
from models.tampering.families import FAMILIES
from models.tampering.phantom import phantom_volume


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    volume = phantom_volume(np.random.default_rng(3), slices=5, matrix=128)
    return [Case("phantom", "one", "one", Split.TRAIN, volume, (3.0, 1.0, 1.0))]


def test_training_shows_slow_families_from_the_bank_and_others_as_they_are_made(
    cases: list[Case], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCANWARDEN_EDIT_BANK", str(tmp_path))
    assert slow_families() == ("diffusion_added", "diffusion_removed")
    for name in slow_families():
        with pytest.raises(MissingEdits, match=f"{tmp_path}/{name}.*inpainters bank"):
            PairBatches(cases, [], (name,), [(1, Crops(64, 1))], 1)
    files = list(fill_bank(cases, ["diffusion_removed"], 2, 7))
    times = [path.stat().st_mtime_ns for path in files]
    assert [path.stat().st_mtime_ns for path in fill_bank(cases, ["diffusion_removed"], 2, 7)] == times
    kept = Bank([FAMILIES["diffusion_removed"]]).draw(FAMILIES["diffusion_removed"], np.random.default_rng(1))
    np.testing.assert_array_equal(kept.genuine[~kept.region], kept.edited[~kept.region])
    assert (kept.genuine != kept.edited)[kept.region].mean() > 0.25

    batches = PairBatches(cases, [], ("diffusion_removed",), [(1, Crops(64, 2))], 1)
    monkeypatch.setattr("models.samples.compose", lambda *_, **__: pytest.fail("made while training"))
    channels, mask, edit_type, label = batches[0]
    assert channels.shape[0] == 4
    assert label.tolist()[:2] == [0, 0]
    assert mask[2:].any()
    assert set(edit_type[2:].tolist()) <= {-1, FAMILIES["diffusion_removed"].edit_type.channel}


@pytest.mark.parametrize("name", ["ctgan_added", "gan_slab_removed", "gan_volume_added", "growth"])
def test_training_shows_procedures_and_learned_families(cases: list[Case], name: str) -> None:
    _, mask, _, label = PairBatches(cases, [], (name,), [(1, Crops(96, 2))], 3)[0]
    assert label.sum() > 0
    assert mask.sum() > 0


def test_training_without_an_inpainter_fails_before_the_first_batch(
    cases: list[Case], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCANWARDEN_INPAINTERS", str(tmp_path))
    with pytest.raises(MissingInpainter, match="inpainters train gan_slab"):
        PairBatches(cases, [], ("telea", "gan_slab_added"), [(1, Crops(64, 1))], 1)
