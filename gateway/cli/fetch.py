"""`scanwarden fetch`: studies that an archive has, into the gateway or into a folder.

Ends with 0 when everything that the archive lists came and was taken; with 1 when something did not, or the
question has no single answer; with 2 when nothing could be fetched; with 4 when the archive lists no such study (3:
refused). What the archive says of patients goes to the screen, and nowhere else.
"""

import json
import logging
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import structlog
import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from gateway.access.roles import Action
from gateway.cli.options import (
    ConfigOption,
    JsonOption,
    answers,
    existing_database,
    fail,
    person,
    progress_console,
    settings_or_exit,
)

if TYPE_CHECKING:
    from config import Settings
    from gateway.app import App
    from gateway.dicom.query import StudyFound
    from gateway.fetching.fetching import Fetch, Fetcher
    from gateway.verification.archive import AnyArchive

EXIT_INCOMPLETE, EXIT_UNKNOWN = 1, 4
TURN_SECONDS = 30.0  # that we wait for our turn at an archive
_UID = re.compile(r"[0-9]+(\.[0-9]+)+")
_NAMED = 20

FromOption = Annotated[
    str | None,
    typer.Option("--from", help="The destination to ask; without it: priors.archive, or verification.archive."),
]


def fetch(
    study_uid: Annotated[str | None, typer.Argument(metavar="[UID]", help="Study Instance UID.")] = None,
    config: ConfigOption = None,
    origin: FromOption = None,
    series: Annotated[str | None, typer.Option("--series", help="Only this Series Instance UID of it.")] = None,
    accession: Annotated[str | None, typer.Option("--accession", help="The study with this accession number.")] = None,
    patient: Annotated[str | None, typer.Option("--patient", help="Studies of this Patient ID; with --list.")] = None,
    only_list: Annotated[bool, typer.Option("--list", help="Only show what the archive lists.")] = False,
    output: Annotated[
        Path | None, typer.Option("--output", help="Write the files into this folder; nothing enters the gateway.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Fetch a study from an archive; without --output it enters the gateway and is analysed like any other.

    Ends with 0: all came; 1: something did not; 2: nothing could be fetched; 4: the archive lists no such study.
    """
    keys = {"StudyInstanceUID": study_uid, "AccessionNumber": accession, "PatientID": patient}
    given = {name: value for name, value in keys.items() if value is not None}
    if len(given) != 1:
        fail("name one thing: a Study Instance UID, --accession or --patient")
    for uid in (study_uid, series):
        if uid is not None and not (_UID.fullmatch(uid) and len(uid) <= 64):
            fail(f"{uid} is no UID")
    if patient is not None and not only_list:
        fail("a patient may have many studies: add --list, then fetch one by its UID")
    settings = settings_or_exit(config)
    with existing_database(settings, Action.QUERY_ARCHIVE if only_list else Action.FETCH_STUDY, study_uid=study_uid):
        pass
    if accession is not None and not only_list:
        with existing_database(settings, Action.QUERY_ARCHIVE):
            pass
    from gateway.app import build

    with without_log(), build(settings) as app:
        archive = archive_or_exit(settings, origin)
        if study_uid is None or only_list:
            found = _ask(app, archive, given)
            if only_list:
                _show(found, as_json)
                raise typer.Exit(0 if found else EXIT_UNKNOWN)
            if len(found) != 1:
                _show(found, as_json)
                progress_console.print(f"{len(found)} studies have this number; fetch one by its UID", highlight=False)
                raise typer.Exit(EXIT_INCOMPLETE if found else EXIT_UNKNOWN)
            study_uid = found[0].study_uid
        got = _one(app, archive, study_uid, series, output)
    if as_json:
        typer.echo(json.dumps(_fetch_facts(got, output is not None), indent=2))
    else:
        _print_fetch(got, output)
    if not got.listed and not got.taken:
        raise typer.Exit(EXIT_UNKNOWN)
    raise typer.Exit(0 if got.is_whole else EXIT_INCOMPLETE)


def archive_or_exit(settings: "Settings", name: str | None) -> "AnyArchive":
    """The archive to ask; without one the command ends with exit code 2."""
    from gateway.fetching.questions import chosen_archive
    from gateway.verification.archive import NoSuchArchive

    try:
        return chosen_archive(settings, name)
    except NoSuchArchive as fault:
        fail(str(fault).replace("--destination", "--from"))


def _ask(app: "App", archive: "AnyArchive", keys: dict[str, str]) -> "list[StudyFound]":
    from gateway.dicom.query import NotExact
    from gateway.dicom.scu import SendError
    from gateway.fetching.questions import ask_studies
    from storage import StorageError

    try:
        with progress_console.status(f"asking {archive.name}"):
            return ask_studies(app, archive, keys, actor=person())
    except (SendError, NotExact, StorageError) as fault:
        fail(str(fault))


def fetcher_of(app: "App", archive: "AnyArchive", bar: "Bar") -> "Fetcher":
    """Fetches for the person at the terminal, at the pace that the settings allow."""
    from gateway.fetching.fetching import Fetcher
    from gateway.verification.budget import Pace

    pace = Pace(app.settings.verification.instances_per_second, also=bar.arrived)
    return Fetcher(app, archive, actor=person(), pace=pace)


@contextmanager
def without_log() -> Iterator[None]:
    """What the service would log is told here by the answer, and standard output belongs to that."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        yield
    finally:
        structlog.configure(**before)


@dataclass(frozen=True)
class Bar:
    """How far one study is."""

    progress: Progress
    task: TaskID

    def listed(self, total: int) -> None:
        """So many instances are to come."""
        self.progress.update(self.task, total=total)

    def arrived(self) -> None:
        """One more came."""
        self.progress.advance(self.task)


@contextmanager
def progress_of(study_uid: str) -> Iterator[Bar]:
    """A bar for as long as a study is fetched."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=progress_console, transient=True) as progress:
        yield Bar(progress, progress.add_task(f"fetching {study_uid}", total=None))


def _one(app: "App", archive: "AnyArchive", study_uid: str, series: str | None, output: Path | None) -> "Fetch":
    from gateway.dicom.scu import SendError
    from gateway.fetching.fetching import NotFetched
    from gateway.verification.checking import ArchiveBusy
    from storage import StorageError

    try:
        with progress_of(study_uid) as bar:
            fetcher = fetcher_of(app, archive, bar)
            if output is not None:
                folder = output
                return in_turn(lambda: fetcher.into_folder(study_uid, folder, series_uid=series, listed=bar.listed))
            return in_turn(lambda: fetcher.into_gateway(study_uid, series_uid=series, listed=bar.listed))
    except ArchiveBusy:
        fail(f"study {study_uid} is not fetched: another process reads from the archive now; try again in a moment")
    except (SendError, NotFetched, StorageError) as fault:
        fail(f"study {study_uid} is not fetched: {fault}")


def in_turn(fetching: "Callable[[], Fetch]") -> "Fetch":
    """Wait a little while another process reads from the archive. Raises ArchiveBusy."""
    from gateway.verification.checking import ArchiveBusy

    end = time.monotonic() + TURN_SECONDS
    while True:
        try:
            return fetching()
        except ArchiveBusy:
            if time.monotonic() > end:
                raise
            time.sleep(0.5)


def study_facts(found: "StudyFound") -> dict[str, Any]:
    """What tells one study of a patient from the others."""
    return {
        "study_uid": found.study_uid,
        "date": found.date,
        "time": found.time,
        "modalities": list(found.modalities),
        "body_parts": list(found.body_parts),
        "description": found.description,
        "instances": found.instances,
    }


def _show(found: "Sequence[StudyFound]", as_json: bool) -> None:
    if as_json:
        more = ("patient_id", "issuer", "patient_name", "birth_date", "accession")
        facts = [study_facts(each) | {name: getattr(each, name) for name in more} for each in found]
        typer.echo(json.dumps(facts, indent=2))
        return
    if not found:
        answers.print("the archive lists no such study", highlight=False)
        return
    for each in sorted(found, key=lambda one: (one.date, one.time), reverse=True):
        whose = " ".join(part for part in (each.patient_id, each.patient_name, each.birth_date) if part)
        count = "" if each.instances is None else f"{each.instances} instances"
        told = (each.date, whose, each.accession, " ".join(each.modalities), each.description, count)
        # A line each and no table, which a narrow terminal would cut UIDs in.
        line = f"{each.study_uid}  {'; '.join(part for part in told if part)}"
        answers.print(escape(line), highlight=False, soft_wrap=True)


def _fetch_facts(got: "Fetch", to_folder: bool) -> dict[str, Any]:
    return {
        "study_uid": got.study_uid,
        "archive": got.archive,
        "to": "folder" if to_folder else "gateway",
        "listed": got.listed,
        "taken": got.taken,
        "not_sent": list(got.not_sent),
        "refused": dict(got.refused),
    }


def _print_fetch(got: "Fetch", output: Path | None) -> None:
    if not got.listed and not got.taken:
        answers.print(f"[yellow]unknown[/]: {got.archive} lists no study {got.study_uid}", highlight=False)
        return
    style = "green" if got.is_whole else "bold red"
    where = f"in {output}" if output is not None else "in the gateway"
    answers.print(
        f"[{style}]{got.taken} of {got.listed}[/] instances of study {got.study_uid} are {escape(where)}",
        highlight=False,
        soft_wrap=True,
    )
    told = [f"[yellow]not sent[/] {uid}" for uid in got.not_sent]
    told += [f"[bold red]not taken[/] {uid}: {escape(why)}" for uid, why in got.refused.items()]
    for line in told[:_NAMED]:
        answers.print(f"  {line}", highlight=False, soft_wrap=True)
    if len(told) > _NAMED:
        answers.print(f"  and {len(told) - _NAMED} more; --json prints them all", highlight=False)
    if output is None and got.taken:
        answers.print(f"What becomes of it: scanwarden study {got.study_uid}", highlight=False, soft_wrap=True)
