"""`scanwarden audit export` and `report`: the ledger for a verifier outside, and for a person who reads."""

import json
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

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


class Form(StrEnum):
    """What stands beside the records as JSON Lines."""

    JSONL = "jsonl"
    CSV = "csv"
    XML = "xml"


StudyOption = Annotated[str | None, typer.Option("--study", help="Only this Study Instance UID.")]
SinceOption = Annotated[datetime | None, typer.Option(help="From this moment on (UTC).")]
UntilOption = Annotated[datetime | None, typer.Option(help="Before this moment (UTC).")]


def export(
    folder: Annotated[Path, typer.Argument(help="A new folder.")],
    config: ConfigOption = None,
    form: Annotated[
        Form, typer.Option("--format", help="Also as CSV for a spreadsheet, or as DICOM audit messages (XML).")
    ] = Form.JSONL,
    first: Annotated[int, typer.Option("--from", min=1, help="Only from this record on.")] = 1,
    last: Annotated[int | None, typer.Option("--to", min=1, help="Only up to this record.")] = None,
    study: StudyOption = None,
    event: Annotated[str | None, typer.Option("--event", help="Only this event, such as instance-stored.")] = None,
    since: SinceOption = None,
    until: UntilOption = None,
    checkpoint: Annotated[
        bool, typer.Option("--checkpoint/--no-checkpoint", help="First sign what came since the last checkpoint.")
    ] = True,
    as_json: JsonOption = False,
) -> None:
    """Write records and their proofs, for a verifier who has nothing of ours (docs/verify-ledger.md)."""
    from storage import AuditEvent, AuditEventType
    from storage.audit.checkpoints import open_checkpoints
    from storage.audit.export import ExportForm
    from storage.audit.export import export as write_export
    from storage.audit.search import Selection

    settings = settings_or_exit(config)
    selection = Selection(
        first=first,
        last=last,
        since=since and since.replace(tzinfo=UTC),
        until=until and until.replace(tzinfo=UTC),
        event=event,
        study_uid=study,
    )
    with existing_database(settings, Action.EXPORT_LEDGER) as database:
        checkpoints = open_checkpoints(settings, database)
        if checkpoint:
            checkpoints.take(person(), always=False)
        made = write_export(checkpoints, folder, selection, ExportForm(form.value))
        details = {"records": made.records, "checkpoint": made.checkpoint.number, "format": form.value}
        checkpoints.archive.ledger.record(
            AuditEvent(AuditEventType.LEDGER_EXPORTED, actor=person(), study_uid=study, details=details)
        )
    if as_json:
        facts = {"folder": str(folder), "records": made.records, "beyond": made.beyond, "proofs": made.proofs}
        typer.echo(json.dumps(facts | {"checkpoint": made.checkpoint.to_json()}))
        return
    answers.print(
        f"{made.records} records in {folder}, proved by checkpoint {made.checkpoint.number} of {made.checkpoint.seq} "
        f"records (key {made.checkpoint.key_id}).",
        highlight=False,
        soft_wrap=True,
    )
    if made.beyond:
        answers.print(f"{made.beyond} more are under no checkpoint yet and were left out.", highlight=False)
    answers.print("How an outsider verifies it: docs/verify-ledger.md", highlight=False)


def report(
    file: Annotated[Path, typer.Argument(help="The HTML file to write; a browser prints it as PDF.")],
    config: ConfigOption = None,
    study: StudyOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
) -> None:
    """Write a readable report for a period or a study, with what a verification of the whole ledger finds now."""
    from gateway.ledger_report import render
    from storage import AuditEvent, AuditEventType
    from storage.audit.checkpoints import open_checkpoints
    from storage.audit.search import Selection, search
    from storage.audit.verification import verify_ledger

    if study is None and since is None and until is None:
        fail("name a study with --study, or a period with --since and --until")
    settings = settings_or_exit(config)
    selection = Selection(
        since=since and since.replace(tzinfo=UTC), until=until and until.replace(tzinfo=UTC), study_uid=study
    )
    with existing_database(settings, Action.EXPORT_LEDGER) as database:
        checkpoints = open_checkpoints(settings, database)
        records = list(search(checkpoints.archive, selection))
        found = verify_ledger(checkpoints)
        text = render(selection, records, found, checkpoints.newest(), now=datetime.now(UTC))
        try:
            file.write_text(text, encoding="utf-8")
        except OSError as fault:
            fail(f"{file}: cannot be written ({fault.strerror})")
        details = {"records": len(records), "report": True, "intact": found.intact}
        checkpoints.archive.ledger.record(
            AuditEvent(AuditEventType.AUDIT_LOG_USED, actor=person(), study_uid=study, details=details)
        )
    answers.print(f"{len(records)} records in {file}", highlight=False, soft_wrap=True)
    if not found.intact:
        answers.print("[bold red]The ledger is broken[/]; the report says where.", highlight=False)
