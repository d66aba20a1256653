import numpy as np
import pytest
from numpy.typing import NDArray

from models.datasets import Case
from models.samples import _shows_tissue
from models.splits import Split
from models.tampering import acquisition
from models.tampering.material import FloatArray, Material


def outer_share(plane: FloatArray) -> float:
    """How much of the structure's energy lies in the outer half of k-space."""
    space = np.abs(np.fft.fftshift(np.fft.fft2((plane - plane.mean()) * np.outer(*map(np.hanning, plane.shape))))) ** 2
    rows, columns = plane.shape
    inner = space[rows // 4 : 3 * rows // 4, columns // 4 : 3 * columns // 4].sum()
    return float(1 - inner / space.sum())


def test_a_finer_grid_leaves_the_outer_k_space_nearly_empty(mr: NDArray[np.uint16]) -> None:
    slab = mr.astype(np.float32)
    material = Material.of(slab)
    for seed in range(4):
        step = acquisition._sampled(material, np.random.default_rng(seed), 2.0)
        scanned = step.image(slab)
        assert scanned.shape == (len(slab), 2 * slab.shape[1], 2 * slab.shape[2])
        assert outer_share(scanned[2]) < 0.2 * outer_share(slab[2])


@pytest.mark.parametrize("factor", [1.0, 1.3, 2.1])
def test_images_and_masks_stay_on_one_grid_and_a_twin_meets_the_same_scanner(
    factor: float, mr: NDArray[np.uint16]
) -> None:
    slab = mr.astype(np.float32)
    mask = np.zeros(slab.shape, dtype=np.bool_)
    mask[:, 30:60, 30:50] = True
    for seed in range(8):
        scanner = acquisition.draw(Material.of(slab), np.random.default_rng(seed), factor)
        first, second, moved = scanner(slab), scanner(slab.copy()), scanner.mask(mask)
        np.testing.assert_array_equal(first, second)
        assert np.isfinite(first).all()
        assert first.shape == moved.shape == (len(slab), *(round(side * factor) for side in slab.shape[1:]))
        assert 0.8 < moved.sum() / (mask.sum() * factor**2) < 1.25
        assert (first == np.rint(first)).all() or not scanner.steps


def test_a_crop_of_air_is_not_offered_for_an_edit() -> None:
    images = np.zeros((9, 128, 128), np.uint16)
    images[:, 30:100, 30:100] = 900
    images += np.random.default_rng(0).integers(0, 60, images.shape).astype(np.uint16)
    case = Case("phantom", "one", "one", Split.TRAIN, images, (3.0, 1.0, 1.0))
    assert _shows_tissue(images[4].astype(np.float32), case)
    assert not _shows_tissue(images[4, :28, :28].astype(np.float32), case)
