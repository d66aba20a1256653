"""Pictures and NIfTI volumes as files, for tests of what is read of them and what is said about them."""

import gzip
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray
from PIL import Image

AFFINE = np.diag([0.8, 0.9, 4.0, 1.0])


def saved(path: Path, pixels: NDArray[Any] | Image.Image, **options: Any) -> Path:
    """A picture in the format that the name or `options` say."""
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(path, **options)
    return path


def nifti_file(path: Path, voxels: NDArray[Any], affine: Any = None, **header: tuple[int, bytes]) -> Path:
    """A volume (x, y, z), compressed where the name says so; `header` changes fields of its header by their offset."""
    image: Any = nibabel.Nifti1Image
    raw = bytearray(image(voxels, AFFINE if affine is None else affine).to_bytes())
    for place, content in header.values():
        raw[place : place + len(content)] = content
    path.write_bytes(gzip.compress(bytes(raw)) if path.name.endswith(".gz") else bytes(raw))
    return path


def interpolated(noise: NDArray[Any]) -> NDArray[np.uint16]:
    """Each slice with zeros around its k-space: twice the matrix, and no detail more."""
    space = np.fft.fftshift(np.fft.fft2(noise.astype(float)), axes=(1, 2))
    rows, columns = noise.shape[1] // 2, noise.shape[2] // 2
    filled = np.pad(space, ((0, 0), (rows, rows), (columns, columns)))
    return np.asarray(4 * np.abs(np.fft.ifft2(np.fft.ifftshift(filled, axes=(1, 2)))), np.uint16)
