from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from models.figures import auc
from models.reports import Measured, Picture, pictures
from models.reports.sheets import FOUND, Tile, contact_sheet, eight_bits

scores = st.lists(st.floats(-5, 5), min_size=1, max_size=20)


@given(positive=scores, negative=scores)
@settings(max_examples=50)
def test_the_area_under_the_drawn_roc_is_the_auc_that_is_printed(positive: list[float], negative: list[float]) -> None:
    alarms, found = pictures.roc_points(positive, negative)
    assert (alarms[0], found[0], alarms[-1], found[-1]) == (0, 0, 1, 1)
    assert np.trapezoid(found, alarms) == pytest.approx(auc(positive, negative))


def _all() -> list[Picture]:
    rng = np.random.default_rng(1)
    outcome = rng.random(60) < 0.5
    return [
        pictures.roc({"a": (rng.normal(1, 1, 20), rng.normal(0, 1, 30))}, "roc"),
        pictures.confusion(rng.integers(0, 9, (3, 3)), ("a", "b", "c"), "confusion"),
        pictures.reliability({"a": (rng.random(60), outcome)}, "reliability"),
        pictures.froc({"a": ([0.0, 0.1, 1.0], [0.1, 0.5, 0.9])}, "froc"),
        pictures.bars({"a": Measured(0.9, 0.8, 0.95, 20), "b": Measured(None)}, "bars", axis="AUC", target=0.93),
        pictures.lines({"a": ([70, 80], [0.8, 0.9])}, "lines", across="JPEG quality", up="AUC"),
    ]


def test_the_same_numbers_give_the_same_pictures() -> None:
    first, second = _all(), _all()
    for one, other in zip(first, second, strict=True):
        assert one.png == other.png, one.caption
        assert Image.open(BytesIO(one.png)).size > (100, 100)


def test_pictures_of_nothing_can_be_drawn() -> None:
    for picture in (
        pictures.roc({}, ""),
        pictures.roc({"none": ([], [])}, ""),
        pictures.reliability({}, ""),
        pictures.froc({}, ""),
        pictures.bars({}, "", axis="AUC"),
        pictures.lines({}, "", across="x", up="y"),
        contact_sheet([], ""),
    ):
        assert picture.png.startswith(b"\x89PNG")


def test_a_contact_sheet_shows_every_image_and_its_outline() -> None:
    mask = np.zeros((40, 60), dtype=np.bool_)
    mask[10:30, 20:40] = True
    tiles = [Tile(np.full((40, 60), 90 * k, dtype=np.uint8), f"image {k}", [(mask, FOUND)]) for k in range(3)]
    sheet = np.asarray(Image.open(BytesIO(contact_sheet(tiles, "three", columns=2, size=64).png)))
    for shade in (90, 180):
        assert (sheet == shade).all(axis=2).sum() > 1000
    assert (sheet == FOUND).all(axis=2).sum() == 3 * (20 * 20 - 18 * 18)


def test_any_depth_is_shown_over_its_whole_range() -> None:
    shown = eight_bits(np.array([[-1000, 0], [1000, 3000]], dtype=np.int16))
    assert shown.tolist() == [[0, 64], [128, 255]]
    assert eight_bits(np.array([[np.nan, 1.0]])).tolist() == [[0, 255]]
    assert eight_bits(np.full((2, 2), 7, dtype=np.uint16)).tolist() == [[0, 0], [0, 0]]
