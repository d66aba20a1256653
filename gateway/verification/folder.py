"""A folder of files against what was first seen, study by study. For the command line: it decodes."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from gateway.app import App
from gateway.verification.checking import known_study
from gateway.verification.compare import Comparison, Found, State, StudyComparison, compare_study
from storage import NotFound
from storage.firstseen import study_of

_NO_STUDY = ""


@dataclass(slots=True)
class Scan:
    """What lies in a folder."""

    studies: dict[str, dict[str, list[Path]]] = field(default_factory=dict)
    """Files by study and SOP Instance UID; an instance that we know stands under the study we know it from."""
    unreadable: list[Path] = field(default_factory=list)
    """Files that claim to be DICOM and cannot be read."""
    skipped: list[Path] = field(default_factory=list)
    """Files that are no DICOM instances."""


def scan(app: App, path: Path, *, progress: Callable[[int, int], object] | None = None) -> Scan:
    """Look at the header of every file under `path`, or of the one file that it is."""
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    found = Scan()
    wanted = ["SOPInstanceUID", "StudyInstanceUID"]
    with app.database.reading() as session:
        for number, file in enumerate(files, 1):
            try:
                header = dcmread(file, stop_before_pixels=True, specific_tags=wanted)
                uid, study_uid = str(header.get("SOPInstanceUID", "")), str(header.get("StudyInstanceUID", ""))
            except InvalidDicomError:
                found.skipped.append(file)
            except Exception:  # noqa: BLE001 - damaged in whatever way
                found.unreadable.append(file)
            else:
                if uid:
                    # By the instance first: an edited Study Instance UID must not hide whose image it is.
                    study = study_of(session, uid) or study_uid
                    found.studies.setdefault(study, {}).setdefault(uid, []).append(file)
                else:
                    found.skipped.append(file)  # such as a DICOMDIR
            if progress is not None:
                progress(number, len(files))
    return found


def compare_folder(app: App, found: Scan, study_uid: str, *, partial: bool = False) -> StudyComparison:
    """One study of a scan. `partial`: what is not in the folder is not missing."""
    files = found.studies[study_uid]
    try:
        known = known_study(app, study_uid, None)
    except NotFound:
        unknown = [Comparison(uid, "", State.UNKNOWN, file=file) for uid, of in files.items() for file in of]
        return StudyComparison(study_uid, None, (), tuple(unknown))
    comparison = compare_study(known, Found(files), app.store)
    if not partial:
        return comparison
    there = tuple(each for each in comparison.instances if each.state is not State.MISSING)
    return StudyComparison(study_uid, comparison.standing, comparison.contradictions, there)


def unreadable(found: Scan) -> StudyComparison | None:
    """The files that cannot be read, as one group; None without any."""
    if not found.unreadable:
        return None
    note = "it claims to be DICOM and cannot be read"
    files = tuple(Comparison("", "", State.UNKNOWN, note=note, file=file) for file in found.unreadable)
    return StudyComparison(_NO_STUDY, None, (), files)
