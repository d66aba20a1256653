"""The measure of the viewers' tests can fail: it sees what is shifted, mirrored, missing or of another colour."""

import numpy as np
import pytest

from tests.viewers.screen import Mask, Picture, on_screen, strays, tinted

RED = (255, 40, 40)
SHAPE = (120, 160)


def region() -> Mask:
    found = np.zeros(SHAPE, np.bool_)
    found[30:60, 40:90] = True
    return found


def screenshot(where: Mask, colour: tuple[int, int, int] = RED) -> Picture:
    """Grey noise with a half-transparent colour over a region."""
    grey = np.random.default_rng(1).integers(20, 200, SHAPE)[..., None].repeat(3, axis=2)
    laid = np.where(where[..., None], 0.5 * grey + 0.5 * np.array(colour), grey)
    return laid.astype(np.uint8)


def test_an_overlay_in_its_place_strays_nowhere() -> None:
    assert strays(tinted(screenshot(region()), RED), region(), 5) == (0, 0)


@pytest.mark.parametrize("move", [(0, 12), (12, 0), (-12, -12)])
def test_a_shifted_overlay_misses_and_strays(move: tuple[int, int]) -> None:
    missed, strayed = strays(tinted(screenshot(np.roll(region(), move, (0, 1))), RED), region(), 5)
    assert missed > 0
    assert strayed > 0


def test_a_mirrored_overlay_a_missing_one_and_one_of_another_colour_are_seen() -> None:
    assert strays(tinted(screenshot(region()[:, ::-1]), RED), region(), 5) > (0, 0)
    assert strays(tinted(screenshot(np.zeros(SHAPE, np.bool_)), RED), region(), 5)[0] > 0
    assert strays(tinted(screenshot(region(), (60, 140, 255)), RED), region(), 5)[0] > 0


def test_an_overlay_where_none_should_be_is_seen() -> None:
    assert strays(tinted(screenshot(region()), RED), np.zeros(SHAPE, np.bool_), 5)[1] > 0


@pytest.mark.parametrize("turned", [False, True])
def test_a_matrix_lies_on_the_screen_between_its_corners(turned: bool) -> None:
    matrix = np.zeros((4, 5), np.uint8)
    matrix[1, 3] = 7
    corners = np.array([(10, 20), (10, 70), (50, 20)] if turned else [(10, 20), (60, 20), (10, 60)], float)
    rows, columns = np.nonzero(on_screen(matrix, corners, SHAPE) == 7)
    found = (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1)
    assert found == ((50, 60, 20, 30) if turned else (30, 40, 40, 50))
