"""Prior studies of a patient: which studies belong together, and which earlier ones are fetched."""

from datetime import datetime

from sqlalchemy import ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from storage.tables.columns import Identifier, PriorState, SearchState, Sha256, Table, Uid


class StudyPatient(Table):
    """Which studies are of one patient: a keyed digest of who they are (storage/patients.py), never who they are."""

    __tablename__ = "study_patients"
    __table_args__ = (Index("ix_study_patients_patient", "patient"),)

    study_uid: Mapped[str] = mapped_column(Uid, ForeignKey("studies.study_uid"), primary_key=True)
    patient: Mapped[str] = mapped_column(Sha256)


class PriorSearch(Table):
    """What the rules ask for at the close of one revision."""

    __tablename__ = "prior_searches"
    __table_args__ = (
        Index("ix_prior_searches_state", "state", "next_at"),
        Index("ix_prior_searches_study_uid", "study_uid"),
    )

    revision_id: Mapped[int] = mapped_column(Identifier, ForeignKey("revisions.id"), primary_key=True)
    study_uid: Mapped[str] = mapped_column(Uid)
    state: Mapped[SearchState]
    wanted: Mapped[int]
    attempts: Mapped[int] = mapped_column(default=0)
    failure: Mapped[str | None] = mapped_column(Text)  # without a patient's data
    next_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]


class Prior(Table):
    """One earlier study that was asked for because of another one of the same patient."""

    __tablename__ = "priors"
    __table_args__ = (
        Index("ix_priors_prior_uid", "prior_uid"),
        Index("ix_priors_state", "state", "next_at"),
        Index("ix_priors_patient", "patient", "asked_at"),
    )

    study_uid: Mapped[str] = mapped_column(Uid, ForeignKey("studies.study_uid"), primary_key=True)
    prior_uid: Mapped[str] = mapped_column(Uid, primary_key=True)
    patient: Mapped[str] = mapped_column(Sha256)
    archive: Mapped[str] = mapped_column(String(32))
    actor: Mapped[str] = mapped_column(String(128))  # who asked for it, as in the ledger
    state: Mapped[PriorState]
    instances: Mapped[int] = mapped_column(default=0)  # that were taken
    attempts: Mapped[int] = mapped_column(default=0)
    failure: Mapped[str | None] = mapped_column(Text)
    asked_at: Mapped[datetime]
    next_at: Mapped[datetime]
    begun_at: Mapped[datetime | None]  # when it was last asked of the archive
    finished_at: Mapped[datetime | None]
