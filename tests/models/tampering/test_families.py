import pickle
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models.errors import MissingInpainter, UnknownFamily
from models.tampering import inpainters
from models.tampering.compose import Place, compose, tamper_volume
from models.tampering.families import FAMILIES, HELD_OUT, TRAINED, EditType, Family, family, ready
from models.tampering.material import Material

LEARNED = [name for name, each in FAMILIES.items() if each.inpainter]


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_edits_signed_ct_inside_its_mask_alone(name: str, ct: NDArray[np.int16]) -> None:
    made = tamper_volume(ct, name, np.random.default_rng(8), spacing=(5.0, 0.5, 0.5))
    assert made.volume.dtype == np.int16
    np.testing.assert_array_equal(made.volume[~made.mask], ct[~made.mask])
    assert (made.volume != ct)[made.mask].mean() > 0.1
    assert ct.min() <= made.volume.min()
    assert made.volume.max() <= ct.max()


def test_an_edit_that_changes_nothing_changes_no_pixel(mr: NDArray[np.uint16], ct: NDArray[np.int16]) -> None:
    nothing = Family("nothing", EditType.RESYNTHESISED, lambda slab, *_: slab.copy(), "")
    for volume in (mr, ct):
        slab = volume.astype(np.float32)
        mask = np.zeros(slab.shape, dtype=np.bool_)
        mask[1:4, 30:60, 30:60] = True
        limits = (float(slab.min()), float(slab.max()))
        for seed in range(4):  # with and without a soft rim
            rng = np.random.default_rng(seed)
            made = compose(slab, mask, nothing, Material.of(slab), rng, touched_up=False, limits=limits)
            np.testing.assert_array_equal(made, slab)


@pytest.mark.parametrize("name", ["telea", "growth", "gan_slab_added", "ctgan_removed"])
def test_an_edit_lies_where_it_is_wanted(name: str, mr: NDArray[np.uint16]) -> None:
    place = Place((2.0, 60.0, 40.0), 14.0)
    made = tamper_volume(mr, name, np.random.default_rng(1), spacing=(3.0, 1.0, 1.0), place=place)
    slices, rows, columns = np.nonzero(made.mask)
    assert abs(slices.mean() - 2) < 0.8
    assert abs(rows.mean() - 60) < 3
    assert abs(columns.mean() - 40) < 3
    wide = 14.0 * 32 / 20 if name.startswith("ctgan") else 14.0
    assert 0.6 * wide <= np.ptp(columns) + 1 <= 1.4 * wide


def test_an_approach_with_an_edit_type_names_a_family() -> None:
    assert family("ctgan", EditType.ADDED).name == "ctgan_added"
    assert family("diffusion", EditType.REMOVED).name == "diffusion_removed"
    with pytest.raises(UnknownFamily, match="ctgan_added or ctgan_removed"):
        family("ctgan")


def test_a_family_that_does_something_else_is_refused_with_those_that_do() -> None:
    with pytest.raises(UnknownFamily, match=r"of the type removed, not added.*painted"):
        family("telea", EditType.ADDED)


def test_whole_approaches_and_a_learned_family_are_held_out() -> None:
    approaches = {name.rpartition("_")[0] for name in HELD_OUT if FAMILIES[name].inpainter or "ctgan" in name}
    assert approaches == {"ctgan", "diffusion", "gan_volume"}
    assert not any(name.startswith(tuple(approaches)) for name in TRAINED)
    assert len([name for name in TRAINED if FAMILIES[name].inpainter]) >= 6


@pytest.mark.parametrize("name", LEARNED)
def test_a_family_without_its_weights_says_what_where_and_which_command(
    name: str, mr: NDArray[np.uint16], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SCANWARDEN_INPAINTERS", str(tmp_path))
    assert ready([name, "telea"]) == ("telea",)
    inpainter = FAMILIES[name].inpainter
    with pytest.raises(MissingInpainter, match=rf"{tmp_path}/{inpainter}.*inpainters train {inpainter} "):
        tamper_volume(mr, name, np.random.default_rng(1))


def test_learned_families_go_to_other_processes() -> None:
    for name in LEARNED:
        assert pickle.loads(pickle.dumps(FAMILIES[name])).name == name  # noqa: S301  our own bytes


def test_weights_are_found_where_the_environment_says(untrained_inpainters: Path) -> None:
    assert inpainters.folder() == untrained_inpainters
    assert ready(FAMILIES) == tuple(FAMILIES)


def test_the_documentation_lists_the_families_that_there_are() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "tampering.md").read_text(encoding="utf-8")
    for each in FAMILIES.values():
        trained = "yes" if each.trained else "no, for tests"
        assert f"| `{each.name}` | {each.edit_type.value} | {each.about} | {trained} |" in page
    assert sum(page.count(f" | {each.value} | ") for each in EditType) == len(FAMILIES)
