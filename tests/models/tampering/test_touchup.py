import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.tampering import touchup
from models.tampering.material import Material, smooth_noise


@pytest.fixture(scope="module")
def scan() -> NDArray[np.float32]:
    """Flat tissue under the grain of a scanner: noise that was blurred by its kernel."""
    return (200 + 8 * smooth_noise((3, 96, 96), 0.9, np.random.default_rng(1))).astype(np.float32)


@pytest.fixture(scope="module")
def hole() -> NDArray[np.bool_]:
    mask = np.zeros((3, 96, 96), dtype=np.bool_)
    mask[:, 35:65, 35:65] = True
    return mask


def spectrum(plane: NDArray[np.float32]) -> NDArray[np.float64]:
    """Shares of power from low to high frequencies."""
    power = np.abs(np.fft.fft2(plane - plane.mean())) ** 2
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(plane.shape[0]), np.fft.fftfreq(plane.shape[1]), indexing="ij"))
    bands = [power[(frequency >= low) & (frequency < low + 0.1)].sum() for low in (0.0, 0.1, 0.2, 0.3, 0.4)]
    shares: NDArray[np.float64] = np.asarray(bands) / sum(bands)
    return shares


def test_kernel_shaped_noise_has_the_spectrum_of_the_scan(scan: NDArray[np.float32], hole: NDArray[np.bool_]) -> None:
    material = Material.of(scan)
    made = touchup.kernel_shaped(scan, hole, material, np.random.default_rng(3))
    own = touchup._residual(scan[:1])[0]
    white = np.random.default_rng(4).standard_normal((96, 96)).astype(np.float32)
    near, far = (float(np.abs(spectrum(noise) - spectrum(own)).sum()) for noise in (made[0], white))
    assert near < 0.15
    assert far > 3 * near


def test_copied_noise_is_the_scans_own_residual_moved(scan: NDArray[np.float32], hole: NDArray[np.bool_]) -> None:
    made = touchup.copied_residual(scan, hole, Material.of(scan), np.random.default_rng(3))
    own = touchup._residual(scan)
    assert sorted(made[0].ravel().tolist()) == sorted(own[0].ravel().tolist())
    assert abs(np.corrcoef(made[hole], own[hole])[0, 1]) < 0.2


def test_an_empty_edit_is_given_the_noise_that_it_lacks(scan: NDArray[np.float32], hole: NDArray[np.bool_]) -> None:
    material = Material.of(scan)
    flat = np.where(hole, np.float32(200), scan)
    assert touchup._lacking(flat, hole, material) > 3 * touchup._lacking(scan, hole, material)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_a_touch_up_brings_noise_back_and_no_anatomy(seed: int) -> None:
    rng = np.random.default_rng(7)
    scan = (200 + 8 * smooth_noise((3, 96, 96), 0.6, rng)).astype(np.float32)
    hole = np.zeros(scan.shape, dtype=np.bool_)
    hole[:, 30:70, 30:70] = True
    flat = np.where(hole, np.float32(200), scan)
    made = touchup.touch_up(scan, flat, hole, Material.of(scan), np.random.default_rng(seed))
    assert made.dtype == np.float32
    assert np.isfinite(made).all()
    assert 0.5 < made[hole].std() < 20
    assert abs(float(made[hole].mean()) - 200) < 4


@pytest.mark.parametrize("width", [0.0, 1.0, 3.0])
def test_a_soft_rim_leaves_the_middle_to_the_edit(width: float, hole: NDArray[np.bool_]) -> None:
    genuine, edited = np.zeros(hole.shape, np.float32), np.ones(hole.shape, np.float32)
    made = touchup.feather(genuine, edited, hole, width)
    assert (made[:, 50, 50] == 1).all()
    assert (made[0, 35:65, 35] < 1).all() == (width > 0)
