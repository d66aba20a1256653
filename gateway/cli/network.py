"""`scanwarden send FOLDER`: send DICOM files to a gateway or a PACS, as a modality would."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from config.settings import Destination
from gateway.cli.options import ConfigOption, JsonOption, answers, fail, progress_console, settings_or_exit

EXIT_REFUSED = 1


def send(
    folder: Annotated[Path, typer.Argument(help="A DICOM file, or a folder of them (searched to its depth).")],
    config: ConfigOption = None,
    host: Annotated[str, typer.Option("--host", help="Where to send to.")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option("--port", help="Its port; without it: the gateway's own.")] = None,
    called: Annotated[str | None, typer.Option("--called", help="Its AE title; without it: the gateway's own.")] = None,
    calling: Annotated[str, typer.Option("--calling", help="The AE title to send as.")] = "SCANWARDEN-SEND",
    to: Annotated[str | None, typer.Option("--to", help="A destination of the configuration, by its name.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Send every DICOM file, each in its own transfer syntax.

    Ends with 0 when all were stored, with 1 when any was refused, with 2 when there was nobody to send to.
    """
    from gateway.dicom.scu import SendError
    from gateway.dicom.scu import send as transfer

    settings = settings_or_exit(config)
    if not folder.exists():
        fail(f"{folder} does not exist; name a DICOM file or a folder")
    files = sorted(file for file in folder.rglob("*") if file.is_file()) if folder.is_dir() else [folder]
    if to is not None:
        named = [destination for destination in settings.destinations if destination.name == to]
        if not named:
            known = ", ".join(destination.name for destination in settings.destinations) or "none"
            fail(f"there is no destination {to} in the configuration (known: {known})")
        target = named[0]
    else:
        target = Destination(
            name="given", ae_title=called or settings.dicom.ae_title, host=host, port=port or settings.dicom.port
        )
    outcomes = []
    with Progress(console=progress_console, transient=True) as bar:
        task = bar.add_task(f"sending to {target.ae_title}", total=len(files))
        try:
            for outcome in transfer(files, target, calling):
                outcomes.append(outcome)
                bar.advance(task)
        except SendError as fault:
            sent = sum(outcome.stored for outcome in outcomes)
            fail(f"{sent} of {len(files)} stored, then: {fault}")
    refused = [outcome for outcome in outcomes if not outcome.stored]
    if as_json:
        rows = [
            {"file": str(o.path), "sop_instance_uid": o.sop_instance_uid, "status": o.status, "comment": o.comment}
            for o in outcomes
        ]
        typer.echo(json.dumps(rows, indent=2))
    else:
        answers.print(f"{len(outcomes) - len(refused)} of {len(files)} stored by {target.ae_title}", highlight=False)
        for outcome in refused:
            status = "not sent" if outcome.status is None else f"0x{outcome.status:04X}"
            answers.print(f"  [red]{status}[/] {outcome.path}: {outcome.comment}", highlight=False, soft_wrap=True)
    raise typer.Exit(EXIT_REFUSED if refused else 0)
