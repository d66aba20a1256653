import cv2
import numpy as np
from numpy.typing import NDArray

from models.images.fineness import LEAST, coarser, fineness


def textured(rows: int = 160, columns: int = 128) -> NDArray[np.uint8]:
    rng = np.random.default_rng(4)
    smooth = cv2.GaussianBlur(rng.standard_normal((rows, columns)), (0, 0), 2.0)
    return np.clip(128 + 300 * smooth + 12 * rng.standard_normal((rows, columns)), 0, 255).astype(np.uint8)


def test_an_image_that_fills_its_matrix_stays_as_it_is() -> None:
    image = textured()
    assert fineness(image) > LEAST
    assert list(coarser(image)) == []


def test_an_interpolated_image_is_brought_back_to_the_matrix_that_it_fills() -> None:
    image = textured()
    for more in (64, 90):  # zeros on each side of its k-space
        space = np.pad(np.fft.fftshift(np.fft.fft2(image)), more)
        gain = space.size / image.size
        wide = np.clip(gain * np.abs(np.fft.ifft2(np.fft.ifftshift(space))), 0, 255).astype(np.uint8)
        assert fineness(wide) < LEAST
        smaller = list(coarser(wide))
        assert smaller[-1].dtype == image.dtype
        assert fineness(smaller[-1]) >= LEAST
        assert all(fineness(each) < LEAST for each in smaller[:-1])
        assert smaller[-1].shape[0] >= 0.7 * image.shape[0]


def test_tiny_and_constant_images_come_to_an_end() -> None:
    assert list(coarser(np.zeros((32, 400), np.uint8))) == []
    assert all(min(each.shape) >= 64 for each in coarser(np.zeros((300, 300), np.uint16)))
