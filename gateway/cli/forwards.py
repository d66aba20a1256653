"""`scanwarden forwards`: what was passed on, what waits, what was given up, and another try."""

import json
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.table import Table

from gateway.access.roles import Action
from gateway.cli.looks import record_listing
from gateway.cli.options import ConfigOption, JsonOption, answers, existing_database, person, settings_or_exit

DestinationOption = Annotated[str | None, typer.Option("--destination", "-d", help="Only this destination.")]

app = typer.Typer(no_args_is_help=True)


@app.command("list")
def list_forwards(
    config: ConfigOption = None,
    destination: DestinationOption = None,
    dead: Annotated[bool, typer.Option("--dead", help="Only dead letters.")] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Instances that are listed.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """Each destination in numbers, then the instances that are not there: refused, held, or given up."""
    from storage.forwarding import counts, listed, oldest_waiting

    settings = settings_or_exit(config)
    with existing_database(settings, Action.READ_STATUS) as database:
        with database.reading() as session:
            numbers = counts(session)
            oldest = oldest_waiting(session)
            rows = [
                {
                    "destination": each.forward.destination,
                    "study_uid": each.instance.study_uid,
                    "sop_instance_uid": each.instance.sop_instance_uid,
                    "state": each.forward.state.value,
                    "attempts": each.forward.attempts,
                    "failure": each.forward.failure,
                }
                for each in listed(session, destination=destination, dead=dead, limit=limit)
            ]
        record_listing(database, "forwards list", [str(row["study_uid"]) for row in rows])
    names = sorted({*numbers, *(each.destination for each in settings.forwarding.routes)})
    destinations = [
        {
            "destination": name,
            **{state.value.lower(): count for state, count in numbers.get(name, {}).items()},
            "oldest_waiting_seconds": _age(oldest.get(name)),
        }
        for name in names
        if destination in (None, name)
    ]
    if as_json:
        typer.echo(json.dumps({"destinations": destinations, "instances": rows}, indent=2))
        return
    if not destinations:
        answers.print("nothing is passed on: forwarding.routes is empty", highlight=False)
    for each in destinations:
        answers.print(_words(each), highlight=False, soft_wrap=True)
    if not rows:
        return
    table = Table("destination", "instance", "state", "attempts", "reason")
    for row in rows:
        table.add_row(
            *(str(row[key] or "") for key in ("destination", "sop_instance_uid", "state", "attempts", "failure"))
        )
    answers.print(table)
    if any(row["state"] == "DEAD" for row in rows):
        answers.print("Another try for dead letters: scanwarden forwards retry", highlight=False)


@app.command()
def retry(
    study_uid: Annotated[
        str | None, typer.Argument(metavar="[UID]", help="Only this study; without it: every dead letter.")
    ] = None,
    config: ConfigOption = None,
    destination: DestinationOption = None,
) -> None:
    """Queue dead letters again, those in quarantine too; a running service takes them up at once."""
    from storage.forwarding import retry_dead

    settings = settings_or_exit(config)
    with (
        existing_database(settings, Action.RETRY, study_uid=study_uid) as database,
        database.transaction() as session,
    ):
        revived = retry_dead(session, actor=person(), destination=destination, study_uid=study_uid)
    answers.print(f"{revived} instances are passed on again", highlight=False)


def _words(numbers: dict[str, Any]) -> str:
    states = [f"{numbers[state]} {state}" for state in ("waiting", "held", "dead", "sent") if state in numbers]
    oldest = numbers["oldest_waiting_seconds"]
    since = f", the oldest for {oldest:.0f} s" if oldest is not None else ""
    return f"{numbers['destination']}: {', '.join(states) or 'nothing yet'}{since}"


def _age(moment: datetime | None) -> float | None:
    return None if moment is None else round((datetime.now(UTC) - moment).total_seconds(), 1)
