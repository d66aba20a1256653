import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models import inputs
from models.errors import UnusableVolume


@settings(max_examples=25, deadline=None)
@given(slices=st.integers(1, 4), rows=st.integers(1, 40), columns=st.integers(1, 40), seed=st.integers(0, 99))
def test_channels_are_finite_and_keep_the_matrix_for_any_volume(
    slices: int, rows: int, columns: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    volume = rng.normal(100, 50, (slices, rows, columns))
    volume[rng.random(volume.shape) < 0.1] = rng.choice([np.nan, np.inf, -np.inf, 1e30])
    made = inputs.channels(inputs.as_volume(volume))
    assert made.shape == (slices, len(inputs.CHANNELS), rows, columns)
    assert np.isfinite(made).all()


@pytest.mark.parametrize("value", [0.0, 7.5, -1000.0, np.nan, np.inf])
def test_a_constant_image_has_no_residuals(value: float) -> None:
    made = inputs.channels(inputs.as_volume(np.full((2, 32, 32), value)))
    assert np.isfinite(made).all()
    assert np.abs(made[:, 3:9]).max() < 1e-2


def test_residual_channels_do_not_depend_on_the_scale_of_the_stored_values(head: NDArray[np.uint16]) -> None:
    volume = inputs.as_volume(head)
    same = inputs.channels(inputs.as_volume(3.0 * volume + 50.0))
    np.testing.assert_allclose(inputs.channels(volume), same, atol=2e-2)


def test_a_single_slice_stands_for_its_missing_neighbours(head: NDArray[np.uint16]) -> None:
    made = inputs.channels(inputs.as_volume(head[3]))[0]
    np.testing.assert_array_equal(made[0], made[1])
    np.testing.assert_array_equal(made[2], made[1])
    assert not made[10].any()


def test_a_part_of_a_volume_gives_the_channels_of_the_whole(head: NDArray[np.uint16]) -> None:
    volume = inputs.as_volume(head)
    whole = inputs.channels(volume)
    part = inputs.channels(volume[2:5], [1], intensity=inputs.intensity_range(volume))
    np.testing.assert_array_equal(part[0], whole[3])


@pytest.mark.parametrize("shape", [(3,), (2, 3, 4, 5), (0, 8, 8)])
def test_what_is_no_volume_is_refused_with_its_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(UnusableVolume, match="slices, rows, columns"):
        inputs.as_volume(np.zeros(shape))


def test_the_noise_level_is_the_standard_deviation_of_white_noise() -> None:
    noisy = np.random.default_rng(0).normal(1000, 20, (256, 256)).astype(np.float32)
    assert inputs.noise_level(noisy, 0.0, 1000.0) == pytest.approx(20, rel=0.05)
