"""A pixel digest survives every lossless change of form, and no change of a pixel or its place."""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset, FileDataset, dcmread, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    UID,
    EnhancedMRImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLosslessSV1,
    MRImageStorage,
    RLELossless,
)

from storage import PixelsUnreadable
from storage.digests import content_digest, decoding_plugin, file_digest, pixel_digest

ARRAY = np.arange(12 * 16, dtype=np.uint16).reshape(12, 16)


def image(array: NDArray[Any] = ARRAY, **elements: Any) -> FileDataset:
    """An MR image in Explicit VR Little Endian, as it looks after reading."""
    dataset = FileDataset("", Dataset(), file_meta=FileMetaDataset())
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.Modality = MRImageStorage, "1.2.3", "MR"
    dataset.FrameOfReferenceUID = "1.2.4"
    dataset.ImagePositionPatient, dataset.ImageOrientationPatient = [0, 1.5, -3], [1, 0, 0, 0, 1, 0]
    dataset.PixelSpacing = [0.5, 0.5]
    photometric = "RGB" if array.ndim == 3 else "MONOCHROME2"
    dataset.set_pixel_data(array, photometric, 8 * array.dtype.itemsize, generate_instance_uid=False)
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


def digest(dataset: Dataset) -> str:
    found = pixel_digest(dataset)
    assert found is not None
    return found


def written(dataset: FileDataset, path: Path, syntax: UID) -> FileDataset:
    """`dataset` uncompressed in another transfer syntax, written and read again."""
    again = deepcopy(dataset)
    again.file_meta.TransferSyntaxUID = syntax
    if syntax == ExplicitVRBigEndian and again.BitsAllocated == 16 and "PixelData" in again:
        again.PixelData = np.frombuffer(again.PixelData, "<u2").astype(">u2").tobytes()
    little = syntax != ExplicitVRBigEndian
    dcmwrite(path, again, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=little, enforce_file_format=False)
    return dcmread(path, force=True)


@pytest.mark.real_data
def test_the_transfer_syntax_fixtures_have_one_digest(scanwarden_data: Path) -> None:
    paths = sorted((scanwarden_data / "dicom" / "transfer-syntaxes").glob("*.dcm"))
    assert len({dcmread(path).file_meta.TransferSyntaxUID for path in paths}) == 7
    assert len({file_digest(path) for path in paths}) == 9
    assert len({digest(dcmread(path)) for path in paths}) == 1


@pytest.mark.real_data
def test_real_slices_have_digests_of_their_own(scanwarden_data: Path) -> None:
    paths = sorted((scanwarden_data / "dicom" / "flair-glioma").rglob("*.dcm"))[:60]
    assert len({digest(dcmread(path)) for path in paths}) == len(paths)


def test_jpeg_needs_no_decoder_under_gpl() -> None:
    assert decoding_plugin(JPEGLosslessSV1) == "gdcm"
    assert "gdcm" in get_decoder(JPEGLosslessSV1).available_plugins


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, ExplicitVRLittleEndian])
@pytest.mark.parametrize("array", [ARRAY, ARRAY.astype(np.int16), (ARRAY % 256).astype(np.uint8)])
def test_an_uncompressed_change_of_form_changes_nothing(tmp_path: Path, syntax: UID, array: NDArray[Any]) -> None:
    dataset = image(array)
    assert digest(written(dataset, tmp_path / "1.dcm", syntax)) == digest(dataset)


@pytest.mark.parametrize(
    "array", [ARRAY, np.stack([ARRAY % 256, ARRAY // 2 % 256, ARRAY * 3 % 256], 2).astype(np.uint8)]
)
def test_run_lengths_change_nothing(array: NDArray[Any]) -> None:
    dataset, packed = image(array), image(array)
    packed.compress(RLELossless, generate_instance_uid=False)
    assert digest(packed) == digest(dataset)


def test_the_order_of_colour_planes_changes_nothing() -> None:
    array = np.arange(12 * 16 * 3, dtype=np.uint16).reshape(12, 16, 3).astype(np.uint8)
    by_pixel, by_plane = image(array), image(array)
    by_plane.PlanarConfiguration = 1
    by_plane.PixelData = np.ascontiguousarray(array.transpose(2, 0, 1)).tobytes()
    assert digest(by_plane) == digest(by_pixel)


def test_numbers_written_in_another_way_change_nothing() -> None:
    other = image(ImagePositionPatient=["0.0", "1.500", "-3e0"], ImageOrientationPatient=[1, "-1e-17", 0, 0, 1.0, 0])
    assert digest(other) == digest(image())
    assert digest(image(RescaleSlope=1, RescaleIntercept=0)) == digest(image())


def test_what_the_image_does_not_show_changes_nothing() -> None:
    assert digest(image(PatientName="Doe^Jane", SOPInstanceUID="1.9", WindowCenter=40)) == digest(image())


def one_pixel(dataset: FileDataset) -> None:
    array = ARRAY.copy()
    array[3, 4] += 1
    dataset.PixelData = array.tobytes()


def transposed(dataset: FileDataset) -> None:
    dataset.Rows, dataset.Columns = dataset.Columns, dataset.Rows


CHANGES: dict[str, Callable[[FileDataset], None]] = {
    "a pixel": one_pixel,
    "position": lambda d: setattr(d, "ImagePositionPatient", [0, 1.50001, -3]),
    "orientation": lambda d: setattr(d, "ImageOrientationPatient", [-1, 0, 0, 0, 1, 0]),
    "spacing": lambda d: setattr(d, "PixelSpacing", [0.5, 0.6]),
    "frame of reference": lambda d: setattr(d, "FrameOfReferenceUID", "1.2.5"),
    "slope": lambda d: setattr(d, "RescaleSlope", 2),
    "intercept": lambda d: setattr(d, "RescaleIntercept", -1024),
    "matrix": transposed,
    "signedness": lambda d: setattr(d, "PixelRepresentation", 1),
    "photometric": lambda d: setattr(d, "PhotometricInterpretation", "MONOCHROME1"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_what_is_shown_or_where_changes_the_digest(change: str) -> None:
    dataset = image()
    CHANGES[change](dataset)
    assert digest(dataset) != digest(image())


def multi_frame(positions: list[list[float]], slope: float = 1.0) -> FileDataset:
    dataset = image(SOPClassUID=EnhancedMRImageStorage)
    del dataset.ImagePositionPatient, dataset.ImageOrientationPatient, dataset.PixelSpacing
    dataset.set_pixel_data(np.stack([ARRAY] * len(positions)), "MONOCHROME2", 16)
    shared, measures, values = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, values.RescaleSlope, values.RescaleIntercept = [0.5, 0.5], slope, 0
    shared.PixelMeasuresSequence, shared.PixelValueTransformationSequence = [measures], [values]
    dataset.SharedFunctionalGroupsSequence = [shared]
    dataset.PerFrameFunctionalGroupsSequence = []
    for position in positions:
        frame, plane = Dataset(), Dataset()
        plane.ImagePositionPatient = position
        frame.PlanePositionSequence = [plane]
        dataset.PerFrameFunctionalGroupsSequence.append(frame)
    return dataset


def test_the_place_and_rescale_of_every_frame_count() -> None:
    made = [
        multi_frame([[0, 0, 0], [0, 0, 1]]),
        multi_frame([[0, 0, 0], [0, 0, 2]]),
        multi_frame([[0, 0, 1], [0, 0, 0]]),
        multi_frame([[0, 0, 0], [0, 0, 1]], slope=2.0),
        multi_frame([[0, 0, 0], [0, 0, 1], [0, 0, 2]]),
    ]
    assert len({digest(each) for each in made}) == len(made)
    assert digest(multi_frame([[0, 0, 0], [0, 0, 1]])) == digest(made[0])


def test_bytes_that_are_missing_are_named_with_what_to_do() -> None:
    dataset = image(Rows=65_535)
    with pytest.raises(PixelsUnreadable, match=r"instance 1\.2\.3: .*ask the sender") as refusal:
        pixel_digest(dataset)
    assert refusal.value.dicom_status == 0xC000


def test_bytes_that_are_no_image_are_unreadable() -> None:
    dataset = image()
    dataset.compress(RLELossless, generate_instance_uid=False)
    dataset.PixelData = dataset.PixelData[:40] + b"\xff" * (len(dataset.PixelData) - 40)
    with pytest.raises(PixelsUnreadable):
        pixel_digest(dataset)


def test_an_instance_without_pixels_is_compared_by_its_elements(tmp_path: Path) -> None:
    report = image()
    del report.PixelData
    assert pixel_digest(report) is None
    assert content_digest(written(report, tmp_path / "1.dcm", ImplicitVRLittleEndian)) == content_digest(report)
    assert content_digest(written(report, tmp_path / "2.dcm", ExplicitVRBigEndian)) == content_digest(report)
    other = deepcopy(report)
    other.PixelSpacing = [0.5, 0.7]
    assert content_digest(other) != content_digest(report)
    assert content_digest(image()) == pixel_digest(image())
