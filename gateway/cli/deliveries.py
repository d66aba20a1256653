"""`scanwarden deliveries`: what went where, what waits and why, and once more when a person asks for it."""

import json
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.table import Table

from gateway.access.roles import Action
from gateway.cli.looks import record_listing, record_look
from gateway.cli.options import ConfigOption, JsonOption, answers, existing_database, fail, person, settings_or_exit

if TYPE_CHECKING:
    from storage.delivery_list import Listed
    from storage.tables import Circuit

app = typer.Typer(help="What went where, what waits and why; `resend` sends once more.", add_completion=False)

StateName = Literal["waiting", "sent", "delivered", "dead"]
_STYLES = {"WAITING": "yellow", "SENT": "yellow", "DELIVERED": "green", "DEAD": "bold red"}


@app.callback(invoke_without_command=True)
def list_them(
    context: typer.Context,
    study: Annotated[str | None, typer.Option(metavar="UID", help="Only those of this study.")] = None,
    destination: Annotated[str | None, typer.Option(help="Only those to this destination.")] = None,
    state: Annotated[StateName | None, typer.Option(help="Only those in this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 30,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Destinations with their counts and whether they answer, then the newest deliveries."""
    if context.invoked_subcommand is not None:
        return
    from storage.circuits import circuits
    from storage.delivery_list import count_deliveries, count_notices, list_deliveries
    from storage.tables import DeliveryState

    settings = settings_or_exit(config)
    action = Action.READ_STATUS if study is None else Action.READ_STUDY
    states = () if state is None else (DeliveryState(state.upper()),)
    with existing_database(settings, action, study_uid=study) as database:
        with closing(database.for_readers()) as readers, readers.reading() as session:
            found = list_deliveries(session, study_uid=study, destination=destination, states=states, limit=limit)
            counts = count_deliveries(session)
            notices = {name: _named(each) for name, each in count_notices(session).items()}
            known = {each.destination: each for each in circuits(session)}
        if study is not None:
            record_look(database, study)
        else:
            record_listing(database, "deliveries", [each.revision.study_uid for each in found])
    names = sorted({*counts, *(each.name for each in settings.destinations)})
    destinations = [_destination(name, _named(counts.get(name, {})), known.get(name)) for name in names]
    facts = {"destinations": destinations, "notices": notices, "deliveries": [_facts(each) for each in found]}
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    for each in destinations:
        answers.print(_destination_words(each), highlight=False, soft_wrap=True)
    for channel, numbers in notices.items():
        words = ", ".join(f"{count} {name.lower()}" for name, count in sorted(numbers.items()))
        answers.print(f"notices by {channel}: {words}", highlight=False)
    _print_table([_facts(each) for each in found])


@app.command()
def show(
    number: Annotated[int, typer.Argument(metavar="ID", help="Number of the delivery, from the list.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Everything about one delivery. The look itself is recorded."""
    from storage.delivery_list import delivery_numbered
    from storage.errors import NotFound

    with existing_database(settings_or_exit(config), Action.READ_STUDY) as database:
        with closing(database.for_readers()) as readers, readers.reading() as session:
            try:
                found = delivery_numbered(session, number)
            except NotFound as fault:
                fail(str(fault))
        record_look(database, found.revision.study_uid)
    facts = _facts(found)
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    for key, value in facts.items():
        if value is not None:
            answers.print(f"{key.replace('_', ' '):18} {value}", highlight=False, soft_wrap=True)
    if facts["state"] == "DEAD":
        answers.print(f"Once more: scanwarden deliveries resend {number}", highlight=False)


@app.command()
def resend(
    what: Annotated[str, typer.Argument(metavar="STUDY|ID", help="A study's UID, or the number of a delivery.")],
    destination: Annotated[
        str | None, typer.Option(help="Only to this destination; also one that the study never went to.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Deliver once more, whatever became of it; a running service takes it up at once."""
    from storage.deliveries import plan_deliveries
    from storage.deliveries import resend as send_again
    from storage.delivery_list import delivery_numbered, list_deliveries
    from storage.errors import NotFound

    settings = settings_or_exit(config)
    by_number = what.isdecimal()
    known = {each.name: each.profile for each in settings.destinations}
    if destination is not None and destination not in known:
        fail(f"{destination} is no destination; the configuration names: {', '.join(sorted(known)) or 'none'}")
    with (
        existing_database(settings, Action.RETRY, study_uid=None if by_number else what) as database,
        database.transaction() as session,
    ):
        try:
            found = [delivery_numbered(session, int(what))] if by_number else _of_study(session, what)
        except NotFound as fault:
            fail(str(fault))
        if not by_number and destination is not None:
            for revision in {each.revision.id for each in found}:
                plan_deliveries(session, revision, {destination: known[destination]})
            found = list_deliveries(session, study_uid=what, destination=destination, limit=None)
        chosen = [each for each in found if destination in (None, each.delivery.destination)]
        gone = [each for each in chosen if each.evidence.expired_at is not None]
        chosen = [each for each in chosen if each.evidence.expired_at is None]
        count = send_again(session, [each.delivery.id for each in chosen], actor=person())
    if gone:
        answers.print(f"[yellow]{len(gone)} objects are past their age and deleted[/]: not sent", highlight=False)
    if not count:
        fail(f"nothing to send again: no delivery for {what}, or it is on its way; see `scanwarden deliveries`")
    answers.print(f"{count} deliveries are sent again; follow them: scanwarden deliveries", highlight=False)


def _of_study(session: Any, study_uid: str) -> "list[Listed]":
    """The deliveries of a study's newest revision that has any: earlier ones are superseded by it."""
    from storage.delivery_list import list_deliveries
    from storage.errors import NotFound

    found = list_deliveries(session, study_uid=study_uid, limit=None)
    if not found:
        raise NotFound(
            f"nothing of study {study_uid} was ever to be delivered; `scanwarden study {study_uid}` says why"
        )
    newest = max(each.revision.number for each in found)
    return [each for each in found if each.revision.number == newest]


def _named(numbers: Any) -> dict[str, int]:
    return {state.value: count for state, count in numbers.items()}


def _destination(name: str, counts: dict[str, int], circuit: "Circuit | None") -> dict[str, Any]:
    return {
        "name": name,
        "counts": counts,
        "circuit": circuit.state.value if circuit is not None else "CLOSED",
        "since": _time(circuit.changed_at) if circuit is not None else None,
        "reason": circuit.reason if circuit is not None else None,
        "next_probe_at": _time(circuit.probe_at) if circuit is not None and circuit.state.value == "OPEN" else None,
    }


def _destination_words(facts: dict[str, Any]) -> str:
    """One line on a destination, the trouble first."""
    counts = ", ".join(f"{count} {name.lower()}" for name, count in sorted(facts["counts"].items())) or "nothing yet"
    if facts["circuit"] == "CLOSED":
        return f"{facts['name']}: {counts}"
    then = f"next probe {_ahead(facts['next_probe_at'])}" if facts["next_probe_at"] else "a probe is on its way"
    return f"{facts['name']}: [bold red]does not answer[/] since {facts['since']}: {facts['reason']}; {then}; {counts}"


def _facts(each: "Listed") -> dict[str, Any]:
    delivery = each.delivery
    return {
        "id": delivery.id,
        "study_uid": each.revision.study_uid,
        "revision": each.revision.number,
        "destination": delivery.destination,
        "kind": each.evidence.kind,
        "profile": each.evidence.profile,
        "sop_instance_uid": each.evidence.sop_instance_uid,
        "bytes": each.evidence.size,
        "state": delivery.state.value,
        "attempts": delivery.attempts,
        "refusals": delivery.refusals,
        "failure": delivery.failure,
        "warning": delivery.warning,
        "commitment": delivery.transaction_uid,
        "planned_at": _time(delivery.planned_at),
        "attempted_at": _time(delivery.attempted_at),
        "next_at": _time(delivery.next_at),
        "delivered_at": _time(delivery.delivered_at),
    }


def _print_table(rows: list[dict[str, Any]]) -> None:
    table = Table("id", "study", "object", "to", "state", "tries", "next", "why")
    for row in rows:
        state = row["state"]
        next_at = _ahead(row["next_at"]) if state in ("WAITING", "SENT") and row["next_at"] else ""
        why = row["failure"] or (f"stored with warning {row['warning']}" if row["warning"] else "")
        words = f"[{_STYLES[state]}]{state.lower()}[/]"
        table.add_row(
            str(row["id"]), row["study_uid"], row["kind"], row["destination"], words, str(row["attempts"]), next_at, why
        )
    answers.print(table)


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="seconds")


def _ahead(text: str) -> str:
    seconds = (datetime.fromisoformat(text) - datetime.now(UTC)).total_seconds()
    return "now" if seconds <= 0 else f"in {seconds:.0f} s" if seconds < 120 else f"in {seconds / 60:.0f} min"
