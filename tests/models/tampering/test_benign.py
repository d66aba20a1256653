import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from models.tampering import benign
from models.tampering.material import Material


@pytest.mark.parametrize("name", [*benign.IN_PLACE, *benign.MOVING])
def test_a_step_moves_the_mask_as_it_moves_the_image(name: str, mr: NDArray[np.uint16]) -> None:
    slab = mr.astype(np.float32)
    marker = np.zeros(slab.shape, dtype=np.bool_)
    marker[:, 40:60, 30:55] = True
    bright = np.where(marker, slab.max() * 4, slab).astype(np.float32)
    for seed in range(3):
        step = (benign.IN_PLACE | benign.MOVING)[name](Material.of(slab), np.random.default_rng(seed))
        image, mask = step.image(bright), step.mask(marker)
        assert image.shape == mask.shape
        assert image.dtype == np.float32
        assert mask.dtype == np.bool_
        seen = image > image.min() + 0.75 * (image.max() - image.min())
        kept = cv2.erode(mask[2].astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
        assert seen[2][kept].mean() > 0.95
        assert step.zoom == pytest.approx(1.0) or name.startswith("zoom")


def test_lossy_jpeg_2000_changes_pixels_a_little_and_lossless_ones_not_at_all(mr: NDArray[np.uint16]) -> None:
    plane = mr[2].astype(np.float32)
    lossy = benign._through_jpeg2000(plane, 8.0)
    assert 0 < np.abs(lossy - plane).mean() < 20
    from openjpeg import utils

    lossless = utils.decode(utils.encode_array(mr[2], bits_stored=12))
    np.testing.assert_array_equal(lossless, mr[2])


def test_at_most_one_step_of_a_journey_changes_the_grid(mr: NDArray[np.uint16]) -> None:
    material = Material.of(mr.astype(np.float32))
    for seed in range(60):
        journey = benign.draw(material, np.random.default_rng(seed), untouched=0.0)
        assert sum(step.mask is not benign._unmoved for step in journey.steps) <= 1
        still = benign.draw(material, np.random.default_rng(seed), untouched=0.0, zoom=False)
        assert still(mr.astype(np.float32)).shape == mr.shape
