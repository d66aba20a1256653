"""`scanwarden audit`: read the ledger, and verify that nobody changed it. Looking is itself recorded."""

import json
from contextlib import closing
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import Progress

from gateway.access.roles import Action
from gateway.cli.audit_export import export, report
from gateway.cli.audit_proofs import checkpoint, keys, prove, seal
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
    from storage import LedgerRecord
    from storage.audit.verification import LedgerReport

app = typer.Typer(no_args_is_help=True)
for command in (checkpoint, prove, export, report, seal):
    app.command()(command)
app.add_typer(keys, name="keys", help="The keys that sign the ledger's checkpoints.")

EXIT_BROKEN = 1
OUTCOMES = {0: "success", 4: "minor failure", 8: "serious failure", 12: "major failure"}


@app.command()
def verify(
    config: ConfigOption = None,
    first: Annotated[int | None, typer.Option("--from", min=1, help="Only from this record on.")] = None,
    last: Annotated[int | None, typer.Option("--to", min=1, help="Only up to this record.")] = None,
    kept: Annotated[
        list[Path] | None,
        typer.Option("--checkpoint", help="A file with checkpoints that was kept elsewhere; may be given again."),
    ] = None,
    trusted: Annotated[
        list[Path] | None,
        typer.Option("--key", help="PEM file of a public key that you have from elsewhere; may be given again."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Verify the ledger: chain, tree, checkpoints, keys, sealed files and anchors.

    Ends with 0 when it is intact, with 1 when it is broken, and says where.
    """
    from storage import AuditEvent, AuditEventType, AuditOutcome, Ledger
    from storage.audit.checkpoints import open_checkpoints
    from storage.audit.keys import KeyFault, PublicKey
    from storage.audit.verification import verify_ledger, verify_range

    part = first is not None or last is not None
    if part and (kept or trusted):
        fail("--checkpoint and --key are held against the whole ledger; leave --from and --to out")
    settings = settings_or_exit(config)
    with existing_database(settings, Action.VERIFY_LEDGER) as database:
        checkpoints = open_checkpoints(settings, database)
        if part:
            found = verify_range(checkpoints, first or 1, last)
        else:
            try:
                believed = [PublicKey.from_file(path) for path in trusted or ()]
            except KeyFault as fault:
                fail(str(fault))
            with Progress(console=progress_console, transient=True) as bar:
                task = bar.add_task("verifying the ledger", total=Ledger(database).head().seq)
                found = verify_ledger(
                    checkpoints,
                    kept=kept or (),
                    trusted=believed,
                    progress=lambda done: bar.update(task, completed=done),
                )
        broken = found.broken
        checkpoints.archive.ledger.record(
            AuditEvent(
                AuditEventType.LEDGER_VERIFIED if broken is None else AuditEventType.LEDGER_BROKEN,
                actor=person(),
                outcome=AuditOutcome.SUCCESS if broken is None else AuditOutcome.MAJOR_FAILURE,
                details={
                    "first": found.first,
                    "records": found.records,
                    "head": found.head.hash,
                    "broken_at": broken.seq if broken else None,
                    "reason": broken.text if broken else None,
                },
            )
        )
    if as_json:
        typer.echo(json.dumps(_facts(found)))
    else:
        _print(found)
    raise typer.Exit(0 if found.intact else EXIT_BROKEN)


def _facts(found: "LedgerReport") -> dict[str, Any]:
    breaks = [{"seq": each.seq, "kind": each.kind.value, "text": each.text} for each in found.breaks]
    facts: dict[str, Any] = {
        "intact": found.intact,
        "records": found.records,
        "first": found.first,
        "head": found.head.hash,
        "signed_up_to": found.covered,
        "checkpoints": found.checkpoints,
        "anchored": found.anchored,
        "keys": [key.id for key in found.keys],
        "breaks": breaks,
    }
    return facts | ({"broken": breaks[0]} if breaks else {})


def _print(found: "LedgerReport") -> None:
    def say(line: str) -> None:
        answers.print(line, highlight=False, soft_wrap=True)

    if found.intact:
        say(f"[green]intact[/]: {found.records} records, head {found.head.hash}")
        if found.covered == 0:
            say("No checkpoint signs them yet: scanwarden audit checkpoint")
        else:
            late = found.head.seq - found.covered
            more = f"; the chain alone holds the {late} after it until the next checkpoint" if late > 0 else ""
            say(f"Signed up to record {found.covered}, by {found.keys[-1].id if found.keys else 'no key'}{more}.")
        return
    for each in found.breaks:
        say(f"[bold red]broken at record {each.seq}[/] ({each.kind.value}): {each.text}")
    say("Stop the service, keep database and files as they are, and compare with a backup and the collector's copy.")


@app.command("list")
def list_records(
    config: ConfigOption = None,
    study: Annotated[str | None, typer.Option("--study", help="Only this Study Instance UID.")] = None,
    event: Annotated[str | None, typer.Option("--event", help="Only this event, such as instance-stored.")] = None,
    hours: Annotated[float | None, typer.Option("--hours", min=0, help="Only the last so many hours.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many records, the newest.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """Print the newest records that match, oldest first."""
    from storage import AuditEvent, AuditEventType, Ledger

    since = None if hours is None else datetime.now(UTC) - timedelta(hours=hours)
    with existing_database(settings_or_exit(config), Action.READ_LEDGER) as database:
        with closing(database.for_readers()) as readers:
            records = Ledger(readers).list(since=since, event=event, study_uid=study, limit=limit)
        used = {"records": len(records)}
        Ledger(database).record(
            AuditEvent(AuditEventType.AUDIT_LOG_USED, actor=person(), study_uid=study, details=used)
        )
    _print_records(records, as_json=as_json)


@app.command()
def search(
    text: Annotated[str, typer.Argument(help="What actor, subject, study or details have to contain.")] = "",
    config: ConfigOption = None,
    study: Annotated[str | None, typer.Option("--study", help="Only this Study Instance UID.")] = None,
    event: Annotated[str | None, typer.Option("--event", help="Only this event, such as instance-stored.")] = None,
    actor: Annotated[str | None, typer.Option("--actor", help="Only this actor, such as SCANNER@10.1.2.3.")] = None,
    since: Annotated[datetime | None, typer.Option(help="From this moment on (UTC).")] = None,
    until: Annotated[datetime | None, typer.Option(help="Before this moment (UTC).")] = None,
    failures: Annotated[bool, typer.Option("--failures", help="Only what failed.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many records, the newest.")] = 200,
    as_json: JsonOption = False,
) -> None:
    """Find records by what they say, in the database and in sealed segments; oldest first."""
    from collections import deque

    from storage import AuditEvent, AuditEventType, Ledger
    from storage.audit.checkpoints import open_archive
    from storage.audit.search import Selection
    from storage.audit.search import search as search_archive

    settings = settings_or_exit(config)
    selection = Selection(
        since=since and since.replace(tzinfo=UTC),
        until=until and until.replace(tzinfo=UTC),
        event=event,
        study_uid=study,
        actor=actor,
        text=text or None,
        failures=failures,
    )
    with existing_database(settings, Action.READ_LEDGER) as database:
        with closing(database.for_readers()) as readers:
            records = list(deque(search_archive(open_archive(settings, readers), selection), maxlen=limit))
        Ledger(database).record(
            AuditEvent(
                AuditEventType.AUDIT_LOG_USED,
                actor=person(),
                study_uid=study,
                # The text may be a patient's name: its digest shows what was looked for to who knows it (promise 7).
                details={"records": len(records), "search_sha256": sha256(text.encode()).hexdigest()},
            )
        )
    _print_records(records, as_json=as_json)


def _print_records(records: "list[LedgerRecord]", *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps([record.to_json() for record in records], indent=2))
        return
    # Lines and no table: a narrow screen, or none at all, would cut the UIDs and the digests that this is read for
    for record in records:
        time, outcome = record.time[:19].replace("T", " "), OUTCOMES.get(record.outcome, str(record.outcome))
        head = (str(record.seq), f"{time} UTC", record.event, outcome, record.actor, record.subject or record.study_uid)
        answers.print("  ".join(filter(None, head)), highlight=False, markup=False, soft_wrap=True)
        if record.details != "{}":
            answers.print(f"    {record.details}", highlight=False, markup=False, soft_wrap=True)
