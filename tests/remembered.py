"""Studies that the gateway has seen: through the store, the index and the digests, as receiver and analyst do it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from pydicom import FileDataset, dcmread
from pydicom.filereader import read_file_meta_info

from config import Settings
from config.settings import from_layers
from gateway.app import App, build
from gateway.dicom.part10 import file_meta
from models.tampering.phantom import make_phantom_study
from storage import InstanceFacts, record_instance
from storage.analyses import record_pixel_digests
from storage.attributes import attribute_digests
from storage.digests import pixel_digest
from storage.firstseen import record_first_seen
from storage.studies import close_revision, finish_revision, revision_contents, revision_of
from storage.tables import CloseReason, Revision, RevisionState


@contextmanager
def gateway(folder: Path, **settings: object) -> Iterator[App]:
    """A gateway's database and store in `folder`, without processes."""
    store = {"root": str(folder / "var"), "high_watermark": 1.0, "low_watermark": 1.0, "reserve_bytes": 0}
    with build(from_layers({"store": store, **settings})) as app:
        app.database.migrate()
        yield app


def phantom(folder: Path, seed: int, slices: int = 5, matrix: int = 64) -> list[Path]:
    """A study of one series as Part 10 files."""
    return make_phantom_study(folder, np.random.default_rng(seed), slices=slices, matrix=matrix)


def receive(app: App, files: Sequence[Path]) -> str:
    """Store files as the receiver does: their data sets byte for byte after our own header; the study's UID."""
    study_uid = ""
    for file in files:
        meta, header = read_file_meta_info(file), dcmread(file, stop_before_pixels=True)
        study_uid = str(header.StudyInstanceUID)
        start = 132 + 12 + int(meta.FileMetaInformationGroupLength)
        with app.store.incoming() as upload:
            upload.write(file_meta(header.SOPClassUID, header.SOPInstanceUID, meta.TransferSyntaxUID))
            upload.write(file.read_bytes()[start:])
            stored = upload.keep(header.SOPInstanceUID)
        facts = InstanceFacts(
            str(header.SOPInstanceUID),
            str(header.SOPClassUID),
            study_uid,
            str(header.SeriesInstanceUID),
            str(meta.TransferSyntaxUID),
            "SCANNER",
            "10.0.0.7",
        )
        with app.database.transaction() as session:
            outcome = record_instance(session, stored, facts)
        outcome.settle(app.store)
    return study_uid


def analysed(app: App, study_uid: str) -> int:
    """Close the study's open revision, take its digests as the analyst does, and end it; the revision's number."""
    with app.database.transaction() as session:
        revision = session.query(Revision).filter_by(study_uid=study_uid, state=RevisionState.OPEN).one()
        close_revision(session, revision.id, CloseReason.QUIET)
        number = revision.id
    with app.database.reading() as session:
        instances = revision_contents(session, number).instances
    pixels, attributes = {}, {}
    for instance in instances:
        dataset = dcmread(app.store.locate(instance.path))
        attributes[instance.id] = attribute_digests(dataset)
        digest = pixel_digest(dataset)
        if digest is not None:
            pixels[instance.id] = digest
    with app.database.transaction() as session:
        record_pixel_digests(session, pixels)
        record_first_seen(session, number, attributes)
        revision_of(session, number).state = RevisionState.ENCODED
        finish_revision(session, number, actor="scanwarden:test")
    return number


def remember(app: App, files: Sequence[Path]) -> str:
    """Receive and analyse a study; its UID."""
    study_uid = receive(app, files)
    analysed(app, study_uid)
    return study_uid


def edited(file: Path, box: tuple[int, int, int, int] = (20, 24, 30, 40), value: int = 400) -> FileDataset:
    """The instance with other pixels in `box` and not a letter of its header changed."""
    dataset = dcmread(file)
    pixels = dataset.pixel_array.copy()
    row0, column0, row1, column1 = box
    pixels[row0:row1, column0:column1] = pixels[row0:row1, column0:column1] ^ value
    dataset.PixelData = pixels.tobytes()
    return dataset


__all__ = ["Settings", "analysed", "edited", "gateway", "phantom", "receive", "remember"]
