"""Pictures and NIfTI volumes decoded in a process of their own: the same pixels, and faults that cost one file."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from PIL import Image

from gateway.decoding import DecodingProcess
from inference.errors import TooLarge, UnreadablePicture
from inference.pictures import Kind, read_pixels

GIB = 1024**3
MAX = 1 << 26


@pytest.fixture(scope="module")
def decoding() -> Iterator[DecodingProcess]:
    with DecodingProcess(memory_limit=GIB, timeout=60) as process:
        yield process


def test_a_file_decodes_over_there_as_here(decoding: DecodingProcess, tmp_path: Path) -> None:
    values = np.random.default_rng(1).integers(0, 255, (60, 70, 5), np.uint8)
    Image.fromarray(values[..., 0]).save(tmp_path / "a.jpg")
    image: Any = nibabel.Nifti1Image
    holes = values.astype(np.float32)
    holes[0] = np.nan
    nibabel.save(image(holes, np.diag([1.0, 1.0, 3.0, 1.0])), tmp_path / "a.nii.gz")
    for name, kind in (("a.jpg", Kind.JPEG), ("a.nii.gz", Kind.NIFTI)):
        here, there = read_pixels(tmp_path / name, kind, MAX), decoding.pixels(tmp_path / name, kind, MAX)
        assert np.array_equal(here.voxels, there.voxels)
        assert here.doubts
        for fact in ("spacing", "is_shown", "notes", "gaps", "doubts", "placement"):
            assert getattr(here, fact) == getattr(there, fact)


def test_what_is_wrong_with_a_file_is_told_over_here(decoding: DecodingProcess, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.zeros((50, 60), np.uint8)).save(path)
    with pytest.raises(TooLarge, match="50×60 is more than 100 pixels"):
        decoding.pixels(path, Kind.PNG, 100)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(UnreadablePicture, match=r"a\.png"):
        decoding.pixels(path, Kind.PNG, MAX)


def test_a_file_that_needs_more_memory_than_allowed_costs_the_process_and_no_one_else(
    decoding: DecodingProcess, tmp_path: Path
) -> None:
    large, small = tmp_path / "large.png", tmp_path / "small.png"
    Image.fromarray(np.zeros((13_000, 13_000), np.uint8)).save(large, compress_level=1)
    Image.fromarray(np.arange(2500, dtype=np.uint8).reshape(50, 50)).save(small)
    with pytest.raises(UnreadablePicture, match="needs more than"):
        decoding.pixels(large, Kind.PNG, 1 << 30)
    assert decoding.pixels(small, Kind.PNG, MAX).voxels.shape == (1, 50, 50)
