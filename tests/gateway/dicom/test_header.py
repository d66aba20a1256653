"""Reading headers: the values that pydicom reads, in every encoding, and no cut that goes unseen."""

import zlib
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate
from pydicom.filereader import read_file_meta_info
from pydicom.sequence import Sequence
from pynetdicom.dsutils import encode

from gateway.dicom.header import Header, MoreNeeded, is_uid, pixel_bytes_needed, read_header
from gateway.dicom.refusals import (
    DataSetMalformed,
    DataSetTruncated,
    InstanceTooLarge,
    RefusedInstance,
    UidInvalid,
    UidMismatch,
)
from tests.gateway.dicom.conftest import mr_image
from tests.gateway.dicom.test_receiving import data_set_bytes

IMPLICIT, EXPLICIT, BIG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
DEFLATED, JPEG = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.70"


def rich(undefined_length: bool = False) -> Dataset:
    """An image with nested sequences, private elements and text."""
    inner = Dataset()
    inner.StudyInstanceUID = "1.2.3"
    inner.PixelData = b"\1\2\3\4"
    inner["PixelData"].VR = "OW"
    outer = Dataset()
    outer.ReferencedImageSequence = Sequence([inner, inner])
    image = mr_image(SOPInstanceUID="1.2.3.4", StudyInstanceUID="1.2.3.5", SeriesInstanceUID="1.2.3.6")
    image.ReferencedStudySequence = Sequence([outer])
    image.private_block(0x0009, "MAKER", create=True).add_new(1, "UN", b"private!")
    image.ImageComments = "x" * 999
    if undefined_length:
        for sequence in (image["ReferencedStudySequence"], outer["ReferencedImageSequence"]):
            sequence.is_undefined_length = True
        for item in (outer, inner):
            item.is_undefined_length_sequence_item = True
    return image


def as_bytes(image: Dataset, syntax: str) -> bytes:
    for element in image.iterall():
        if element.keyword == "PixelData":
            element.VR = "OW"
    data = encode(image, is_implicit_vr=syntax == IMPLICIT, is_little_endian=syntax != BIG)
    assert data is not None
    if syntax == DEFLATED:
        stream = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        return stream.compress(data) + stream.flush()
    return data


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG, DEFLATED])
@pytest.mark.parametrize("undefined_length", [False, True])
def test_every_encoding_reads_the_same(syntax: str, undefined_length: bool) -> None:
    image = rich(undefined_length)
    header = read_header(as_bytes(image, syntax), syntax)
    assert header.text(0x0020000D) == image.StudyInstanceUID
    assert header.text(0x00080018) == image.SOPInstanceUID
    assert header.number(0x00280010) == 8
    assert header.pixel_bytes == pixel_bytes_needed(header) == 128
    assert not header.encapsulated


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG])
@pytest.mark.parametrize("undefined_length", [False, True])
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_cut_passes_for_a_whole_image(syntax: str, undefined_length: bool, data: st.DataObject) -> None:
    """A cut between two elements cannot be seen, but then the pixel data are missing."""
    whole = as_bytes(rich(undefined_length), syntax)
    kept = data.draw(st.integers(0, len(whole) - 1))
    try:
        header = read_header(whole[:kept], syntax)
    except (DataSetTruncated, DataSetMalformed):
        return
    assert header.pixel_bytes is None


def test_encapsulated_frames_are_counted_and_a_cut_is_seen() -> None:
    image = mr_image(PixelData=encapsulate([b"\1" * 10, b"\2" * 20]))
    image["PixelData"].is_undefined_length = True
    data = encode(image, is_implicit_vr=False, is_little_endian=True)
    assert data is not None
    header = read_header(data, JPEG)
    assert header.encapsulated
    assert header.pixel_bytes == 8 + 10 + 20  # the offset table is an item too
    with pytest.raises(DataSetTruncated):
        read_header(data[:-12], JPEG)
    assert read_header(data[:-8], JPEG).pixel_bytes == 38, "a missing delimiter alone loses nothing"


def test_a_deflated_bomb_is_not_inflated_beyond_the_limit() -> None:
    bomb = as_bytes(mr_image(PixelData=bytes(80_000_000)), DEFLATED)
    assert len(bomb) < 1_000_000
    with pytest.raises(InstanceTooLarge):
        read_header(bomb, DEFLATED, max_inflated=70_000_000)
    assert read_header(bomb, DEFLATED).pixel_bytes == 80_000_000


def test_a_deflated_data_set_that_was_cut_is_seen() -> None:
    whole = as_bytes(mr_image(), DEFLATED)
    with pytest.raises(DataSetTruncated):
        read_header(whole[:-5], DEFLATED)
    with pytest.raises(DataSetMalformed):
        read_header(b"\xff" * 100, DEFLATED)


def told_by(data: bytes, syntax: str, total: int | None = None) -> object:
    """What a walk comes to: a header or a refusal, as something that can be compared."""
    try:
        return read_header(data, syntax, total=total)
    except RefusedInstance as refusal:
        return type(refusal), str(refusal)


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG, DEFLATED])
@pytest.mark.parametrize("undefined_length", [False, True])
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_the_beginning_tells_what_the_whole_would_or_asks_for_more(
    syntax: str, undefined_length: bool, data: st.DataObject
) -> None:
    whole = bytearray(as_bytes(rich(undefined_length), syntax))
    if data.draw(st.booleans()):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    whole = whole[: len(whole) - data.draw(st.sampled_from([0, 0, 1, 9, 400]))]
    head = bytes(whole[: data.draw(st.integers(0, len(whole)))])
    with suppress(MoreNeeded):
        assert told_by(head, syntax, len(whole)) == told_by(bytes(whole), syntax)


def test_the_beginning_of_a_plain_image_suffices() -> None:
    whole = as_bytes(mr_image(Rows=256, Columns=256, PixelData=bytes(131072)), EXPLICIT)
    assert read_header(whole[:4096], EXPLICIT, total=len(whole)).pixel_bytes == 131072


@settings(max_examples=150, deadline=None)
@given(data=st.binary(max_size=2000), syntax=st.sampled_from([IMPLICIT, EXPLICIT, BIG, DEFLATED, JPEG]))
def test_bytes_from_nowhere_end_in_a_header_or_a_refusal(data: bytes, syntax: str) -> None:
    with suppress(RefusedInstance):
        assert isinstance(read_header(data, syntax), Header)


@settings(max_examples=100, deadline=None)
@given(place=st.integers(0, 1500), change=st.binary(min_size=1, max_size=8))
def test_a_damaged_header_ends_in_a_header_or_a_refusal(place: int, change: bytes) -> None:
    whole = bytearray(as_bytes(rich(undefined_length=True), EXPLICIT))
    whole[place : place + len(change)] = change
    with suppress(RefusedInstance):
        read_header(bytes(whole), EXPLICIT)


@pytest.mark.parametrize(
    ("values", "needed"),
    [
        ({}, 128),
        ({"NumberOfFrames": 10}, 1280),
        ({"BitsAllocated": 8, "SamplesPerPixel": 3}, 192),
        ({"BitsAllocated": 8, "SamplesPerPixel": 3, "PhotometricInterpretation": "YBR_FULL_422"}, 128),
        ({"BitsAllocated": 1, "Rows": 3, "Columns": 3}, 2),
        ({"BitsAllocated": 32}, 256),
        ({"Rows": 65535, "Columns": 65535}, 8_589_672_450),
        ({"Rows": None}, None),
    ],
)
def test_the_bytes_that_pixels_need(values: dict[str, int | str | None], needed: int | None) -> None:
    assert pixel_bytes_needed(read_header(as_bytes(mr_image(**values), EXPLICIT), EXPLICIT)) == needed


@pytest.mark.parametrize("uid", ["1", "1.2.840.10008", "0.0.0", "2.25." + "9" * 39, "1.02.3"])
def test_a_uid_is_digits_and_dots(uid: str) -> None:
    assert is_uid(uid)


@pytest.mark.parametrize("uid", ["", ".", "1.", ".1", "1..2", "1.2a", "1.2\n", "١.٢", "1." * 32 + "1", "../1", "1\\2"])
def test_anything_else_is_none(uid: str) -> None:
    assert not is_uid(uid)


def test_what_goes_to_the_sender_fits_and_holds_nothing_of_the_data() -> None:
    for refusal in (UidInvalid("SOPInstanceUID", "Secret^Patient" * 99), UidMismatch("SOPClassUID", present=True)):
        assert len(refusal.comment) <= 64
        assert "Secret" not in refusal.comment


@pytest.mark.real_data
def test_real_images_read_as_pydicom_reads_them(scanwarden_data: Path) -> None:
    for path in sorted((scanwarden_data / "dicom").rglob("*.dcm"))[::7]:
        image = dcmread(path, stop_before_pixels=True)
        header = read_header(data_set_bytes(path), str(read_file_meta_info(path).TransferSyntaxUID))
        assert header.text(0x00080018) == image.SOPInstanceUID
        assert header.text(0x0020000E) == image.SeriesInstanceUID
        assert header.number(0x00280011) == image.Columns
        assert header.pixel_bytes
