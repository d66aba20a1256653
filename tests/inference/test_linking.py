"""Pixels become regions in millimetres, on the slices and in the box where they are."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from inference.detectors import Detection
from inference.findings import FindingClass
from inference.linking import Region, link

SHAPE = (10, 48, 40)


def detection(edit: NDArray[np.float32], code: int = 2) -> Detection:
    return Detection(edit, np.zeros(len(edit), np.float32), np.full(edit.shape, code, np.uint8))


def regions(edit: NDArray[np.float32], *, dz: float = 3.0, pixel: float = 0.5, code: int = 2) -> list[Region]:
    volume = np.full(len(edit), dz * pixel**2)
    return link(detection(edit, code), threshold=0.5, voxel_mm3=volume, pixel_mm2=pixel**2)[0]


@given(
    first=st.integers(0, 7),
    count=st.integers(2, 3),
    row=st.integers(0, 30),
    column=st.integers(0, 20),
    height=st.integers(8, 16),
    width=st.integers(8, 16),
    dz=st.floats(0.8, 6),
)
@settings(max_examples=40, deadline=None)
def test_a_block_is_found_where_it_is_with_its_volume(
    first: int, count: int, row: int, column: int, height: int, width: int, dz: float
) -> None:
    edit = np.full(SHAPE, 0.02, np.float32)
    edit[first : first + count, row : row + height, column : column + width] = 0.9
    (region,) = regions(edit, dz=dz)
    assert region.slices == (first, first + count - 1)
    assert region.box == (row, column, row + height, column + width)
    assert region.volume_mm3 == pytest.approx(count * height * width * dz * 0.25)
    assert region.strength == pytest.approx(0.9)


def test_the_key_slice_is_where_the_region_is_strongest() -> None:
    edit = np.zeros(SHAPE, np.float32)
    edit[2:7, 10:20, 10:20] = 0.6
    edit[5, 8:24, 10:20] = 0.9
    (region,) = regions(edit)
    assert region.key_slice == 5
    assert region.box == (8, 10, 24, 20)


def test_a_region_grows_from_sure_pixels_into_likely_ones_and_no_further() -> None:
    edit = np.zeros(SHAPE, np.float32)
    edit[3:6, 10:30, 10:30] = 0.3
    edit[4, 15:20, 15:20] = 0.8
    edit[0:2, 40:46, 30:38] = 0.3
    (region,) = regions(edit)
    assert region.slices == (3, 5)
    assert regions(np.where(edit > 0.5, 0.3, edit).astype(np.float32)) == []


def test_specks_and_single_slices_are_no_regions_unless_they_are_large() -> None:
    edit = np.zeros(SHAPE, np.float32)
    edit[2, 5:7, 5:7] = 0.9
    edit[5, 20:28, 20:28] = 0.9
    assert regions(edit) == []
    edit[8, 10:30, 5:25] = 0.9
    (region,) = regions(edit)
    assert region.slices == (8, 8)


def test_the_class_is_what_most_of_its_evidence_says() -> None:
    edit = np.zeros(SHAPE, np.float32)
    edit[2:5, 10:30, 10:30] = 0.9
    seen = detection(edit)
    seen.classes[2:4] = FindingClass.REMOVED_TUMOUR.code
    (region,), _ = link(seen, threshold=0.5, voxel_mm3=np.ones(10), pixel_mm2=1)
    assert region.finding_class is FindingClass.REMOVED_TUMOUR


def test_a_volume_without_spacing_still_has_regions_without_a_size() -> None:
    edit = np.zeros(SHAPE, np.float32)
    edit[2:5, 10:30, 10:30] = 0.9
    (region,), _ = link(detection(edit), threshold=0.5, voxel_mm3=np.zeros(10), pixel_mm2=0)
    assert region.volume_mm3 == 0


@pytest.mark.parametrize(
    ("removed_rows", "expected"),
    [(10, "removed_tumour"), (7, "removed_tumour"), (5, "resynthesised"), (0, "added_tumour")],
)
def test_a_region_claims_a_tumour_only_where_most_of_it_agrees(removed_rows: int, expected: str) -> None:
    edit = np.zeros(SHAPE, np.float32)
    edit[2:6, 10:20, 10:20] = 0.9
    classes = np.full(SHAPE, FindingClass.ADDED_TUMOUR.code, np.uint8)
    classes[:, 10 : 10 + removed_rows] = FindingClass.REMOVED_TUMOUR.code
    found = Detection(edit, np.zeros(len(edit), np.float32), classes)
    (region,), _ = link(found, threshold=0.5, voxel_mm3=np.ones(len(edit)), pixel_mm2=1.0)
    assert region.finding_class.value == expected
