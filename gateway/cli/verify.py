"""`scanwarden verify`: whether images still are what was first seen. Every look is recorded in the ledger.

Ends with 0 when all is as first seen, or re-encoded without loss; with 1 when something is altered, missing or extra;
with 2 when it could not be verified; with 4 when nothing differs and something is unknown (3: refused).
"""

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

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
    from gateway.verification.checking import Checker
    from gateway.verification.compare import Comparison, StudyComparison
    from storage.verifications import Coverage

EXIT_DIFFERS, EXIT_NOT_VERIFIED, EXIT_UNKNOWN = 1, 2, 4
_UID = re.compile(r"[0-9.]{1,64}")
_STYLES = {
    "as-first-seen": "green",
    "re-encoded": "green",
    "altered": "bold red",
    "missing": "bold red",
    "extra": "bold red",
    "unknown": "yellow",
    "not-sent": "yellow",
}
_LISTED = 20


def verify(
    target: Annotated[
        str | None, typer.Argument(metavar="FOLDER|UID", help="A file or folder, or a Study Instance UID to fetch.")
    ] = None,
    config: ConfigOption = None,
    destination: Annotated[
        str | None, typer.Option("--destination", help="The archive; without it: verification.archive.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every study that the archive should have.")] = False,
    skip_hours: Annotated[
        float, typer.Option("--skip-hours", min=0, help="With --all: leave out what was verified in so many hours.")
    ] = 0.0,
    coverage: Annotated[
        bool, typer.Option("--coverage", help="What share of the archive was verified lately.")
    ] = False,
    partial: Annotated[bool, typer.Option("--partial", help="For a folder: what is not in it is not missing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Compare images with what was first seen, and say for each instance what it is.

    Ends with 0: as first seen; 1: altered, missing or extra; 2: could not be verified; 4: unknown.
    """
    if sum((target is not None, everything, coverage)) != 1:
        fail("name one thing: a folder, a Study Instance UID, --all or --coverage")
    settings = settings_or_exit(config)
    named = target if target is not None and not Path(target).exists() and _UID.fullmatch(target) else None
    action = Action.READ_STATUS if coverage else Action.VERIFY_ARCHIVE if everything else Action.VERIFY_STUDY
    with existing_database(settings, action, study_uid=named):
        pass
    from gateway.app import build

    with build(settings) as app:
        if coverage:
            _print_coverage(settings, app, destination, as_json)
            return
        if everything:
            _sweep(settings, app, destination, skip_hours, as_json)
        elif target is not None and Path(target).exists():
            comparisons = _folder(app, Path(target), partial)
            _finish(comparisons, as_json)
        elif named is not None:
            _finish([_study(settings, app, destination, named)], as_json)
        else:
            fail(f"{target} is neither a file or folder that exists, nor a Study Instance UID")


def _folder(app: "App", path: Path, partial: bool) -> "list[StudyComparison]":
    from gateway.verification.folder import compare_folder, scan, unreadable
    from storage.verifications import verification_event

    with _progress() as bar:
        task = bar.add_task("reading headers", total=None)
        found = scan(app, path, progress=lambda done, total: bar.update(task, completed=done, total=total))
        task = bar.add_task("comparing studies", total=len(found.studies))
        comparisons = []
        for study_uid in sorted(found.studies):
            comparisons.append(compare_folder(app, found, study_uid, partial=partial))
            bar.advance(task)
    damaged = unreadable(found)
    if damaged is not None:
        comparisons.append(damaged)
    if not comparisons:
        fail(f"{path} holds no DICOM file")
    for each in comparisons:
        event = verification_event(
            each.study_uid if 0 < len(each.study_uid) <= 64 else None,
            "files",
            person(),
            each.differs,
            each.counts,
            each.named,
            each.notes,
        )
        app.ledger.record(event)
    return comparisons


def _study(settings: "Settings", app: "App", destination: str | None, study_uid: str) -> "StudyComparison":
    from gateway.verification.checking import ArchiveBusy, NotVerified
    from storage import NotFound, StorageError

    checker = _checker(settings, app, destination)
    try:
        with progress_console.status(f"fetching study {study_uid}"):
            found = checker.check(study_uid, decode=True)
    except NotFound as fault:
        progress_console.print(f"[yellow]unknown[/]: {fault}", highlight=False)
        raise typer.Exit(EXIT_UNKNOWN) from None
    except (NotVerified, ArchiveBusy, StorageError) as fault:
        fail(f"study {study_uid} is not verified: {fault}")
    if isinstance(found, int):
        fail(f"study {study_uid} is not verified: it still waits for its comparison")
    return found


def _sweep(settings: "Settings", app: "App", destination: str | None, skip_hours: float, as_json: bool) -> None:
    """All studies, one after the other; the result of each is kept at once, so an interrupted sweep loses nothing."""
    from gateway.verification.archive import archive_of
    from gateway.verification.checking import ArchiveBusy, NotVerified
    from storage import StorageError
    from storage.verifications import coverage, studies_to_sweep

    checker = _checker(settings, app, destination)
    since = datetime.now(UTC) - timedelta(hours=skip_hours)
    archive = archive_of(settings, destination).name
    with app.database.reading() as session:
        studies = studies_to_sweep(session, archive, since)
    differing: list[StudyComparison] = []
    failed: dict[str, str] = {}
    same = 0
    with _progress() as bar:
        task = bar.add_task("verifying the archive", total=len(studies))
        for study_uid in studies:
            try:
                found = checker.check(study_uid, decode=True)
            except ArchiveBusy as fault:
                fail(str(fault))
            except (NotVerified, StorageError) as fault:
                failed[study_uid] = str(fault)
            else:
                if isinstance(found, int):
                    failed[study_uid] = "it still waits for its comparison"
                elif found.differs:
                    differing.append(found)
                    bar.console.print(f"[bold red]differs[/] {study_uid}: {_counts(found.counts)}", highlight=False)
                else:
                    same += 1
            bar.advance(task)
    with app.database.reading() as session:
        covered = coverage_facts(settings, archive, coverage(session, archive, settings.verification.window))
    if as_json:
        facts = {
            "studies": len(studies),
            "as_first_seen": same,
            "differing": [each.to_json() for each in differing],
            "not_verified": failed,
            "coverage": covered,
        }
        typer.echo(json.dumps(facts, indent=2))
    else:
        answers.print(
            f"{len(studies)} studies: {same} as first seen, {len(differing)} differ, {len(failed)} not verified",
            highlight=False,
        )
        for each in differing:
            _print_study(each)
        for study_uid, why in list(failed.items())[:_LISTED]:
            answers.print(f"  [yellow]not verified[/] {study_uid}: {why}", highlight=False, soft_wrap=True)
        answers.print(coverage_words(covered), highlight=False, soft_wrap=True)
    raise typer.Exit(EXIT_DIFFERS if differing else EXIT_NOT_VERIFIED if failed else 0)


def _checker(settings: "Settings", app: "App", destination: str | None) -> "Checker":
    from gateway.verification.archive import NoSuchArchive, archive_of
    from gateway.verification.budget import Pace
    from gateway.verification.checking import Checker

    try:
        archive = archive_of(settings, destination)
    except NoSuchArchive as fault:
        fail(str(fault))
    return Checker(app, archive, actor=person(), pace=Pace(settings.verification.instances_per_second))


def _finish(comparisons: "Sequence[StudyComparison]", as_json: bool) -> None:
    from gateway.verification.compare import State

    if as_json:
        typer.echo(json.dumps([each.to_json() for each in comparisons], indent=2))
    else:
        for each in comparisons:
            _print_study(each)
    if any(each.differs for each in comparisons):
        raise typer.Exit(EXIT_DIFFERS)
    if any(instance.state is State.UNKNOWN for each in comparisons for instance in each.instances):
        raise typer.Exit(EXIT_UNKNOWN)


def _print_study(found: "StudyComparison") -> None:
    unknown = set(found.counts) == {"unknown"}
    answer = "[bold red]differs[/]" if found.differs else "[yellow]unknown[/]" if unknown else "[green]as first seen[/]"
    answers.print(f"{answer}  study {found.study_uid or 'of no study'}: {_counts(found.counts)}", highlight=False)
    for text in found.contradictions:
        answers.print(f"  [bold red]the ledger says otherwise[/]: {text}", highlight=False, soft_wrap=True)
    quiet = ("as-first-seen", "re-encoded")
    told = [each for each in found.instances if each.state not in quiet or each.elements]
    for each in told[:_LISTED]:
        _print_instance(each)
    if len(told) > _LISTED:
        answers.print(f"  and {len(told) - _LISTED} more; --json prints them all", highlight=False)
    if found.differs and found.study_uid:
        answers.print(
            f"Keep both as they are; what is known: scanwarden audit list --study {found.study_uid}",
            highlight=False,
            soft_wrap=True,
        )


def _print_instance(each: "Comparison") -> None:
    words = f"  [{_STYLES.get(each.state.value, 'none')}]{each.state.value}[/] {each.sop_instance_uid or each.file}"
    if each.changed:
        words += f": {', '.join(each.changed)}"
    if each.region is not None:
        row0, column0, row1, column1 = each.region.box
        words += f" in rows {row0}-{row1 - 1}, columns {column0}-{column1 - 1} ({each.region.pixels} pixels)"
    if each.note:
        words += f"; {each.note}"
    if each.document and each.state.value == "extra":
        words += " (a document, no image: not an incident)"
    if each.elements:
        words += f"; other elements differ from our copy: {', '.join(each.elements[:_LISTED])}"
    answers.print(words, highlight=False, soft_wrap=True)


def _print_coverage(settings: "Settings", app: "App", destination: str | None, as_json: bool) -> None:
    from gateway.verification.archive import NoSuchArchive, archive_of
    from storage.verifications import coverage

    try:
        name = archive_of(settings, destination).name
    except NoSuchArchive as fault:
        fail(str(fault))
    with app.database.reading() as session:
        found = coverage(session, name, settings.verification.window)
    facts = coverage_facts(settings, name, found)
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
    else:
        answers.print(coverage_words(facts), highlight=False, soft_wrap=True)


def coverage_facts(settings: "Settings", archive: str, found: "Coverage") -> dict[str, Any]:
    """The coverage of an archive for a script; `scanwarden status` prints the same."""
    return {
        "archive": archive,
        "days": settings.verification.window.total_seconds() / 86400,
        "studies": found.studies,
        "verified": found.verified,
        "share": round(found.share, 4),
        "differing": found.differing,
        "oldest": found.oldest.isoformat(timespec="seconds") if found.oldest else None,
    }


def coverage_words(facts: dict[str, Any]) -> str:
    """The same in a line."""
    words = (
        f"{facts['share']:.1%} of {facts['archive']} verified in the last {facts['days']:g} days "
        f"({facts['verified']} of {facts['studies']} studies)"
    )
    return words + (f", [bold red]{facts['differing']} differ[/]" if facts["differing"] else "")


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=progress_console,
        transient=True,
    )


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in counts.items()) or "nothing"
