"""`scanwarden baselines`: what each scanner is known to always write, and begin anew with one that changed."""

import json
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from gateway.access.roles import Action
from gateway.cli.options import ConfigOption, JsonOption, answers, existing_database, fail, person, settings_or_exit

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from storage.tables import DeviceBaseline

DeviceArgument = Annotated[
    str, typer.Argument(metavar="DEVICE", help="The device's digest, as an observation names it, or its beginning.")
]

app = typer.Typer(no_args_is_help=True)


@app.command("list")
def list_devices(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Every scanner that taught a baseline, by its digest, with the number of studies; the latest first."""
    from storage.baselines import known_devices

    with (
        existing_database(settings_or_exit(config), Action.READ_STUDY) as database,
        closing(database.for_readers()) as readers,
        readers.reading() as session,
    ):
        rows = [_facts(each) for each in known_devices(session)]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    if not rows:
        answers.print("no scanner has taught a baseline yet", highlight=False)
        return
    table = Table("device", "studies", "kinds of image", "learnt last (UTC)")
    for row in rows:
        kinds = "unreadable" if row["kinds"] is None else str(len(row["kinds"]))
        table.add_row(row["device"], str(row["studies"]), kinds, row["learnt_at"][:19].replace("T", " "))
    answers.print(table)


@app.command()
def show(device: DeviceArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """What one scanner is known to write: for each kind of image, in how many studies every image had it."""
    with (
        existing_database(settings_or_exit(config), Action.READ_STUDY) as database,
        closing(database.for_readers()) as readers,
        readers.reading() as session,
    ):
        facts = _facts(_one(session, device))
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    answers.print(f"device {facts['device']}: {facts['studies']} studies", highlight=False)
    if facts["kinds"] is None:
        answers.print("[yellow]its baseline cannot be read[/]: it says nothing and is learnt anew", highlight=False)
        return
    for kind in facts["kinds"]:
        answers.print(f"  {escape(kind['kind'])}: {kind['studies']} studies", highlight=False, soft_wrap=True)
        for trait, times in kind["traits"].items():
            answers.print(f"    {times:>5}  {escape(trait)}", highlight=False, soft_wrap=True)
    answers.print(f"After an upgrade: scanwarden baselines forget {facts['device']}", highlight=False, soft_wrap=True)


@app.command()
def forget(
    device: DeviceArgument,
    config: ConfigOption = None,
    reason: Annotated[str, typer.Option("--reason", help="Why; it stands in the ledger.")] = "asked for by a person",
) -> None:
    """Begin anew with a scanner whose software changed. Stands in the ledger, and security is told."""
    from storage.baselines import forget_baseline

    with existing_database(settings_or_exit(config), Action.CONFIGURE) as database, database.transaction() as session:
        row = _one(session, device)
        name, studies = row.device, row.studies
        forget_baseline(session, name, actor=person(), reason=reason[:200])
    answers.print(f"device {name}: {studies} studies forgotten; 8 of a kind have to be seen anew", highlight=False)


def _one(session: "Session", beginning: str) -> "DeviceBaseline":
    from storage.baselines import known_devices

    found = known_devices(session, beginning)
    if len(found) == 1:
        return found[0]
    if found:
        fail(f"{len(found)} devices begin with {beginning}; give more of the digest: scanwarden baselines list")
    return fail(f"no device {beginning} has taught a baseline; those that have: scanwarden baselines list")


def _facts(row: "DeviceBaseline") -> dict[str, Any]:
    from inference.provenance import Baseline, BaselineUnreadable

    facts = {"device": row.device, "studies": row.studies, "learnt_at": row.updated_at.isoformat(timespec="seconds")}
    try:
        known = Baseline.from_json(row.baseline)
    except BaselineUnreadable:
        return {**facts, "kinds": None}
    kinds = [
        {"kind": kind, "studies": number, "traits": dict(sorted(known.traits.get(kind, {}).items()))}
        for kind, number in sorted(known.studies.items())
    ]
    return {**facts, "kinds": kinds}
