"""`scanwarden audit checkpoint`, `prove`, `keys` and `seal`: what makes the ledger provable, and keeps it so."""

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.access.roles import Action
from gateway.cli.options import (
    ConfigOption,
    JsonOption,
    answers,
    existing_database,
    fail,
    person,
    settings_or_exit,
)

if TYPE_CHECKING:
    from storage.audit.keys import PublishedKey

keys = typer.Typer(no_args_is_help=True)


def checkpoint(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Sign the ledger's head now, and anchor it. The running service does so at an interval."""
    from storage.audit.checkpoints import open_checkpoints

    settings = settings_or_exit(config)
    with existing_database(settings, Action.KEEP_LEDGER) as database:
        checkpoints = open_checkpoints(settings, database)
        taken = checkpoints.take(person())
    if taken is None:
        fail("the ledger is empty; there is nothing to sign")
    if as_json:
        typer.echo(json.dumps(taken.to_json()))
        return
    answers.print(
        f"checkpoint {taken.number}: {taken.seq} records, head {taken.head}\nroot {taken.root}, key {taken.key_id}\n"
        "Keep it where nobody who can write the database can write; it then proves what existed:\n"
        f"{json.dumps(taken.to_json())}",
        highlight=False,
        soft_wrap=True,
    )


def prove(
    seq: Annotated[int | None, typer.Argument(min=1, help="The record's number.")] = None,
    config: ConfigOption = None,
    growth: Annotated[
        tuple[int, int] | None,
        typer.Option("--growth", metavar="OLD NEW", help="Instead: that checkpoint OLD is the beginning of NEW."),
    ] = None,
) -> None:
    """Print the proof, as JSON, that a record is in the ledger that was signed."""
    from storage import AuditEvent, AuditEventType
    from storage.audit import tree
    from storage.audit.checkpoints import open_checkpoints

    if (seq is None) == (growth is None):
        fail("name one record, or two checkpoints with --growth")
    settings = settings_or_exit(config)
    with existing_database(settings, Action.VERIFY_LEDGER) as database:
        checkpoints = open_checkpoints(settings, database)
        if growth is not None:
            old, new = (checkpoints.get(number) for number in growth)
            facts = tree.prove_growth(checkpoints.archive, old, new)
            subject = f"checkpoints {growth[0]} to {growth[1]}"
        else:
            number = int(seq or 0)
            proof = tree.prove(checkpoints.archive, number, checkpoints.covering(number))
            facts = {"record": checkpoints.archive.record(number).to_json(), "proof": proof}
            subject = f"record {number}"
        used = AuditEvent(AuditEventType.AUDIT_LOG_USED, actor=person(), details={"proof": subject})
        checkpoints.archive.ledger.record(used)
    typer.echo(json.dumps(facts, indent=1))


@keys.command("list")
def list_keys(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """The keys that the ledger names, oldest first; the last one signs."""
    from storage import AuditEvent, AuditEventType
    from storage.audit.checkpoints import open_archive

    settings = settings_or_exit(config)
    with existing_database(settings, Action.VERIFY_LEDGER) as database:
        archive = open_archive(settings, database)
        known = archive.published_keys()
        folder = archive.folder / "keys"
        archive.ledger.record(AuditEvent(AuditEventType.AUDIT_LOG_USED, actor=person(), details={"keys": len(known)}))
    if as_json:
        typer.echo(json.dumps([key.to_json() for key in known], indent=1))
        return
    if not known:
        answers.print("The ledger names no key yet: scanwarden audit checkpoint", highlight=False)
    for key in known:
        _print_key(key)
    answers.print(f"As PEM files: {folder}", highlight=False, soft_wrap=True)


@keys.command()
def rotate(
    config: ConfigOption = None,
    lost: Annotated[
        bool, typer.Option("--lost", help="The old private key is lost and cannot vouch for the new one.")
    ] = False,
) -> None:
    """Sign with a new key from now on. The old one signs what there is, vouches for the new one, and is deleted."""
    from storage.audit.checkpoints import open_checkpoints

    settings = settings_or_exit(config)
    with existing_database(settings, Action.KEEP_LEDGER) as database:
        new = open_checkpoints(settings, database).rotate(person(), lost=lost)
    _print_key(new)
    if lost:
        answers.print(
            "Nobody vouches for this key: hand its PEM file to everyone who verifies, who then name it with --key.",
            highlight=False,
            soft_wrap=True,
        )


def _print_key(key: "PublishedKey") -> None:
    since = f"from record {key.seq}, {key.time[:19].replace('T', ' ')} UTC"
    after = f", after {key.previous}" if key.previous else ""
    answers.print(f"{key.id}  {since}{after}", highlight=False, soft_wrap=True)


def seal(
    days: Annotated[float, typer.Option("--older-than-days", min=0, help="Seal what is older than so many days.")],
    config: ConfigOption = None,
    shorten: Annotated[
        bool,
        typer.Option(
            "--shorten", help="Then remove the rows of sealed segments; the files are the ledger's beginning from then."
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Seal old records into compressed files that keep their proofs; `verify` reads them as it reads the rows."""
    from storage.audit import segments
    from storage.audit.checkpoints import open_checkpoints

    settings = settings_or_exit(config)
    before = datetime.now(UTC) - timedelta(days=days)
    with existing_database(settings, Action.KEEP_LEDGER) as database:
        checkpoints = open_checkpoints(settings, database)
        made = segments.seal(checkpoints, person(), before=before)
        needed = segments.first_needed(database, [each.name for each in settings.audit.collectors])
        removed = 0
        for segment in checkpoints.archive.segments() if shorten else ():
            removed += segments.shorten(checkpoints, segment.number, person(), needed_from=needed)
        folder = checkpoints.archive.sealed_folder
    if as_json:
        facts = [{"number": each.number, "first": each.first, "last": each.last, "file": each.file} for each in made]
        typer.echo(json.dumps({"sealed": facts, "removed": removed, "folder": str(folder)}))
        return
    count = 1 << segments.LEVEL
    if not made:
        answers.print(f"Nothing to seal: no {count} signed records in a row are old enough.", highlight=False)
    for each in made:
        answers.print(f"sealed {each.first} to {each.last}: {folder / each.file}", highlight=False, soft_wrap=True)
    if removed:
        answers.print(f"{removed} rows removed. Keep these files as you keep the database.", highlight=False)
