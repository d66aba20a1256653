"""Attacks on a study inside a real Orthanc, each seen by its verification; an untouched twin stays quiet.

A security engineer runs one by its name: `pytest tests/security/test_archive.py -k shortened`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydicom import FileDataset, dcmread
from pydicom.uid import UID, JPEG2000Lossless, JPEGLSLossless, RLELossless, generate_uid

from gateway.app import App
from gateway.dicom.scu import send
from gateway.verification.archive import archive_of
from gateway.verification.checking import Checker
from gateway.verification.compare import State, StudyComparison
from storage import AuditEventType
from storage.overview import overview
from tests.gateway.dicom.conftest import free_port
from tests.peers import ORTHANC, Orthanc, running_orthanc
from tests.remembered import edited, gateway, phantom, receive, remember

pytestmark = pytest.mark.peers
MOVE_AE_TITLE, MOVE_PORT = "VERIFY", free_port()


@pytest.fixture(scope="module")
def pacs() -> Iterator[Orthanc]:
    if not Path(ORTHANC).is_file():
        pytest.skip("Orthanc is not installed (apt-get install orthanc)")
    # Without its cache: it would show what it remembers, and not what somebody did to its disk.
    options = {"MaximumStorageCacheSize": 0, "DicomAlwaysAllowMove": True}
    modalities = {"verify": (MOVE_AE_TITLE, "127.0.0.1", MOVE_PORT)}
    with running_orthanc(plugins=("libOrthancDicomWeb.so",), modalities=modalities, options=options) as orthanc:
        yield orthanc


class Hospital:
    """A gateway, a real archive, and two studies that both have seen: the victim and its untouched twin."""

    def __init__(self, app: App, pacs: Orthanc, folder: Path) -> None:
        self.app, self.pacs, self.folder = app, pacs, folder
        self.archive = archive_of(app.settings)
        self.files = phantom(folder / "victim", 1)
        self.twin_files = phantom(folder / "twin", 1)  # the same pixels under other UIDs
        self.victim, self.twin = self._take_in(self.files), self._take_in(self.twin_files)

    def _take_in(self, files: list[Path]) -> str:
        self.put(*files)
        return remember(self.app, files)

    def put(self, *files: Path) -> None:
        """Store files in the archive; what it holds under the same UID is overwritten."""
        assert all(each.stored for each in send(files, self.app.settings.destinations[0], "ATTACKER"))

    def put_dataset(self, dataset: FileDataset) -> None:
        path = self.folder / f"{generate_uid()}.dcm"
        dataset.save_as(path)
        self.put(path)

    def replace(self, index: int, change: Callable[[FileDataset], None]) -> str:
        """Change one instance of the victim in the archive; its UID."""
        dataset = dcmread(self.files[index])
        uid = str(dataset.SOPInstanceUID)
        change(dataset)
        self.put_dataset(dataset)
        return uid

    def remove(self, uid: str) -> None:
        (identifier,) = self.pacs.post("/tools/find", {"Level": "Instance", "Query": {"SOPInstanceUID": uid}})
        self.pacs.delete(f"/instances/{identifier}")

    def uid(self, index: int) -> str:
        return str(dcmread(self.files[index], stop_before_pixels=True).SOPInstanceUID)

    def verify(self, study_uid: str) -> StudyComparison:
        found = Checker(self.app, self.archive, actor="user:security").check(study_uid, decode=True)
        assert isinstance(found, StudyComparison)
        return found

    def attacked(self) -> StudyComparison:
        """What the victim's verification finds: an incident in the ledger, and none for the twin."""
        found = self.verify(self.victim)
        assert found.differs
        (alert,) = self.app.ledger.list(event=AuditEventType.VERIFICATION_DIFFERS.value, limit=None)
        assert (alert.study_uid, alert.subject, alert.outcome) == (self.victim, "pacs", 8)
        self.quiet(self.twin)
        return found

    def quiet(self, study_uid: str) -> StudyComparison:
        found = self.verify(study_uid)
        assert not found.differs, found.to_json()
        assert set(found.counts) <= {"as-first-seen", "re-encoded"}
        return found


@pytest.fixture
def hospital(pacs: Orthanc, tmp_path: Path) -> Iterator[Hospital]:
    """Its archive is read by C-GET."""
    with _hospital(pacs, tmp_path) as opened:
        yield opened


@pytest.fixture
def hospital_by_web(pacs: Orthanc, tmp_path: Path) -> Iterator[Hospital]:
    """Its archive is read by WADO-RS."""
    with _hospital(pacs, tmp_path, dicomweb=f"{pacs.url}/dicom-web") as opened:
        yield opened


@pytest.fixture
def hospital_by_move(pacs: Orthanc, tmp_path: Path) -> Iterator[Hospital]:
    """Its archive is read by C-MOVE."""
    with _hospital(pacs, tmp_path, move_ae_title=MOVE_AE_TITLE, move_port=MOVE_PORT) as opened:
        yield opened


@contextmanager
def _hospital(pacs: Orthanc, folder: Path, **verification: str | int) -> Iterator[Hospital]:
    destination = {"name": "pacs", "ae_title": pacs.ae_title, "host": pacs.host, "port": pacs.dicom_port}
    with gateway(folder, destinations=[destination], verification={"archive": "pacs", **verification}) as app:
        yield Hospital(app, pacs, folder)


def altered(found: StudyComparison) -> dict[str, tuple[str, ...]]:
    return {each.sop_instance_uid: each.changed for each in found.instances if each.state is State.ALTERED}


def test_an_untouched_archive_gives_back_the_bytes_that_were_first_seen(hospital: Hospital) -> None:
    assert hospital.quiet(hospital.victim).counts == {"as-first-seen": 5}


def test_attack_pixels_edited_and_the_header_kept(hospital: Hospital) -> None:
    hospital.put_dataset(edited(hospital.files[2], (20, 24, 30, 40)))
    found = hospital.attacked()
    assert altered(found) == {hospital.uid(2): ("pixels",)}
    (one,) = (each for each in found.instances if each.state is State.ALTERED)
    assert one.region is not None
    assert (one.region.box, one.region.frames, one.region.pixels) == ((20, 24, 30, 40), (1,), 160)


def test_attack_pixels_edited_on_the_archives_own_disk(hospital: Hospital) -> None:
    first, other = dcmread(hospital.files[1]).PixelData, edited(hospital.files[1]).PixelData
    uid = hospital.uid(1).encode()
    files = [path for path in hospital.pacs.storage.rglob("*") if path.is_file() and "-" in path.name]
    (held,) = (path for path in files if uid in path.read_bytes() and first in path.read_bytes())
    held.write_bytes(held.read_bytes().replace(first, other))
    assert altered(hospital.attacked()) == {hospital.uid(1): ("pixels",)}


def test_attack_one_pixel_by_one_grey_level(hospital: Hospital) -> None:
    hospital.put_dataset(edited(hospital.files[0], (31, 31, 32, 32), value=1))
    (one,) = (each for each in hospital.attacked().instances if each.state is State.ALTERED)
    assert one.region is not None
    assert (one.region.pixels, one.region.largest) == (1, 1.0)


def test_attack_study_shortened(hospital: Hospital) -> None:
    gone = hospital.uid(3)
    hospital.remove(gone)
    assert hospital.attacked().named["missing"] == [gone]


def test_attack_whole_study_removed(hospital: Hospital) -> None:
    for index in range(5):
        hospital.remove(hospital.uid(index))
    assert hospital.attacked().counts == {"missing": 5}


def test_attack_study_extended(hospital: Hospital) -> None:
    added = generate_uid()

    def under_another_uid(dataset: FileDataset) -> None:
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = added

    hospital.replace(4, under_another_uid)
    assert hospital.attacked().named["extra"] == [added]


def test_attack_image_added_as_a_report(hospital: Hospital) -> None:
    added = generate_uid()

    def disguised(dataset: FileDataset) -> None:
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = added
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = UID("1.2.840.10008.5.1.4.1.1.88.11")

    hospital.replace(4, disguised)
    assert hospital.attacked().named["extra"] == [added]


def test_attack_instance_sent_again_with_other_pixels(hospital: Hospital) -> None:
    path = hospital.folder / "again.dcm"
    edited(hospital.files[2]).save_as(path)
    hospital.put(path)
    receive(hospital.app, [path])  # the gateway saw it too, and must not take it for the first
    found = hospital.attacked()
    assert altered(found) == {hospital.uid(2): ("pixels",)}


def test_attack_pixels_of_two_instances_swapped(hospital: Hospital) -> None:
    one, two = (dcmread(hospital.files[index]) for index in (1, 3))
    one.PixelData, two.PixelData = two.PixelData, one.PixelData
    hospital.put_dataset(one)
    hospital.put_dataset(two)
    found = hospital.attacked()
    notes = {each.sop_instance_uid: each.note for each in found.instances if each.state is State.ALTERED}
    assert notes == {
        hospital.uid(1): f"it shows the pixels of instance {hospital.uid(3)}",
        hospital.uid(3): f"it shows the pixels of instance {hospital.uid(1)}",
    }


def test_attack_another_patients_name_on_the_images(hospital: Hospital) -> None:
    def other_patient(dataset: FileDataset) -> None:
        dataset.PatientName = "Another^One"

    uid = hospital.replace(0, other_patient)
    assert altered(hospital.attacked()) == {uid: ("patient",)}


def test_attack_slice_moved(hospital: Hospital) -> None:
    def moved(dataset: FileDataset) -> None:
        x, y, z = dataset.ImagePositionPatient
        dataset.ImagePositionPatient = [x, y, z + 30]

    uid = hospital.replace(0, moved)
    assert altered(hospital.attacked()) == {uid: ("geometry",)}


def test_attack_acquisition_rewritten(hospital: Hospital) -> None:
    def rewritten(dataset: FileDataset) -> None:
        dataset.Manufacturer, dataset.StudyDate = "Another Maker", "19990101"

    uid = hospital.replace(2, rewritten)
    assert altered(hospital.attacked()) == {uid: ("acquisition",)}


def test_attack_lossy_compression_in_place(hospital: Hospital) -> None:
    from pydicom.uid import JPEG2000

    def squeezed(dataset: FileDataset) -> None:
        dataset.compress(JPEG2000, j2k_cr=[40], generate_instance_uid=False)

    uid = hospital.replace(2, squeezed)
    found = hospital.attacked()
    assert altered(found) == {uid: ("pixels",)}
    assert any("compressed with loss" in each.note for each in found.instances)


def test_attack_first_seen_digests_rewritten_with_full_database_rights(hospital: Hospital) -> None:
    """The archive's copy is edited and the index made to fit: the root in the ledger does not."""
    from sqlalchemy import text

    from gateway.verification.compare import received_digest
    from storage.attributes import attribute_digests
    from storage.digests import pixel_digest

    forged = edited(hospital.files[2])
    path = hospital.folder / "forged.dcm"
    forged.save_as(path)
    hospital.put(path)
    values = {"uid": hospital.uid(2), "file": received_digest(path), "pixel": pixel_digest(forged)}
    assert attribute_digests(forged)
    with hospital.app.database.transaction() as session:
        session.execute(text("DROP TRIGGER first_seen_refuses_update"))
        for table in ("first_seen", "instances"):
            change = f"UPDATE {table} SET file_sha256 = :file, pixel_sha256 = :pixel WHERE sop_instance_uid = :uid"  # noqa: S608
            session.execute(text(change), values)
    found = hospital.verify(hospital.victim)
    assert found.counts == {"as-first-seen": 5}
    assert found.differs
    assert "root" in found.contradictions[0]
    hospital.quiet(hospital.twin)


def test_attack_first_seen_rows_deleted_with_full_database_rights(hospital: Hospital) -> None:
    from sqlalchemy import text

    hospital.remove(hospital.uid(4))
    with hospital.app.database.transaction() as session:
        session.execute(text("DROP TRIGGER first_seen_refuses_delete"))
        for table in ("first_seen", "instances"):
            session.execute(text(f"DELETE FROM {table} WHERE sop_instance_uid = :uid"), {"uid": hospital.uid(4)})  # noqa: S608
    found = hospital.verify(hospital.victim)
    assert found.differs
    assert found.contradictions
    hospital.quiet(hospital.twin)


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless], ids=["rle", "j2k", "jpeg-ls"])
def test_an_archive_that_recodes_without_loss_stays_quiet(hospital: Hospital, syntax: str) -> None:
    for file in hospital.files:
        dataset = dcmread(file)
        dataset.compress(syntax, generate_instance_uid=False)
        hospital.put_dataset(dataset)
    assert hospital.quiet(hospital.victim).counts == {"re-encoded": 5}


def test_a_report_that_a_radiologist_added_is_told_and_is_no_incident(hospital: Hospital) -> None:
    image = dcmread(hospital.files[0], stop_before_pixels=True)
    for keyword in ("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "SamplesPerPixel"):
        delattr(image, keyword)
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = UID("1.2.840.10008.5.1.4.1.1.11.1")
    image.SeriesInstanceUID, image.Modality = generate_uid(), "PR"
    hospital.put_dataset(image)
    found = hospital.verify(hospital.victim)
    assert not found.differs
    assert found.counts == {"as-first-seen": 5, "extra": 1}


def test_attack_study_altered_and_shortened_seen_by_wado_rs(hospital_by_web: Hospital) -> None:
    hospital = hospital_by_web
    assert hospital.quiet(hospital.victim).counts == {"as-first-seen": 5}
    hospital.put_dataset(edited(hospital.files[2], (20, 24, 30, 40)))
    hospital.remove(hospital.uid(0))
    found = hospital.attacked()
    assert found.counts == {"as-first-seen": 3, "altered": 1, "missing": 1}
    assert altered(found) == {hospital.uid(2): ("pixels",)}


def test_an_archive_that_recodes_without_loss_stays_quiet_by_wado_rs(hospital_by_web: Hospital) -> None:
    hospital = hospital_by_web
    for file in hospital.files:
        dataset = dcmread(file)
        dataset.compress(JPEG2000Lossless, generate_instance_uid=False)
        hospital.put_dataset(dataset)
    assert hospital.quiet(hospital.victim).counts == {"re-encoded": 5}


def test_attack_study_altered_and_extended_seen_by_c_move(hospital_by_move: Hospital) -> None:
    hospital = hospital_by_move
    assert hospital.quiet(hospital.victim).counts == {"as-first-seen": 5}
    hospital.put_dataset(edited(hospital.files[2], (20, 24, 30, 40)))

    def under_another_uid(dataset: FileDataset) -> None:
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()

    hospital.replace(4, under_another_uid)
    found = hospital.attacked()
    assert found.counts == {"as-first-seen": 4, "altered": 1, "extra": 1}
    assert altered(found) == {hospital.uid(2): ("pixels",)}


def test_what_is_fetched_by_c_move_never_becomes_a_study_of_the_gateway(hospital_by_move: Hospital) -> None:
    hospital = hospital_by_move
    with hospital.app.database.reading() as session:
        before = overview(session)
    hospital.quiet(hospital.victim)
    with hospital.app.database.reading() as session:
        after = overview(session)
    assert (after.instances, after.revisions) == (before.instances, before.revisions)
    assert list((hospital.app.store.root / "drafts").iterdir()) == []
