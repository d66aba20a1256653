"""What was first seen, what each scanner is used to write, and what was found when archives were compared."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from storage.tables.columns import (
    Identifier,
    Sha256,
    Table,
    Uid,
    VerificationState,
)


class FirstSeen(Table):
    """What one instance was when it was first analysed. Triggers refuse UPDATE and DELETE; see storage/firstseen.py."""

    __tablename__ = "first_seen"
    __table_args__ = (
        Index("ix_first_seen_study_uid", "study_uid", "revision"),
        Index("ix_first_seen_file_sha256", "file_sha256"),
    )

    sop_instance_uid: Mapped[str] = mapped_column(Uid, primary_key=True)
    sop_class_uid: Mapped[str] = mapped_column(Uid)
    study_uid: Mapped[str] = mapped_column(Uid, ForeignKey("studies.study_uid"))
    series_uid: Mapped[str] = mapped_column(Uid)
    transfer_syntax: Mapped[str] = mapped_column(Uid)
    revision: Mapped[int]  # number of the study's first revision that holds it
    file_sha256: Mapped[str] = mapped_column(Sha256)
    pixel_sha256: Mapped[str | None] = mapped_column(Sha256)  # NULL: no pixels, or none that could be decoded
    attributes: Mapped[dict[str, Any]]  # digest by group of attributes; empty: the header could not be read
    recorded_at: Mapped[datetime]


class Root(Table):
    """Count and root of a study's first-seen digests at a revision, and of each of its series; also in the ledger."""

    __tablename__ = "roots"

    study_uid: Mapped[str] = mapped_column(Uid, ForeignKey("studies.study_uid"), primary_key=True)
    revision: Mapped[int] = mapped_column(primary_key=True)
    series_uid: Mapped[str] = mapped_column(Uid, primary_key=True)  # empty: the whole study
    instances: Mapped[int]
    root: Mapped[str] = mapped_column(Sha256)


class DeviceBaseline(Table):
    """What one scanner always writes, as `inference.provenance.Baseline` puts it; see storage/baselines.py."""

    __tablename__ = "baselines"

    device: Mapped[str] = mapped_column(Sha256, primary_key=True)  # a digest, no serial number in clear
    baseline: Mapped[dict[str, Any]]
    studies: Mapped[int]  # that taught it
    updated_at: Mapped[datetime]


class Lesson(Table):
    """What one study taught a baseline: nothing counts twice, whatever is repeated or analysed again."""

    __tablename__ = "lessons"

    device: Mapped[str] = mapped_column(Sha256, ForeignKey("baselines.device"), primary_key=True)
    study_uid: Mapped[str] = mapped_column(Uid, ForeignKey("studies.study_uid"), primary_key=True)
    kinds: Mapped[list[str]]  # of images, for example those of the revisions so far


class Verification(Table):
    """One comparison of what an archive holds of a study with what was first seen."""

    __tablename__ = "verifications"
    __table_args__ = (
        Index("ix_verifications_study_uid", "study_uid", "archive", "finished_at"),
        Index("ix_verifications_state", "state"),
    )

    id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    study_uid: Mapped[str] = mapped_column(Uid, ForeignKey("studies.study_uid"))
    archive: Mapped[str] = mapped_column(String(32))
    state: Mapped[VerificationState]
    attempts: Mapped[int] = mapped_column(default=0)  # times that its comparison was begun
    path: Mapped[str | None] = mapped_column(String(255))  # fetched files, until they are compared
    counts: Mapped[dict[str, Any]] = mapped_column(default=dict)
    failure: Mapped[str | None] = mapped_column(Text)
    actor: Mapped[str] = mapped_column(String(128))
    started_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
