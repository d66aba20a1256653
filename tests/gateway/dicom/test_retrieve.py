"""Reading a real archive: every object in the form in which it is kept, at our pace, and a plain reason otherwise."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread

from config.settings import Destination
from gateway.dicom.retrieve import find_instances, get_study
from gateway.dicom.scu import Rejected, SendError, Unreachable, send
from storage.digests import file_digest
from tests.gateway.dicom.conftest import Gateway, free_port
from tests.peers import ORTHANC, Orthanc, running_orthanc
from tests.remembered import phantom

pytestmark = pytest.mark.peers


@pytest.fixture(scope="module")
def pacs() -> Iterator[Orthanc]:
    if not Path(ORTHANC).is_file():
        pytest.skip("Orthanc is not installed (apt-get install orthanc)")
    with running_orthanc() as orthanc:
        yield orthanc


def destination(port: int, **values: object) -> Destination:
    return Destination.model_validate(
        {"name": "pacs", "ae_title": "ORTHANC", "host": "127.0.0.1", "port": port, "timeout": 5, **values}
    )


@pytest.mark.real_data
def test_objects_come_in_the_transfer_syntax_in_which_the_archive_keeps_them(
    pacs: Orthanc, scanwarden_data: Path, tmp_path: Path
) -> None:
    for file in sorted((scanwarden_data / "dicom" / "transfer-syntaxes").glob("*.dcm")):
        dataset = dcmread(file)
        (folder := tmp_path / file.stem).mkdir()
        (outcome,) = send([file], destination(pacs.dicom_port), "SENDER")
        if not outcome.stored:
            continue  # big endian has left the standard; not every Orthanc takes it
        got = get_study(destination(pacs.dicom_port), "READER", str(dataset.StudyInstanceUID), folder)
        (found,) = (each for uid, each in got.files.items() if uid == dataset.SOPInstanceUID)
        again = dcmread(found)
        assert again.file_meta.TransferSyntaxUID == dataset.file_meta.TransferSyntaxUID
        assert again.PixelData == dataset.PixelData


def test_listing_and_fetching_agree_and_each_object_waits_for_the_pace(pacs: Orthanc, tmp_path: Path) -> None:
    files = phantom(tmp_path / "study", 11, slices=4, matrix=32)
    assert all(each.stored for each in send(files, destination(pacs.dicom_port), "SENDER"))
    study_uid = str(dcmread(files[0]).StudyInstanceUID)
    (folder := tmp_path / "got").mkdir()
    paces = []
    got = get_study(destination(pacs.dicom_port), "READER", study_uid, folder, pace=lambda: paces.append(len(paces)))
    assert set(got.listed) == set(got.files) == {str(dcmread(file).SOPInstanceUID) for file in files}
    assert len(paces) == 4
    (again := tmp_path / "again").mkdir()
    same = get_study(destination(pacs.dicom_port), "READER", study_uid, again)
    assert {file_digest(file) for file in same.files.values()} == {file_digest(file) for file in got.files.values()}


def test_a_study_that_the_archive_does_not_have_is_an_empty_list(pacs: Orthanc, tmp_path: Path) -> None:
    assert find_instances(destination(pacs.dicom_port), "READER", "1.2.3.4") == {}
    assert get_study(destination(pacs.dicom_port), "READER", "1.2.3.4", tmp_path).files == {}


def test_an_archive_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="no connection"):
        find_instances(destination(free_port()), "READER", "1.2.3")


def test_a_peer_that_is_no_archive_is_told(gateway: Gateway, tmp_path: Path) -> None:
    with pytest.raises(SendError) as refusal:
        find_instances(destination(gateway.port, ae_title="SCANWARDEN"), "READER", "1.2.3")
    assert isinstance(refusal.value, Rejected)
    assert "pacs" in str(refusal.value)
