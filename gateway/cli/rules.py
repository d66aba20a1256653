"""`scanwarden rules`: what the routing rules would do with a file or a study, and why."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from gateway.cli.options import ConfigOption, JsonOption, answers, fail, settings_or_exit

if TYPE_CHECKING:
    from config import Settings
    from gateway.pipeline.routing import Route, SeriesRoute

app = typer.Typer(no_args_is_help=True)


@app.command("test")
def show_route(
    path: Annotated[Path, typer.Argument(metavar="FILE", exists=True, help="A DICOM file, or a folder of a study.")],
    source: Annotated[str, typer.Option("--source", help="AE title that it would come from.")] = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what would happen to FILE, by which rule, and why the rules before it do not match. Nothing is sent."""
    settings = settings_or_exit(config)
    from gateway.pipeline.routing import route, traits_of

    files = sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]
    traits = [each for each in traits_of((file, source) for file in files) if each.series_uid]
    if not traits:
        fail(f"{path} holds no DICOM file with a Series Instance UID; name a file or a folder of a study")
    found = route(settings.rules, traits)
    if as_json:
        typer.echo(json.dumps(_facts(found, settings), indent=2))
        return
    for each in found.series:
        _print_series(each)
    facts = _facts(found, settings)
    answers.print(f"[bold]study[/]: {escape(_outcome(facts))}", highlight=False, soft_wrap=True)


def _facts(found: "Route", settings: "Settings") -> dict[str, Any]:
    analysed = any(each.analysed for each in found.series)
    priority = found.priority
    names = [destination.name for destination in settings.destinations]
    return {
        "analysed": analysed,
        "priority": priority.value if priority is not None else None,
        "models": list(found.models(settings.analysis.models)) if analysed else [],
        "destinations": list(found.destinations(names)) if analysed else [],
        "priors": found.priors,
        "series": [
            {
                "series_uid": each.traits.series_uid,
                "modality": each.traits.modality,
                "body_part": each.traits.body_part,
                "rule": each.rule.name if each.rule is not None else None,
                "analysed": each.analysed,
                "passed": [{"rule": rule, "because": reason} for rule, reason in each.passed],
            }
            for each in found.series
        ],
    }


def _print_series(each: "SeriesRoute") -> None:
    what = " ".join(part for part in (each.traits.modality, each.traits.body_part) if part) or "no modality"
    action = "[green]analysed[/]" if each.analysed else "[yellow]not looked at[/]"
    by = f"rule {each.rule.name}" if each.rule is not None else "no rule matches"
    answers.print(
        f"series {escape(each.traits.series_uid)} ({escape(what)}): {action}, {by}", highlight=False, soft_wrap=True
    )
    for name, reason in each.passed:
        answers.print(f"    not {escape(name)}: {escape(reason)}", highlight=False, soft_wrap=True)


def _outcome(facts: dict[str, Any]) -> str:
    if not facts["analysed"]:
        return "received and recorded, not analysed; no evidence is made"
    priority = facts["priority"] or "as received"
    where = ", ".join(facts["destinations"]) or "nowhere"
    priors = f"; up to {facts['priors']} prior studies are fetched" if facts["priors"] else ""
    return f"priority {priority}; models {', '.join(facts['models'])}; evidence goes to {where}{priors}"
