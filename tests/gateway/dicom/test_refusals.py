"""Bad input costs only its sender: a status with a reason, an audit event, nothing kept, the association lives."""

import json
import struct
from io import BytesIO
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import generate_uid
from pynetdicom.dimse_primitives import C_FIND

from storage import AuditEventType
from tests.gateway.dicom.conftest import MR_IMAGE, Gateway, Modality, encoded, mr_image


def refused(gateway: Gateway, modality: Modality, data: bytes, uid: str, **options: Any) -> tuple[int, str, str]:
    """Send bad data; check what holds for every refusal; status, comment and the ledger's reason."""
    status, comment = modality.send(data, uid, **options)
    assert status != 0
    assert comment
    assert gateway.files() == []
    assert gateway.instances() == []
    (event,) = gateway.events(AuditEventType.INSTANCE_REFUSED)
    details = json.loads(event.details)
    assert details["status"] == f"0x{status:04X}"
    assert "Secret" not in event.details
    good = mr_image()
    assert modality.store(good) == (0, ""), "the association does not go on"
    assert [i.sop_instance_uid for i in gateway.instances()] == [good.SOPInstanceUID]
    return status, comment, details["reason"]


def test_a_data_set_without_uids_is_refused(gateway: Gateway, modality: Modality) -> None:
    image = mr_image(SOPClassUID=None, SOPInstanceUID=None, StudyInstanceUID=None, SeriesInstanceUID=None)
    assert refused(gateway, modality, encoded(image), generate_uid()) == (
        0xA900,
        "SOPClassUID of data set is missing",
        "uid_mismatch",
    )


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID"])
def test_an_instance_without_a_study_or_series_is_refused(gateway: Gateway, modality: Modality, keyword: str) -> None:
    image = mr_image(**{keyword: None})
    status, comment, _ = refused(gateway, modality, encoded(image), str(image.SOPInstanceUID))
    assert (status, comment) == (0xC000, f"{keyword} is missing")


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI:UserWarning", "ignore:The value length:UserWarning")
@pytest.mark.parametrize("uid", ["../../etc/passwd", "1.2/../3", "1.2.x", "1." * 40 + "1", ""])
def test_a_study_uid_that_is_no_uid_is_refused(gateway: Gateway, modality: Modality, uid: str) -> None:
    image = mr_image(StudyInstanceUID=uid)
    status, _, reason = refused(gateway, modality, encoded(image), str(image.SOPInstanceUID))
    assert (status, reason) == (0xC000, "parent_uid_unusable")


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI:UserWarning", "ignore:The value length:UserWarning")
@pytest.mark.parametrize("uid", ["../../../tmp/x", "1.2.840\\..\\..", "1.2.3.abc", "9" * 65, "1." * 60 + "1"])
def test_attack_an_instance_uid_that_is_a_path_is_refused(gateway: Gateway, modality: Modality, uid: str) -> None:
    image = mr_image(SOPInstanceUID=uid)
    status, comment, reason = refused(gateway, modality, encoded(image), uid)
    assert (status, reason) == (0xA900, "uid_invalid")
    assert uid not in comment


@pytest.mark.parametrize("keyword", ["SOPInstanceUID", "SOPClassUID"])
def test_a_data_set_that_differs_from_its_command_is_refused(
    gateway: Gateway, modality: Modality, keyword: str
) -> None:
    image = mr_image()
    uid = str(image.SOPInstanceUID)
    setattr(image, keyword, "1.2.840.10008.5.1.4.1.1.2")
    status, comment, _ = refused(gateway, modality, encoded(image), uid)
    assert (status, comment) == (0xA900, f"{keyword} of data set differs from command")


@pytest.mark.parametrize("cut", [1, 2, 100, 128, 130, 200])
def test_a_truncated_data_set_is_refused(gateway: Gateway, modality: Modality, cut: int) -> None:
    image = mr_image()
    status, _, _ = refused(gateway, modality, encoded(image)[:-cut], str(image.SOPInstanceUID))
    assert status in {0xC000, 0xA900}


def test_pixel_data_shorter_than_its_rows_and_columns_is_refused(gateway: Gateway, modality: Modality) -> None:
    image = mr_image(PixelData=bytes(126))
    assert refused(gateway, modality, encoded(image), str(image.SOPInstanceUID)) == (
        0xC000,
        "pixel data has 126 bytes, needs 128; resend it",
        "pixel_data_too_short",
    )


def test_rows_of_65535_without_the_bytes_for_it_are_refused(gateway: Gateway, modality: Modality) -> None:
    image = mr_image(Rows=65535, Columns=65535)
    status, _, reason = refused(gateway, modality, encoded(image), str(image.SOPInstanceUID))
    assert (status, reason) == (0xC000, "pixel_data_too_short")


def test_an_image_without_its_pixel_data_is_refused(gateway: Gateway, modality: Modality) -> None:
    image = mr_image(PixelData=None)
    status, _, reason = refused(gateway, modality, encoded(image), str(image.SOPInstanceUID))
    assert (status, reason) == (0xC000, "pixel_data_too_short")


def test_an_empty_data_set_is_refused(gateway: Gateway, modality: Modality) -> None:
    status, _, _ = refused(gateway, modality, b"", generate_uid())
    assert status == 0xC000


def test_bytes_that_are_no_data_set_are_refused(gateway: Gateway, modality: Modality) -> None:
    status, _, _ = refused(gateway, modality, b"\xff\xd8\xff\xe0 a JPEG, not DICOM" * 50, generate_uid())
    assert status in {0xC000, 0xA900}


def test_attack_sequences_nested_without_end_are_refused(gateway: Gateway, modality: Modality) -> None:
    sequence = bytes.fromhex("08004011") + b"SQ\0\0" + b"\xff" * 4  # undefined length
    item = bytes.fromhex("feff00e0") + b"\xff" * 4
    status, comment, _ = refused(gateway, modality, (sequence + item) * 5000, generate_uid())
    assert status == 0xC000
    assert "nested" in comment


def test_an_instance_above_the_limit_is_refused_before_it_fills_the_disk(start: Any) -> None:
    gateway = start(max_instance_bytes=4096)
    modality = Modality(gateway)
    image = mr_image(PixelData=bytes(50_000))
    status, comment, reason = refused(gateway, modality, encoded(image), str(image.SOPInstanceUID))
    assert (status, comment, reason) == (0xA700, "data set exceeds 4096 bytes", "instance_too_large")
    modality.close()


def test_nested_values_do_not_pass_for_the_instances_own(gateway: Gateway, modality: Modality) -> None:
    """A reference to another study inside a sequence must not say where the instance belongs."""
    image = mr_image(StudyInstanceUID=None)
    other = Dataset()
    other.StudyInstanceUID = generate_uid()
    image.RequestAttributesSequence = Sequence([other])
    status, comment, _ = refused(gateway, modality, encoded(image), str(image.SOPInstanceUID))
    assert (status, comment) == (0xC000, "StudyInstanceUID is missing")


def test_a_request_without_an_answerable_operation_ends_only_its_association(gateway: Gateway) -> None:
    sender = Modality(gateway)
    request = C_FIND()
    request.MessageID = 1
    request.AffectedSOPClassUID = MR_IMAGE
    request.Priority = 2
    request.Identifier = BytesIO(encoded(mr_image()))
    sender.association.dimse.send_msg(request, next(iter(sender.association._accepted_cx)))
    sender.association.join(timeout=10)
    assert sender.association.is_aborted
    assert gateway.refused_associations()[0]["reason"] == "request_not_offered"
    following = Modality(gateway)
    assert following.store(mr_image())[0] == 0
    following.close()


ELEMENTS = st.lists(
    st.tuples(
        st.sampled_from(
            [0x00080016, 0x00080018, 0x0020000D, 0x0020000E, 0x00081140, 0x00280010, 0x7FE00010, 0xFFFEE000]
        ),
        st.sampled_from([b"UI", b"SQ", b"OW", b"US", b"UN", b"ZZ", b"\0\0"]),
        st.one_of(st.none(), st.sampled_from([0, 1, 2, 7, 0xFFFE, 0xFFFF])),
        st.binary(max_size=40),
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(elements=ELEMENTS, sound_first=st.booleans())
def test_attack_whatever_a_data_set_holds_gets_a_status_and_the_association_goes_on(
    gateway: Gateway, modality: Modality, elements: list[tuple[int, bytes, int | None, bytes]], sound_first: bool
) -> None:
    """Elements in any order, of any length that they like to claim, behind a sound image or alone."""
    image = mr_image()
    data = encoded(image) if sound_first else b""
    for tag, kind, claimed, value in elements:
        length = len(value) if claimed is None else claimed
        data += struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, kind, length) + value
    status, _ = modality.send(data, str(image.SOPInstanceUID))
    assert status == 0 or status & 0xF000 in (0xA000, 0xC000)
    assert modality.store(mr_image())[0] == 0
