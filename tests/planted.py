"""Revisions with evidence objects that are ready to be delivered, without images, models or an analysis."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from gateway.app import App
from storage.digests import file_digest
from storage.tables import (
    Analysis,
    AnalysisState,
    Evidence,
    Priority,
    Revision,
    RevisionState,
    Study,
)

SOP_CLASSES = {
    "SEG": "1.2.840.10008.5.1.4.1.1.66.4",
    "SC": "1.2.840.10008.5.1.4.1.1.7",
    "SR": "1.2.840.10008.5.1.4.1.1.88.33",
    "KOS": "1.2.840.10008.5.1.4.1.1.88.59",
}
MODALITIES = {"SEG": "SEG", "SC": "OT", "SR": "SR", "KOS": "KO"}


@dataclass(frozen=True)
class Planted:
    """A revision, and the UID of each of its objects by kind."""

    revision_id: int
    study_uid: str
    objects: dict[str, str]


def plant(
    app: App,
    kinds: Sequence[str] = ("SEG", "SR"),
    *,
    profile: str = "orthanc",
    verdict: str = "SUSPECT",
    priority: Priority = Priority.ROUTINE,
    size: int = 2000,
    after: Planted | None = None,
) -> Planted:
    """A revision that is encoded, the next one of the study of `after`; each object has `size` bytes of nothing."""
    now, study_uid = datetime.now(UTC), after.study_uid if after is not None else generate_uid()
    number = 1 if after is None else 2
    folder = app.store.root / "evidence" / f"{study_uid}-{number}"
    folder.mkdir(parents=True)
    with app.database.transaction() as session:
        if after is None:
            session.add(Study(study_uid=study_uid, first_instance_at=now))
            session.flush()
        revision = Revision(
            study_uid=study_uid, number=number, state=RevisionState.ENCODED, priority=priority,
            opened_at=now, last_instance_at=now, closed_at=now,
        )  # fmt: skip
        session.add(revision)
        session.flush()
        analysis = Analysis(
            revision_id=revision.id, model_set="0" * 64, state=AnalysisState.DONE, verdict=verdict, score=0.9,
            reasons=[], findings=1, started_at=now, finished_at=now,
        )  # fmt: skip
        session.add(analysis)
        session.flush()
        objects = {}
        for kind in kinds:
            path = folder / f"{kind}.dcm"
            data = _object(kind, study_uid, size)
            data.save_as(path, enforce_file_format=True)
            objects[kind] = str(data.SOPInstanceUID)
            session.add(
                Evidence(
                    analysis_id=analysis.id,
                    profile=profile,
                    kind=kind,
                    sop_instance_uid=data.SOPInstanceUID,
                    sop_class_uid=data.SOPClassUID,
                    series_uid=data.SeriesInstanceUID,
                    path=str(path.relative_to(app.store.root)),
                    size=path.stat().st_size,
                    file_sha256=file_digest(path),
                    created_at=now,
                )
            )
        return Planted(revision.id, study_uid, objects)


def _object(kind: str, study_uid: str, size: int) -> Dataset:
    data = Dataset()
    data.SOPClassUID, data.SOPInstanceUID = SOP_CLASSES[kind], generate_uid()
    data.StudyInstanceUID, data.SeriesInstanceUID = study_uid, generate_uid()
    data.PatientID, data.PatientName, data.Modality = "TEST", "Test^Planted", MODALITIES[kind]
    data.StudyID = data.AccessionNumber = data.StudyDate = data.StudyTime = ""
    data.SeriesNumber, data.InstanceNumber = 1, 1
    data.EncapsulatedDocument = bytes(size)
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return data
