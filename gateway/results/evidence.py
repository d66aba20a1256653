"""What goes into an evidence object and what comes out, without highdicom: the pipeline's side of this room."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import ClassVar

from inference.findings import Observation

MANUFACTURER = "Scanwarden"
"""Manufacturer (0008,0070) of everything that we make: how our own objects are known when they come back."""


class ResultsError(Exception):
    """Anything that keeps an evidence object from being made; `dicom_status` is what a service would answer."""

    dicom_status: ClassVar[int] = 0x0110


class UnknownProfile(ResultsError):
    """A destination names a profile that is not in the registry."""


class NoSourceHeader(ResultsError):
    """No file of the revision has a readable header, so nobody can say whose study it is."""


class EvidenceKind(StrEnum):
    """The kinds of evidence object, in the order in which a destination needs them: nothing refers to a later one."""

    SEG = "SEG"
    LABELMAP = "LABELMAP"
    SC = "SC"
    GSPS = "GSPS"
    TEXT = "TEXT"
    PLANAR = "PLANAR"
    SR = "SR"
    KOS = "KOS"


REPORTS = (EvidenceKind.TEXT, EvidenceKind.PLANAR, EvidenceKind.SR)
"""The kinds that name the report before them."""


@dataclass(frozen=True)
class Predecessor:
    """The report of one kind on the study's revision before this one."""

    sop_instance_uid: str
    series_uid: str
    revision: int


@dataclass(frozen=True)
class RevisionContext:
    """What an evidence object must know beside the analysis.

    `analysed_at` is the wall clock of the site when the analysis ended: it becomes the date and time of the objects,
    so a repeat must give the same one. `files` are the Part 10 files of every instance of the revision. `predecessor`
    is the SR before this one; `predecessors` those of other kinds of report.
    """

    study_uid: str
    revision: int
    model_set_digest: str
    files: tuple[Path, ...]
    analysed_at: datetime
    predecessor: Predecessor | None = None
    predecessors: Mapping[EvidenceKind, Predecessor] = field(default_factory=dict)

    def predecessor_of(self, kind: EvidenceKind) -> Predecessor | None:
        """The report of this kind before this one."""
        return self.predecessor if kind is EvidenceKind.SR else self.predecessors.get(kind)


@dataclass(frozen=True)
class EvidenceFile:
    """One object on disk, ready to send. `observations` say what of the source headers had to be corrected in it."""

    kind: EvidenceKind
    sop_instance_uid: str
    sop_class_uid: str
    series_uid: str
    path: Path
    observations: tuple[Observation, ...] = ()
