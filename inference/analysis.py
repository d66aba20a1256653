"""The one entry: the files of a study in, one verdict with its reasons out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from inference.findings import Observation, StudyAnalysis


@dataclass(frozen=True)
class Progress:
    """How far an analysis is: `done` of `total` steps of `stage` ('read', 'detect')."""

    stage: str
    done: int
    total: int


def analyse_study(
    files: Sequence[Path],
    *,
    models: Sequence[str],
    device: str = "auto",
    batch: int = 8,
    threads: int = 0,
    max_voxels: int = 512 * 1024**2,
    time_limit: float = 900.0,
    observations: Sequence[Observation] = (),
    study_uid: str | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> StudyAnalysis:
    """Look at every image of one study.

    `models` are registry names (or detectors). `observations` are the caller's own, for example what the store knows
    about digests; an incident keeps the verdict from CLEAR. `study_uid` names the study when no file can be read.
    Whatever is wrong with an instance becomes a reason; no fault of the input is raised.

    Raises NotOneStudy when the files belong to several studies, DeviceUnavailable when `device` is not here.
    """
    raise NotImplementedError


def analyse_folder(
    path: Path,
    *,
    models: Sequence[str],
    device: str = "auto",
    batch: int = 8,
    threads: int = 0,
    max_voxels: int = 512 * 1024**2,
    time_limit: float = 900.0,
    progress: Callable[[Progress], None] | None = None,
) -> list[StudyAnalysis]:
    """Analyse every study in a folder (or one file), in the order of their UIDs.

    Files that are not DICOM are named in reasons.
    """
    raise NotImplementedError
