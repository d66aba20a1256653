"""`scanwarden priors`: a patient's earlier studies in an archive, and what the gateway knows of each."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from gateway.access.roles import Action
from gateway.cli.fetch import (
    EXIT_INCOMPLETE,
    FromOption,
    archive_or_exit,
    fetcher_of,
    in_turn,
    progress_of,
    study_facts,
    without_log,
)
from gateway.cli.options import (
    VERDICT_STYLES,
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
    from gateway.app import App
    from gateway.fetching.priors import Candidates
    from gateway.verification.archive import AnyArchive


def priors(
    study_uid: Annotated[str, typer.Argument(metavar="UID", help="Study Instance UID of a study that is here.")],
    config: ConfigOption = None,
    origin: FromOption = None,
    fetch: Annotated[int, typer.Option("--fetch", min=0, max=50, help="Fetch so many, in the order shown.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """The patient's earlier studies in an archive, and what is known of each here; Patient ID and birth date agree.

    Ends with 0; with 1 when something of what --fetch asked for did not come; with 2 when nobody could be asked.
    """
    settings = settings_or_exit(config)
    with existing_database(settings, Action.QUERY_ARCHIVE, study_uid=study_uid):
        pass
    if fetch:
        with existing_database(settings, Action.FETCH_STUDY, study_uid=study_uid):
            pass
    from gateway.app import build

    with without_log(), build(settings) as app:
        archive = archive_or_exit(settings, origin)
        candidates = _find(app, archive, study_uid)
        became = _fetch_priors(app, archive, study_uid, candidates, fetch) if fetch else {}
        facts = {
            "study_uid": study_uid,
            "archive": archive.name,
            "priors": [
                study_facts(each) | _known_here(app, each.study_uid) | {"fetch": became.get(each.study_uid)}
                for each in candidates.studies
            ],
            "left_out": dict(candidates.left_out),
        }
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
    else:
        _print_priors(facts)
    failed = any(each is not None and each.startswith("not ") for each in became.values())
    raise typer.Exit(EXIT_INCOMPLETE if failed else 0)


def _find(app: "App", archive: "AnyArchive", study_uid: str) -> "Candidates":
    from gateway.dicom.query import NotExact
    from gateway.dicom.scu import SendError
    from gateway.fetching.priors import NoPatient, find_priors
    from storage import StorageError

    try:
        with progress_console.status(f"asking {archive.name} for earlier studies"):
            return find_priors(app, archive, study_uid, actor=person())
    except (SendError, NotExact, NoPatient, StorageError) as fault:
        fail(str(fault))


def _fetch_priors(
    app: "App", archive: "AnyArchive", study_uid: str, candidates: "Candidates", count: int
) -> dict[str, str]:
    """Fetch the first so many; what became of each, in words."""
    from gateway.dicom.scu import SendError
    from gateway.fetching.fetching import NotFetched, OtherPatient
    from gateway.fetching.patient import is_all_of
    from gateway.verification.checking import ArchiveBusy
    from storage import StorageError
    from storage.priors import ask_for, finish_prior
    from storage.tables import PriorState

    def accept(files: Sequence[Path]) -> bool:
        return is_all_of(candidates.patient, files)

    def end(uid: str, state: PriorState, instances: int, failure: str | None) -> None:
        with app.database.transaction() as session:
            finish_prior(session, study_uid, uid, state, instances=instances, failure=failure)

    became = {}
    for each in candidates.studies[:count]:
        uid = each.study_uid
        with app.database.transaction() as session:
            asked = ask_for(
                session,
                study_uid,
                uid,
                patient=candidates.digest,
                archive=archive.name,
                actor=person(),
                now=datetime.now(UTC),
            )
            state = asked.state
        if state is not PriorState.WAITING:
            became[uid] = "is here already"
            continue
        try:
            with progress_of(uid) as bar:
                get = partial(
                    fetcher_of(app, archive, bar).into_gateway,
                    uid,
                    listed=bar.listed,
                    accept=accept,
                    because_of=study_uid,
                )
                got = in_turn(get)
        except OtherPatient as fault:
            end(uid, PriorState.REFUSED, 0, str(fault))
            became[uid] = f"not taken: {fault}"
        except (SendError, NotFetched, ArchiveBusy, StorageError) as fault:
            end(uid, PriorState.DEAD, 0, str(fault))
            became[uid] = f"not fetched: {fault}"
        else:
            missing = got.listed - got.taken
            words = f"not whole: {got.taken} of {got.listed} instances" if missing or not got.is_whole else None
            end(uid, PriorState.FETCHED, got.taken, words)
            became[uid] = words or f"fetched, {got.taken} instances"
    return became


def _known_here(app: "App", study_uid: str) -> dict[str, Any]:
    """What the gateway knows of a study: its verdict, and whether its images are as first seen."""
    from storage import NotFound
    from storage.firstseen import first_seen
    from storage.priors import last_verdict
    from storage.verifications import last_verification

    with app.database.reading() as session:
        try:
            seen = first_seen(session, study_uid)
        except NotFound:
            return {"here": False, "verdict": None, "first_seen": None, "verified": None, "verified_at": None}
        verified = last_verification(session, study_uid)
        return {
            "here": True,
            "verdict": last_verdict(session, study_uid),
            "first_seen": seen.standing.value,
            "verified": verified.state.value if verified is not None else None,
            "verified_at": verified.finished_at.isoformat(timespec="seconds")
            if verified is not None and verified.finished_at is not None
            else None,
        }


def _print_priors(facts: dict[str, Any]) -> None:
    rows = facts["priors"]
    count = f"{len(rows)} earlier stud{'ies' if len(rows) != 1 else 'y'} of this patient"
    answers.print(f"{count} in {facts['archive']}", highlight=False)
    for each in rows:
        what = " ".join([*each["modalities"], *each["body_parts"]]) or "no modality"
        style = VERDICT_STYLES.get(each["verdict"] or "", "none")
        here = f"[{style}]{each['verdict'] or 'no verdict yet'}[/]" if each["here"] else "not here"
        if each["here"]:
            digests = f"digests {each['first_seen']}"
            seen = {"SAME": "as first seen", "DIFFERS": "[bold red]differs from what was first seen[/]"}
            checked = seen.get(each["verified"] or "", "not verified in the archive")
            here = f"{here}, {digests}, {checked}"
        answers.print(f"  {each['date']} {escape(what)} {each['study_uid']}: {here}", highlight=False, soft_wrap=True)
        if each["fetch"]:
            answers.print(f"      {escape(each['fetch'])}", highlight=False, soft_wrap=True)
    for reason, number in facts["left_out"].items():
        answers.print(f"  left out: {number}, {reason}", highlight=False)
