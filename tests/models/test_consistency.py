"""What one volume says of a region of it: the tests draw heads whose outer k-space is empty, as scanners' are."""

from dataclasses import astuple

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from models import inputs
from models.band import support
from models.consistency import Consistency, evidence
from models.tampering.compose import tamper_volume
from models.tampering.regions import ellipsoid

SHAPE = (9, 160, 160)
SPACING = (4.0, 1.0, 1.0)


def head(*, filled: float = 0.6, seed: int = 5) -> NDArray[np.int16]:
    """A head with folds and noise, of which only `filled` of k-space along each axis of the plane was measured."""
    rng = np.random.default_rng(seed)
    slices, rows, columns = SHAPE
    y, x = np.ogrid[:rows, :columns]
    inside = ((y - rows / 2) / (0.44 * rows)) ** 2 + ((x - columns / 2) / (0.38 * columns)) ** 2 < 1
    soft = cv2.GaussianBlur(inside.astype(np.float64), (0, 0), 1.5)
    texture = np.stack([cv2.GaussianBlur(rng.standard_normal((rows, columns)), (0, 0), 3.0) for _ in range(slices)])
    image = soft * (600 + 500 * texture)
    spectrum = np.fft.fft2(image + 8 * rng.standard_normal(SHAPE) + 8j * rng.standard_normal(SHAPE))
    kept = np.outer(_passed(rows, filled), _passed(columns, filled))
    return np.rint(np.abs(np.fft.ifft2(spectrum * kept))).astype(np.int16)


def _passed(length: int, filled: float) -> NDArray[np.float64]:
    """A window over k-space that falls to 0 at its border, as scanners apply it."""
    at = np.abs(np.fft.fftfreq(length)) / (filled / 2)
    return np.where(at < 1, 0.6 + 0.4 * np.cos(np.pi * at), 0.0)


@pytest.fixture(scope="module")
def region() -> NDArray[np.bool_]:
    return ellipsoid(SHAPE, (4.0, 84.0, 72.0), (1.5, 11.0, 13.0), np.random.default_rng(1))


@pytest.mark.parametrize("family", ["telea", "painted_onto", "medianed"])
def test_an_edit_on_the_finished_grid_leaves_energy_where_the_scanner_had_none(
    family: str, region: NDArray[np.bool_]
) -> None:
    genuine = head()
    edited = tamper_volume(
        genuine, family, np.random.default_rng(2), spacing=SPACING, region=region, touched_up=True
    ).volume
    assert evidence(genuine, region, SPACING).band < 3.0
    assert evidence(edited, region, SPACING).band > 6.0


def test_a_volume_that_fills_its_k_space_gives_no_evidence_of_that_kind(region: NDArray[np.bool_]) -> None:
    genuine = head(filled=1.5)
    edited = tamper_volume(genuine, "telea", np.random.default_rng(2), region=region, touched_up=False).volume
    found = evidence(edited, region, None)
    assert found.band == 0.0
    assert found.noise > 3.0  # a fill without noise differs all the same


def test_the_empty_part_is_found_although_a_region_was_edited(region: NDArray[np.bool_]) -> None:
    edited = head()
    edited[region] = np.random.default_rng(0).integers(0, 1200, int(region.sum()))
    whole = inputs.as_volume(edited)
    found = support(whole, *inputs.intensity_range(whole))
    assert found is not None
    assert found.is_partial
    assert 0.4 < found.share < 0.75  # 1 - 0.6²


@pytest.mark.parametrize(
    "volume",
    [
        np.zeros((5, 64, 64)),
        np.full((5, 64, 64), np.nan),
        np.zeros((1, 64, 64)),
        np.random.default_rng(0).random((4, 9, 9)),
    ],
    ids=["constant", "nan", "one slice", "tiny"],
)
def test_what_cannot_be_compared_gives_no_evidence_and_no_fault(volume: NDArray[np.float64]) -> None:
    mask = np.zeros(volume.shape, bool)
    mask[:, 2:8, 2:8] = True
    assert evidence(volume, mask, None) == Consistency()


def test_every_figure_is_finite_for_any_region(region: NDArray[np.bool_]) -> None:
    genuine = head()
    for mask in (region, np.zeros(SHAPE, bool), np.ones(SHAPE, bool), ~region):
        assert np.isfinite(astuple(evidence(genuine, mask, SPACING))).all()
