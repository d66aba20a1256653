"""Archives to verify: one way to fetch a study each, one association at a time, at the pace that the settings allow."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from ssl import SSLContext
from typing import Protocol

from config import Settings
from config.settings import Destination, Tls
from gateway.dicom.header import is_uid
from gateway.dicom.move import MoveTarget, move_study
from gateway.dicom.retrieve import Fetched, get_study
from gateway.dicom.scu import Unreachable
from gateway.dicom.tls import TlsFault, client_context, server_context
from gateway.dicom.web import get_study_by_web
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
        self,
        study_uid: str,
        folder: Path,
        *,
        expected: Iterable[tuple[str, str]],
        pace: Callable[[], None],
        series_uid: str | None = None,
        listed: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Fetch by C-FIND and C-GET. Raises SendError."""
        got = get_study(
            self.destination,
            self.calling_ae_title,
            study_uid,
            folder,
            expected=expected,
            pace=pace,
            series_uid=series_uid,
            listed=listed,
        )
        _keep(folder, got)


@dataclass(frozen=True)
class MovingArchive:
    """A destination that answers C-FIND and C-MOVE."""

    destination: Destination
    calling_ae_title: str
    ae_title: str
    host: str
    port: int
    tls: Tls | None

    @property
    def name(self) -> str:
        return self.destination.name

    def fetch(
        self,
        study_uid: str,
        folder: Path,
        *,
        expected: Iterable[tuple[str, str]],  # noqa: ARG002 - our port takes every form
        pace: Callable[[], None],
        series_uid: str | None = None,
        listed: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Fetch by C-FIND and C-MOVE. Raises SendError."""
        try:
            tls = server_context(self.tls) if self.tls is not None else None
        except TlsFault as fault:
            raise Unreachable(f"{self.name}: {fault}") from fault
        target = MoveTarget(self.ae_title, self.host, self.port, tls)
        got = move_study(
            self.destination,
            self.calling_ae_title,
            study_uid,
            folder,
            target,
            pace=pace,
            series_uid=series_uid,
            listed=listed,
        )
        _keep(folder, got)


@dataclass(frozen=True)
class WebArchive:
    """A destination that answers QIDO-RS and WADO-RS."""

    destination: Destination
    url: str
    authorization_file: Path | None
    max_bytes: int

    @property
    def name(self) -> str:
        return self.destination.name

    def fetch(
        self,
        study_uid: str,
        folder: Path,
        *,
        expected: Iterable[tuple[str, str]],  # noqa: ARG002 - it says itself in what form it keeps them
        pace: Callable[[], None],
        series_uid: str | None = None,
        listed: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Fetch by QIDO-RS and WADO-RS. Raises SendError."""
        tls, authorization = self.credentials()
        got = get_study_by_web(
            self.url,
            study_uid,
            folder,
            timeout=self.destination.timeout,
            tls=tls,
            authorization=authorization,
            max_bytes=self.max_bytes,
            pace=pace,
            series_uid=series_uid,
            listed=listed,
        )
        _keep(folder, got)

    def credentials(self) -> tuple[SSLContext | None, str | None]:
        """What a request carries: the TLS context, and the Authorization header. Raises SendError."""
        try:
            tls = client_context(self.destination.tls) if self.destination.tls is not None else None
            file = self.authorization_file
            return tls, file.read_text(encoding="ascii").strip() if file is not None else None
        except (TlsFault, OSError, ValueError) as fault:
            raise Unreachable(f"{self.name}: {fault}") from fault


AnyArchive = DicomArchive | MovingArchive | WebArchive


def archive_of(settings: Settings, name: str | None = None) -> AnyArchive:
    """The destination with this name, or the one that `verification.archive` names. Raises NoSuchArchive."""
    wanted = name or settings.verification.archive
    if wanted is None:
        raise NoSuchArchive("no archive is configured: set verification.archive, or name one with --destination")
    for destination in settings.destinations:
        if destination.name == wanted:
            limits = settings.verification
            if limits.dicomweb is not None and wanted == limits.archive:
                return WebArchive(
                    destination, limits.dicomweb, limits.authorization_file, settings.dicom.max_instance_bytes
                )
            if limits.move_ae_title is not None and limits.move_port is not None and wanted == limits.archive:
                ours = settings.dicom
                return MovingArchive(
                    destination, ours.ae_title, limits.move_ae_title, ours.host, limits.move_port, ours.tls
                )
            if destination.dicomweb is not None and destination.ae_title == Destination.WEB_AE_TITLE:
                file, most = destination.authorization_file, settings.dicom.max_instance_bytes
                return WebArchive(destination, destination.dicomweb, file, most)
            return DicomArchive(destination, settings.dicom.ae_title)
    known = ", ".join(each.name for each in settings.destinations) or "none"
    raise NoSuchArchive(f"there is no destination {wanted} in the configuration (known: {known})")


def _keep(folder: Path, got: Fetched) -> None:
    listed = {each.sop_instance_uid: each.sop_class_uid for each in got.listed.values()}
    keep_list(folder, listed, {uid: file.name for uid, file in got.files.items()})


def keep_list(folder: Path, listed: dict[str, str], files: dict[str, str]) -> None:
    """Leave beside the fetched files what the archive lists, for the process that compares."""
    (folder / _LIST).write_text(json.dumps({"listed": listed, "files": files}), encoding="ascii")


def read_list(folder: Path) -> Found:
    """What `fetch` left in a folder."""
    kept = json.loads((folder / _LIST).read_text(encoding="ascii"))
    files = {uid: [folder / Path(name).name] for uid, name in kept["files"].items() if is_uid(uid)}
    return Found(files, dict(kept["listed"]))
