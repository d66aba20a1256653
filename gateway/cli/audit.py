"""`scanwarden audit`: read the ledger, and verify that nobody changed it. Looking is itself recorded."""

import json
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from rich.progress import Progress
from rich.table import Table

from gateway.cli.options import (
    ConfigOption,
    JsonOption,
    answers,
    existing_database,
    person,
    progress_console,
    settings_or_exit,
)

app = typer.Typer(no_args_is_help=True)

EXIT_BROKEN = 1
OUTCOMES = {0: "success", 4: "minor failure", 8: "serious failure", 12: "major failure"}


@app.command()
def verify(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Walk the whole chain. Ends with 0 when it is intact, with 1 when it is broken, and says where."""
    from storage import AuditEvent, AuditEventType, AuditOutcome, Ledger

    with existing_database(settings_or_exit(config)) as database:
        ledger = Ledger(database)
        records = ledger.head().seq
        with Progress(console=progress_console, transient=True) as bar:
            task = bar.add_task("verifying the ledger", total=records)
            found = ledger.verify(progress=lambda done: bar.update(task, completed=done))
        broken = found.broken
        ledger.record(
            AuditEvent(
                AuditEventType.LEDGER_VERIFIED if broken is None else AuditEventType.LEDGER_BROKEN,
                actor=person(),
                outcome=AuditOutcome.SUCCESS if broken is None else AuditOutcome.MAJOR_FAILURE,
                details={
                    "records": found.records,
                    "head": found.head.hash,
                    "broken_at": broken.seq if broken else None,
                },
            )
        )
    if as_json:
        facts = {"intact": found.intact, "records": found.records, "head": found.head.hash}
        if broken is not None:
            facts["broken"] = {"seq": broken.seq, "kind": broken.kind.value, "text": broken.text}
        typer.echo(json.dumps(facts))
    elif broken is None:
        answers.print(
            f"[green]intact[/]: {found.records} records, head {found.head.hash}", highlight=False, soft_wrap=True
        )
    else:
        answers.print(f"[bold red]broken at record {broken.seq}[/]: {broken.text}", highlight=False, soft_wrap=True)
        answers.print("Stop the service, keep the database as it is, and compare with a backup and the syslog copy.")
    raise typer.Exit(0 if broken is None else EXIT_BROKEN)


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
    with existing_database(settings_or_exit(config)) as database:
        ledger = Ledger(database)
        records = ledger.list(since=since, event=event, study_uid=study, limit=limit)
        used = {"records": len(records)}
        ledger.record(AuditEvent(AuditEventType.AUDIT_LOG_USED, actor=person(), study_uid=study, details=used))
    if as_json:
        typer.echo(json.dumps([record.to_json() for record in records], indent=2))
        return
    table = Table("#", "time (UTC)", "event", "outcome", "actor", "subject or study", "details")
    for record in records:
        table.add_row(
            str(record.seq),
            record.time[:19].replace("T", " "),
            record.event,
            OUTCOMES.get(record.outcome, str(record.outcome)),
            record.actor,
            record.subject or record.study_uid or "",
            record.details if record.details != "{}" else "",
        )
    answers.print(table)
