"""Plain files: what is read of a picture or NIfTI volume, what is refused, and why."""

import gzip
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib import get_data_path
from PIL import Image

from inference.errors import InferenceError, TooLarge, UnreadablePicture
from inference.pictures import Kind, Pixels, read_pixels, sort_files
from inference.pictures.kinds import kind_of
from tests.inference.pictures.conftest import Grey
from tests.plain_files import saved

MAX = 4096 * 4096


def read(path: Path, limit: int = MAX) -> Pixels:
    return read_pixels(path, kind_of(path), limit)


@pytest.mark.parametrize("suffix", ["png", "webp", "bmp", "tif"])
def test_a_lossless_picture_is_read_to_the_pixel_whatever_its_coding(tmp_path: Path, grey: Grey, suffix: str) -> None:
    path = saved(tmp_path / f"a.{suffix}", grey, **({"lossless": True} if suffix == "webp" else {}))
    pixels = read(path)
    assert np.array_equal(pixels.voxels[0], grey)
    assert (pixels.doubts, pixels.gaps, pixels.is_shown) == ((), (), True)


def test_depth_palette_alpha_and_equal_channels_are_one_grey_picture(tmp_path: Path, grey: Grey) -> None:
    deep = read(saved(tmp_path / "deep.png", grey.astype(np.uint16) * 200))
    assert np.array_equal(deep.voxels[0], grey.astype(np.float32) * 200)
    assert not deep.is_shown
    assert np.array_equal(read(saved(tmp_path / "rgb.png", np.dstack([grey] * 3))).voxels[0], grey)
    assert np.array_equal(read(saved(tmp_path / "p.png", Image.fromarray(grey).convert("P"))).voxels[0], grey)
    alpha = read(saved(tmp_path / "a.png", np.dstack([grey, grey, grey, np.full_like(grey, 9)])))
    assert np.array_equal(alpha.voxels[0], grey)
    assert alpha.notes == ("its transparency was ignored",)


def test_a_jpeg_is_read_as_its_luminance_and_is_less_evidence(tmp_path: Path, grey: Grey) -> None:
    one = read(saved(tmp_path / "l.jpg", grey, quality=90))
    three = read(saved(tmp_path / "rgb.jpg", np.dstack([grey] * 3), quality=90))
    assert np.array_equal(one.voxels, three.voxels)
    assert one.doubts == ("lossy JPEG compression",)


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def test_a_picture_of_too_many_pixels_is_refused_by_its_header(tmp_path: Path) -> None:
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    path = tmp_path / "bomb.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(b"\0" * 9999)))
    with pytest.raises(TooLarge, match="more pixels"):
        read(path)
    with pytest.raises(TooLarge, match=r"64×80 is more than 5,000"):
        read(saved(tmp_path / "small.png", np.zeros((64, 80), np.uint8)), 5_000)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_a_cut_picture_is_named_as_damaged(tmp_path: Path, grey: Grey, suffix: str) -> None:
    path = saved(tmp_path / f"a.{suffix}", np.tile(grey, (4, 4)))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UnreadablePicture, match="copy or export it again"):
        read(path)


def test_several_pictures_in_one_file_are_not_judged_by_the_first(tmp_path: Path, grey: Grey) -> None:
    first, second = Image.fromarray(grey), Image.fromarray(grey[::-1])
    for name in ("pages.tif", "moving.png", "moving.webp"):
        with pytest.raises(UnreadablePicture, match="holds 2 pictures"):
            read(saved(tmp_path / name, first, save_all=True, append_images=[second]))


def test_colour_is_refused_and_a_name_alone_makes_no_picture(tmp_path: Path) -> None:
    with pytest.raises(UnreadablePicture, match="a colour picture"):
        read(Path(get_data_path()) / "sample_data" / "grace_hopper.jpg")
    for name, content, reason in (("a.png", b"hello", "not what its name says"), ("b.nii", b"", "the file is empty")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UnreadablePicture, match=reason):
            read(tmp_path / name)


def test_content_sorts_files_and_not_their_names(
    tmp_path: Path, grey: Grey, write_series: Any, brain: Any, nifti: Any
) -> None:
    (instance,) = write_series(brain[:1])
    dicom = instance.rename(tmp_path / "instance.png")
    picture = saved(tmp_path / "picture", grey, format="png")
    (tmp_path / "note.txt").write_text("a note")
    volume = nifti(np.zeros((4, 4, 4), np.int16)).rename(tmp_path / "volume")
    found = sort_files([dicom, picture, tmp_path / "note.txt", volume])
    assert found.dicom == [dicom]
    assert found.plain == [(picture, Kind.PNG), (volume, Kind.NIFTI)]
    assert found.strangers == [tmp_path / "note.txt"]


def test_a_volume_is_cut_where_the_scanner_cut_it_and_a_mask_finds_back(nifti: Any) -> None:
    x, y, z = np.meshgrid(np.arange(6), np.arange(7), np.arange(5), indexing="ij")
    stored = (x + 10 * y + 100 * z).astype(np.int16)
    pixels = read(nifti(stored))  # RAS: anterior and the patient's right are the high ends
    assert pixels.spacing == pytest.approx((4.0, 0.9, 0.8))
    assert pixels.voxels.shape == (5, 7, 6)
    assert pixels.voxels[1, 0, 0] == 100 + 10 * 6 + 5  # foot to head, anterior up, the patient's right on the left
    assert pixels.placement is not None
    assert np.array_equal(pixels.placement.back(pixels.voxels), stored)
    sagittal = read(nifti(stored, affine=np.diag([4.0, 0.9, 0.8, 1.0])))
    assert sagittal.voxels.shape == (6, 5, 7)
    assert sagittal.voxels[0, 0, 0] == 5 + 10 * 6 + 100 * 4
    assert sagittal.placement is not None
    assert np.array_equal(sagittal.placement.back(sagittal.voxels), stored)


def test_scale_holes_and_further_volumes_of_a_nifti_are_told(nifti: Any) -> None:
    stored = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)
    scaled = read(nifti(stored, slope=(112, struct.pack("<2f", 2.0, -7.0))))
    assert np.array_equal(np.sort(scaled.voxels, axis=None), np.arange(120) * 2.0 - 7)
    holes = stored.astype(np.float32)
    holes[0, 0, :] = np.nan
    found = read(nifti(holes))
    assert np.isfinite(found.voxels).all()
    assert found.doubts == ("5.0% of its voxels are no numbers",)
    series = read(nifti(np.stack([stored] * 3, axis=-1), "four.nii"))
    assert series.voxels.size == 120
    assert series.gaps == ("2 more volumes of a 4D file; only the first was read",)


@pytest.mark.parametrize(
    ("place", "content", "reason"),
    [
        (40, struct.pack("<8h", 3, -4, 5, 6, 1, 1, 1, 1), "gives the dimensions"),
        (40, struct.pack("<8h", 77, 4, 5, 6, 1, 1, 1, 1), "gives the dimensions"),
        (40, struct.pack("<8h", 3, 32767, 32767, 32767, 1, 1, 1, 1), "more than 16,777,216 voxels"),
        (40, struct.pack("<8h", 3, 4, 5, 60, 1, 1, 1, 1), "ends before its last voxel"),
        (70, struct.pack("<h", 128), "data type 128"),
        (108, struct.pack("<f", 1e30), "puts the voxels at byte 1e"),
        (108, struct.pack("<f", float("nan")), "puts the voxels at byte nan"),
        (344, b"ni1\0", "pair"),
    ],
)
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_a_nifti_header_that_makes_no_sense_is_refused(
    nifti: Any, name: str, place: int, content: bytes, reason: str
) -> None:
    path = nifti(np.zeros((4, 5, 6), np.int16), name, changed=(place, content))
    with pytest.raises(InferenceError, match=reason):
        read(path)


def test_as_much_is_inflated_as_the_header_promises_and_no_more(
    nifti: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = nifti(np.arange(120, dtype=np.int16).reshape(4, 5, 6))
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()) + bytes(64 << 20)))
    inflated = 0
    whole = gzip.GzipFile.read

    def counting(self: Any, size: int | None = -1) -> bytes:
        nonlocal inflated
        content = whole(self, size)
        inflated += len(content)
        return content

    monkeypatch.setattr(gzip.GzipFile, "read", counting)
    assert read(path).voxels.size == 120
    assert inflated < 1 << 20


def test_senseless_spacing_and_orientation_are_unknown_and_not_invented(nifti: Any) -> None:
    nowhere = (252, struct.pack("<2h", 0, 0))
    path = nifti(np.zeros((4, 5, 6), np.int16), a=nowhere, b=(76, struct.pack("<4f", 1, -1, 0, float("nan"))))
    pixels = read(path)
    assert pixels.spacing is None
    assert pixels.notes == ("its header does not say how it lies in the patient", "its header gives no usable spacing")


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path, known_cube: Any) -> None:
    path = tmp_path / "a.png"
    path.symlink_to(tmp_path / "gone.png")
    assert kind_of(path) is Kind.PRETENDER
    with pytest.raises(UnreadablePicture, match="cannot be read"):
        read(path)
