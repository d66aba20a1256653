"""A model only judges what it was made for, and says in words what it was not made for."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from inference.coverage import body_part_of, by_header
from inference.instances import read_instance
from inference.volume import Stack, group_series
from models.card import ModelCard

CARD = ModelCard(name="m", version="1", network="none", arguments={}, digest="0" * 64, licence="test", min_matrix=32)


@pytest.fixture
def stack(write_series: Any, brain: NDArray[np.uint16]) -> Any:
    def build(slices: int = 8, **attributes: Any) -> Stack:
        files = write_series(brain[:slices], **attributes)
        return group_series([read_instance(file) for file in files])[0].stacks()[0]

    return build


def test_a_head_mr_without_manufacturer_is_covered(stack: Any) -> None:
    assert by_header(CARD, stack(Manufacturer=""))


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"Modality": "CT"}, "modality CT"),
        ({"BodyPartExamined": "KNEE"}, "body part KNEE"),
        ({"BodyPartExamined": None}, "body part not stated"),
        ({"LossyImageCompression": "01"}, "lossy compression in its history"),
        ({"slices": 1}, "1 slice; at least 3"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]}, "mosaic"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "secondary capture"),
        ({"places": [0, 3, 6, 9, 9, 12, 15, 18]}, "1 slice lies where another one lies"),
    ],
)
def test_what_is_outside_is_said(stack: Any, attributes: dict[str, Any], reason: str) -> None:
    coverage = by_header(CARD, stack(**attributes))
    assert not coverage
    assert reason in coverage.reasons[0]


def test_a_tiny_matrix_is_outside(write_series: Any) -> None:
    files = write_series(np.zeros((8, 16, 16), np.uint16))
    tiny = group_series([read_instance(file) for file in files])[0].stacks()[0]
    assert "matrix 16×16" in by_header(CARD, tiny).reasons[0]


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ("AX FLAIR", "HEAD"),
        ("MRT Schädel nativ", "HEAD"),
        ("IRM cérébrale crâne", "HEAD"),
        ("t1_mprage_BRAIN_3d", "HEAD"),
        ("T1 FLAIR L-SPINE sag spine", ""),
        ("hippocampus", ""),
        ("t2_tse_tra", ""),
    ],
)
def test_words_stand_in_for_a_body_part_that_is_not_named(stack: Any, words: str, part: str) -> None:
    assert (
        body_part_of(stack(BodyPartExamined=None, SeriesDescription=words, SpecificCharacterSet="ISO_IR 192")) == part
    )


def test_words_never_overrule_a_body_part_that_is_named(stack: Any) -> None:
    assert body_part_of(stack(BodyPartExamined="KNEE", SeriesDescription="brain")) == "KNEE"
