"""Series of one study beside each other: a copy, a repeat, another contrast, and an edit of one of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from inference.analysis import analyse_study
from inference.comparison import compare, difference
from inference.findings import Observation, Severity
from inference.instances import read_instance
from inference.limits import Limits
from inference.volume import group_series

Said = Callable[..., list[Observation]]
RULE = "series-differ-in-one-place"

SHAPE = (6, 96, 96)
EDIT = (slice(2, 4), slice(50, 62), slice(36, 48))


def anatomy(seed: int = 1) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    y, x = np.ogrid[: SHAPE[1], : SHAPE[2]]
    inside = ((y - 48) / 42.0) ** 2 + ((x - 48) / 36.0) ** 2 < 1
    texture = np.stack([cv2.GaussianBlur(rng.standard_normal(SHAPE[1:]), (0, 0), 3.0) for _ in range(SHAPE[0])])
    return np.asarray(np.where(inside, 600 + 900 * texture, 10), np.float64)


def scan(of: NDArray[np.float64], seed: int) -> NDArray[np.uint16]:
    """One measurement of the anatomy: its noise is its own."""
    noise = np.random.default_rng(seed).standard_normal((2, *of.shape)) * 12
    return np.asarray(np.rint(np.hypot(of + noise[0], noise[1])), np.uint16)


def edited(volume: NDArray[np.uint16]) -> NDArray[np.uint16]:
    changed = volume.copy()
    changed[EDIT] = np.clip(changed[EDIT].astype(np.float64) * 0.3 + 900, 0, 4000).astype(np.uint16)
    return changed


@pytest.fixture
def said(write_series: Callable[..., list[Path]], known_cube: Any) -> Callable[..., list[Observation]]:
    """What an analysis says of these volumes, each a series of one study."""

    def said(*volumes: NDArray[np.uint16], **attributes: list[Any]) -> list[Observation]:
        files: list[Path] = []
        for number, volume in enumerate(volumes):
            own = {name: values[number] for name, values in attributes.items()}
            uid = f"1.2.826.0.1.3680043.8.498.1.{number}"
            files += write_series(volume, SeriesInstanceUID=uid, SeriesNumber=number, folder=f"{number}", **own)
        return [each for each in analyse_study(files, models=[known_cube()]).observations if each.rule == RULE]

    return said


def overlap(found: Observation) -> float:
    """Share of the edit's box that the observation's box holds."""
    row0, column0, row1, column1 = found.evidence["box"]
    down = min(row1, EDIT[1].stop) - max(row0, EDIT[1].start)
    across = min(column1, EDIT[2].stop) - max(column0, EDIT[2].start)
    return float(max(0, down) * max(0, across) / 144)


def test_an_edited_copy_beside_the_original_is_a_warning_that_names_the_place(said: Said) -> None:
    original = scan(anatomy(), 1)
    (found,) = said(original, edited(original))
    assert found.severity is Severity.WARNING
    assert overlap(found) > 0.8
    assert found.evidence["slices"][0] <= 2
    assert found.evidence["slices"][1] >= 3
    assert "except in one place" in found.text


def test_an_edit_of_one_of_two_repeats_is_named_and_changes_no_verdict(said: Said) -> None:
    (found,) = said(scan(anatomy(), 1), edited(scan(anatomy(), 2)))
    assert found.severity is Severity.INFO
    assert overlap(found) > 0.8


def test_two_copies_two_repeats_and_two_contrasts_say_nothing(said: Said) -> None:
    original = scan(anatomy(), 1)
    assert said(original, original) == []
    assert said(original, scan(anatomy(), 2)) == []
    assert said(original, scan(1500 - anatomy(), 3)) == []


def test_what_another_series_does_not_show_is_not_compared() -> None:
    original = scan(anatomy(), 1)
    other = np.full(SHAPE, np.nan, np.float32)
    other[1:, 8:, 8:] = edited(original)[1:, 8:, 8:]
    found = difference(original.astype(np.float32), other)
    assert found is not None
    assert found.is_of_a_copy
    assert found.slices[0] <= 2 <= 3 <= found.slices[1]


def test_a_series_on_another_matrix_is_brought_to_the_first_one_s(said: Said) -> None:
    original = scan(anatomy(), 1)
    small = np.stack([plane[::2, ::2] for plane in edited(original)])
    (found,) = said(original, small, PixelSpacing=[[0.5, 0.75], [1.0, 1.5]])
    assert overlap(found) > 0.8


@pytest.mark.parametrize("references", [["1.2.3", "1.2.4"], [None, None]], ids=["another frame of reference", "none"])
def test_series_of_which_nothing_says_that_they_lie_at_one_place_are_not_compared(
    said: Said, references: list[str | None]
) -> None:
    original = scan(anatomy(), 1)
    assert said(original, edited(original), FrameOfReferenceUID=references) == []


def test_series_that_are_too_large_to_be_held_together_are_left_alone(
    write_series: Callable[..., list[Path]], known_cube: Any
) -> None:
    original = scan(anatomy(), 1)
    files = write_series(original, folder="a", SeriesInstanceUID="1.2.1")
    files += write_series(edited(original), folder="b", SeriesInstanceUID="1.2.2")
    analysis = analyse_study(files, models=[known_cube()], max_voxels=2 * original.size)
    assert not [each for each in analysis.observations if each.rule == RULE]


def test_a_time_limit_that_ends_the_comparison_is_told_and_costs_nothing_else(
    write_series: Callable[..., list[Path]],
) -> None:
    original = scan(anatomy(), 1)
    files = write_series(original, folder="a", SeriesInstanceUID="1.2.1")
    files += write_series(original, folder="b", SeriesInstanceUID="1.2.2")
    stacks = [stack for series in group_series([read_instance(file) for file in files]) for stack in series.stacks()]
    found, omitted = compare(stacks, Limits(1, 10**8, 0.0, None))
    assert found == []
    assert "not all compared" in omitted[0]
