"""Archives to verify: one way to fetch a study each, one association at a time, at the pace that the settings allow."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from config import Settings
from config.settings import Destination
from gateway.dicom.header import is_uid
from gateway.dicom.retrieve import get_study
from gateway.verification.compare import Found

_LIST = "listed.json"


class NoSuchArchive(Exception):
    """No destination has this name."""


class Archive(Protocol):
    """What a verification needs of an archive."""

    @property
    def name(self) -> str:
        """As the configuration and the results call it."""
        ...

    def fetch(
        self, study_uid: str, folder: Path, *, expected: Iterable[tuple[str, str]], pace: Callable[[], None]
    ) -> None:
        """Put the study's files and `keep_list` of what the archive lists into `folder`. Raises SendError."""
        ...


@dataclass(frozen=True)
class DicomArchive:
    """A destination that answers C-FIND and C-GET."""

    destination: Destination
    calling_ae_title: str

    @property
    def name(self) -> str:
        return self.destination.name

    def fetch(
        self, study_uid: str, folder: Path, *, expected: Iterable[tuple[str, str]], pace: Callable[[], None]
    ) -> None:
        """Fetch by C-FIND and C-GET. Raises SendError."""
        got = get_study(self.destination, self.calling_ae_title, study_uid, folder, expected=expected, pace=pace)
        keep_list(
            folder,
            {each.sop_instance_uid: each.sop_class_uid for each in got.listed.values()},
            {uid: file.name for uid, file in got.files.items()},
        )


def archive_of(settings: Settings, name: str | None = None) -> Archive:
    """The destination with this name, or the one that `verification.archive` names. Raises NoSuchArchive."""
    wanted = name or settings.verification.archive
    if wanted is None:
        raise NoSuchArchive("no archive is configured: set verification.archive, or name one with --destination")
    for destination in settings.destinations:
        if destination.name == wanted:
            return DicomArchive(destination, settings.dicom.ae_title)
    known = ", ".join(each.name for each in settings.destinations) or "none"
    raise NoSuchArchive(f"there is no destination {wanted} in the configuration (known: {known})")


def keep_list(folder: Path, listed: dict[str, str], files: dict[str, str]) -> None:
    """Leave beside the fetched files what the archive lists, for the process that compares."""
    (folder / _LIST).write_text(json.dumps({"listed": listed, "files": files}), encoding="ascii")


def read_list(folder: Path) -> Found:
    """What `fetch` left in a folder."""
    kept = json.loads((folder / _LIST).read_text(encoding="ascii"))
    files = {uid: [folder / Path(name).name] for uid, name in kept["files"].items() if is_uid(uid)}
    return Found(files, dict(kept["listed"]))
