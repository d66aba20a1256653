"""Pixels mean the same whatever their depth, sign, polarity and transfer syntax; what cannot be read says why."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless, RLELossless

from inference.decoding import decode, matrix_of, refuse_unreadable
from inference.errors import (
    DamagedFile,
    IncompleteHeader,
    NotDicom,
    PixelDataTooShort,
    TooLarge,
    UndecodablePixelData,
    UnreadableInstance,
    UnsupportedImage,
)
from inference.instances import read_instance, refuse_deflated_excess
from inference.volume import read_volumes

Pixels = NDArray[np.float32]


def pixels_of(file: Path, max_voxels: int = 1 << 24) -> Pixels:
    instance = read_instance(file)
    refuse_unreadable(instance, max_voxels)
    return next(decode(instance))


@pytest.mark.real_data
def test_every_transfer_syntax_gives_equal_voxels(scanwarden_data: Path) -> None:
    files = sorted((scanwarden_data / "dicom/transfer-syntaxes").glob("*.dcm"))
    assert len(files) == 9
    first, *others = [read_volumes([file])[0].voxels for file in files]
    assert first.any()
    assert all(np.array_equal(first, other) for other in others)


@given(values=st.lists(st.integers(-(2**15), 2**15 - 1), min_size=12, max_size=12))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_signed_sixteen_bits_keep_their_sign(
    make_head: Any, write_dataset: Any, tmp_path: Path, values: list[int]
) -> None:
    stored = np.array(values, np.int16).reshape(3, 4)
    assert np.array_equal(pixels_of(write_dataset(make_head(stored), tmp_path / "signed.dcm")), stored)


def test_monochrome1_is_turned_so_that_brighter_is_more(make_head: Any, write_dataset: Any, tmp_path: Path) -> None:
    stored = np.array([[0, 1], [4000, 4095]], np.uint16)
    dataset = make_head(stored, PhotometricInterpretation="MONOCHROME1", BitsStored=12, HighBit=11)
    assert pixels_of(write_dataset(dataset, tmp_path / "m1.dcm")).tolist() == [[4095, 4094], [95, 0]]


def test_signed_monochrome1_mirrors_its_own_range(make_head: Any, write_dataset: Any, tmp_path: Path) -> None:
    stored = np.array([[-(2**15), 2**15 - 1]], np.int16)
    dataset = make_head(stored, PhotometricInterpretation="MONOCHROME1")
    assert pixels_of(write_dataset(dataset, tmp_path / "m1.dcm")).tolist() == [[2**15 - 1, -(2**15)]]


@pytest.mark.parametrize(("high", "shift"), [(11, 0), (15, 4)])
def test_twelve_bits_are_read_where_high_bit_says(
    make_head: Any, write_dataset: Any, tmp_path: Path, high: int, shift: int
) -> None:
    values = np.array([[0, 1], [2048, 4095]], np.uint16)
    rubbish = 0xF000 if high == 11 else 0x000F
    stored = (values << shift) | np.uint16(rubbish)
    file = write_dataset(make_head(stored, BitsStored=12, HighBit=high), tmp_path / "twelve.dcm")
    assert np.array_equal(pixels_of(file), values)


def test_twelve_signed_bits_keep_their_sign(make_head: Any, write_dataset: Any, tmp_path: Path) -> None:
    values = np.array([[-2048, -1], [0, 2047]], np.int16)
    dataset = make_head(values & 0x0FFF, BitsStored=12, HighBit=11, PixelRepresentation=1)
    assert np.array_equal(pixels_of(write_dataset(dataset, tmp_path / "twelve.dcm")), values)


def test_padding_becomes_the_darkest_pixel_of_the_image(make_head: Any, write_dataset: Any, tmp_path: Path) -> None:
    stored = np.array([[-2000, 5], [7, -2000]], np.int16)
    file = write_dataset(make_head(stored, PixelPaddingValue=-2000), tmp_path / "padded.dcm")
    assert pixels_of(file).tolist() == [[5, 5], [7, 5]]


def test_a_modality_lut_is_applied(make_head: Any, write_dataset: Any, tmp_path: Path) -> None:
    table = Dataset()
    table.LUTDescriptor = [3, 0, 16]
    table.ModalityLUTType = "US"
    table.add_new("LUTData", "US", [100, 50, 7])
    file = write_dataset(make_head(np.array([[0, 1, 2]], np.uint16), ModalityLUTSequence=[table]), tmp_path / "lut.dcm")
    assert pixels_of(file).tolist() == [[100, 50, 7]]


@pytest.mark.parametrize(("slope", "intercept"), [(1e308, 1e308), (0, 4)])
def test_a_rescale_that_makes_no_image_is_refused(
    make_head: Any, write_dataset: Any, tmp_path: Path, slope: float, intercept: float
) -> None:
    dataset = make_head(np.full((4, 4), 60000, np.uint16), RescaleSlope=f"{slope:g}", RescaleIntercept=f"{intercept:g}")
    with pytest.raises(UnreadableInstance, match=r"[Rr]escale"):
        pixels_of(write_dataset(dataset, tmp_path / "rescale.dcm"))


def test_pixel_data_cut_short_is_said_with_both_sizes(make_head: Any, write_dataset: Any, tmp_path: Path) -> None:
    dataset = make_head(np.ones((64, 64), np.uint16), Rows=512, Columns=512)
    with pytest.raises(PixelDataTooShort, match=r"512×512×16 bit needs 524,288; ask the sender to resend"):
        pixels_of(write_dataset(dataset, tmp_path / "short.dcm"))


def test_pixel_data_short_by_a_row_is_noticed(make_head: Any, write_dataset: Any, tmp_path: Path) -> None:
    stored = np.ones((64, 64), np.uint16)
    dataset = make_head(stored, PixelData=stored[:-1].tobytes())
    with pytest.raises(PixelDataTooShort, match="holds 8,064 bytes"):
        pixels_of(write_dataset(dataset, tmp_path / "short.dcm"))


def test_a_file_cut_in_its_pixel_data_is_noticed(make_head: Any, write_dataset: Any, tmp_path: Path) -> None:
    file = write_dataset(make_head(np.ones((64, 64), np.uint16)), tmp_path / "cut.dcm")
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(UnreadableInstance, match="resend"):
        pixels_of(file)


def test_a_claim_of_65535_rows_costs_nothing(make_head: Any, write_dataset: Any, tmp_path: Path) -> None:
    dataset = make_head(np.ones((64, 64), np.uint16), Rows=65535, Columns=65535)
    with pytest.raises(PixelDataTooShort, match="65535×65535"):
        pixels_of(write_dataset(dataset, tmp_path / "huge.dcm"))


def test_a_compressed_claim_above_the_bound_is_refused_undecoded(
    make_head: Any, write_dataset: Any, tmp_path: Path
) -> None:
    dataset = make_head(np.ones((64, 64), np.uint16), Rows=65535, Columns=65535, PixelData=encapsulate([b"\0" * 64]))
    with pytest.raises(TooLarge, match="max_voxels"):
        pixels_of(write_dataset(dataset, tmp_path / "huge.dcm", syntax=RLELossless))


def test_a_code_stream_larger_than_its_header_is_refused_undecoded(
    make_head: Any, write_dataset: Any, tmp_path: Path
) -> None:
    size = (60_000).to_bytes(4, "big")
    stream = b"\xff\x4f\xff\x51" + (41).to_bytes(2, "big") + b"\0\0" + size * 2 + b"\0" * 40
    dataset = make_head(np.ones((64, 64), np.uint16), PixelData=encapsulate([stream]))
    with pytest.raises(UndecodablePixelData, match=r"60,000×60,000, the header says 64×64"):
        pixels_of(write_dataset(dataset, tmp_path / "bomb.dcm", syntax=JPEG2000Lossless))


@pytest.mark.real_data
def test_code_streams_announce_their_matrix(scanwarden_data: Path) -> None:
    for name in ("5", "6", "7", "8", "9"):
        data = dcmread(scanwarden_data / f"dicom/transfer-syntaxes/{name}.dcm").PixelData
        start = data.find(b"\xff\x4f\xff\x51") if name == "9" else data.find(b"\xff\xd8\xff")
        assert matrix_of(data[start:]) == (384, 384)


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["4", "5", "6", "7", "8", "9"])
def test_a_code_stream_cut_short_is_never_half_an_image(scanwarden_data: Path, tmp_path: Path, name: str) -> None:
    dataset = dcmread(scanwarden_data / f"dicom/transfer-syntaxes/{name}.dcm")
    stream = next(generate_frames(dataset.PixelData, number_of_frames=1))
    dataset.PixelData = encapsulate([stream[: len(stream) * 7 // 20 * 2]])
    dataset.save_as(tmp_path / "cut.dcm")
    with pytest.raises(UndecodablePixelData, match="ask the sender to resend"):
        pixels_of(tmp_path / "cut.dcm")


@given(damaged=st.binary(max_size=200))
@settings(max_examples=50, deadline=None)
def test_no_bytes_take_the_reader_of_code_streams_down(damaged: bytes) -> None:
    for start in (b"", b"\xff\xd8", b"\xff\x4f\xff\x51"):
        matrix_of(start + damaged)


def test_a_damaged_code_stream_is_an_error_with_the_instance(
    make_head: Any, write_dataset: Any, tmp_path: Path
) -> None:
    dataset = make_head(np.ones((64, 64), np.uint16), PixelData=encapsulate([b"\x01" * 99]))
    with pytest.raises(UndecodablePixelData, match=f"{dataset.SOPInstanceUID}.*resend"):
        pixels_of(write_dataset(dataset, tmp_path / "damaged.dcm", syntax=RLELossless))


def test_a_deflated_bomb_is_counted_and_refused(make_head: Any, write_dataset: Any, tmp_path: Path) -> None:
    file = write_dataset(make_head(np.ones((512, 512), np.uint16)), tmp_path / "bomb.dcm",
                         syntax=DeflatedExplicitVRLittleEndian)  # fmt: skip
    assert file.stat().st_size < 10_000
    assert pixels_of(file).shape == (512, 512)
    with pytest.raises(TooLarge, match="deflated"):
        refuse_deflated_excess(file, 100_000)


def test_colour_is_refused_with_the_reason(make_head: Any, write_dataset: Any, tmp_path: Path) -> None:
    colour = np.zeros((8, 8 * 3), np.uint8)
    dataset = make_head(colour, Columns=8, SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0)
    with pytest.raises(UnsupportedImage, match="RGB image; only grey"):
        pixels_of(write_dataset(dataset, tmp_path / "colour.dcm"))


def test_an_image_without_pixel_data_is_refused(make_head: Any, write_dataset: Any, tmp_path: Path) -> None:
    dataset = make_head(np.zeros((4, 4), np.uint16))
    del dataset.PixelData
    dataset.add_new((0x7FE1, 0x1010), "OB", b"\0" * 64)
    with pytest.raises(IncompleteHeader, match="without whole Pixel Data"):
        pixels_of(write_dataset(dataset, tmp_path / "empty.dcm"))


def test_a_data_set_without_uids_says_which(make_head: Any, write_dataset: Any, tmp_path: Path) -> None:
    dataset = make_head(np.zeros((4, 4), np.uint16), StudyInstanceUID=None, SeriesInstanceUID=None)
    with pytest.raises(IncompleteHeader, match="SeriesInstanceUID, StudyInstanceUID is absent"):
        read_instance(write_dataset(dataset, tmp_path / "nameless.dcm"))


def test_a_text_file_is_not_dicom(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# not an image\n" * 40)
    with pytest.raises(NotDicom, match=r"README\.md: not a DICOM file"):
        read_instance(tmp_path / "README.md")


@given(cut=st.integers(0, 700), flips=st.lists(st.tuples(st.integers(132, 700), st.integers(0, 255)), max_size=6))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_header_is_an_error_of_ours_or_an_image(
    make_head: Any, write_dataset: Any, tmp_path: Path, cut: int, flips: list[tuple[int, int]]
) -> None:
    file = write_dataset(make_head(np.ones((16, 16), np.uint16)), tmp_path / "damaged.dcm")
    content = bytearray(file.read_bytes())
    for at, value in flips:
        content[at] = value
    file.write_bytes(content[: len(content) - cut])
    try:
        found = pixels_of(file)
    except UnreadableInstance:
        return
    assert np.isfinite(found).all()


def test_a_deflated_data_set_that_is_damaged_says_so(tmp_path: Path, make_head: Any, write_dataset: Any) -> None:
    file = write_dataset(make_head(np.ones((64, 64), np.uint16)), tmp_path / "deflated.dcm",
                         syntax=DeflatedExplicitVRLittleEndian)  # fmt: skip
    content = file.read_bytes()
    start = 144 + int.from_bytes(content[140:144], "little")  # preamble, prefix, group length and what it counts
    file.write_bytes(content[:start] + b"\xff" * (len(content) - start))
    with pytest.raises(DamagedFile, match="resend"):
        read_instance(file)


@pytest.mark.timeout(30)
def test_attack_bytes_after_the_end_of_a_deflated_data_set_hold_up_nobody(
    make_head: Any, write_dataset: Any, tmp_path: Path
) -> None:
    """zlib gives back what follows its end again and again, once the output came in more than one piece."""
    file = write_dataset(make_head(np.zeros((1200, 1200), np.uint16)), tmp_path / "tail.dcm",
                         syntax=DeflatedExplicitVRLittleEndian)  # fmt: skip
    file.write_bytes(file.read_bytes() + bytes(7))
    assert read_instance(file).rows == 1200
