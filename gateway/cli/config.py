"""`scanwarden config`: check the configuration, show what is in effect, write the reference."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from config.check import check
from config.faults import Fault, Report
from config.reference import reference
from config.show import effective, effective_yaml
from gateway.cli.options import ConfigOption, JsonOption, answers, progress_console

app = typer.Typer(no_args_is_help=True)

EXIT_FAULTY = 1


@app.command("check")
def check_file(
    file: Annotated[
        Path | None,
        typer.Argument(
            envvar="SCANWARDEN_CONFIG", metavar="FILE", help="The YAML file; without it: defaults and environment."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say everything that is wrong with FILE and the environment, with the remedy; exit code 1 on a fault."""
    report = check(file, known_profiles=known_profiles(), known_models=known_models())
    if as_json:
        typer.echo(json.dumps(report.as_dict(), indent=2))
    else:
        print_faults(report, answers)
        if not report.faults:
            name = escape(str(file)) if file else "the defaults"
            answers.print(f"[bold green]ok[/]: {name} can be used", highlight=False, soft_wrap=True)
    raise typer.Exit(EXIT_FAULTY if report.faults else 0)


@app.command("show")
def show_effective(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Print the settings in effect, without secrets, with the line or variable that set each."""
    report = check(config, known_profiles=known_profiles(), known_models=known_models())
    if report.settings is None:
        print_faults(report, progress_console)
        raise typer.Exit(EXIT_FAULTY)
    if as_json:
        typer.echo(json.dumps({"settings": effective(report.settings), "origins": dict(report.origins)}, indent=2))
    else:
        typer.echo(effective_yaml(report), nl=False)


@app.command("reference")
def write_reference(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; without it: standard output.")
    ] = None,
) -> None:
    """Write the reference of every key (docs/configuration.md)."""
    _write(reference(), output)


@app.command("conformance")
def write_conformance(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; without it: standard output.")
    ] = None,
) -> None:
    """Write the DICOM conformance statement (docs/conformance.md)."""
    from gateway.conformance import statement

    _write(statement(), output)


def _write(text: str, output: Path | None) -> None:
    if output is None:
        typer.echo(text, nl=False)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        progress_console.print(f"[bold red]scanwarden:[/] {escape(str(output))}: {error.strerror}", highlight=False)
        raise typer.Exit(EXIT_FAULTY) from None


def print_faults(report: Report, console: Console) -> None:
    """The count first, then each fault: its key and value, what is wrong, what to do. Warnings come after."""
    if report.faults:
        count = len(report.faults)
        console.print(
            f"[bold red]the configuration cannot be used: {count} {'fault' if count == 1 else 'faults'}[/]",
            highlight=False,
        )
        for fault in report.faults:
            _print_fault(fault, "red", console)
    for warning in report.warnings:
        _print_fault(warning, "yellow", console)
    if report.warnings:
        console.print(f"[yellow]warnings: {len(report.warnings)}[/] (they do not stop a start)", highlight=False)


def _print_fault(fault: Fault, colour: str, console: Console) -> None:
    value = f" = {escape(fault.value)}" if fault.value else ""
    where = f"  [dim]({escape(fault.where)})[/]" if fault.where else ""
    for line in (
        f"\n  [bold {colour}]{escape(fault.key)}[/]{value}{where}",
        f"    {escape(fault.problem)}",
        f"    [bold]→[/] {escape(fault.remedy)}",
    ):
        console.print(line, highlight=False, soft_wrap=True)


def known_profiles() -> frozenset[str]:
    """The dialects that a destination may name."""
    from gateway.results.profiles import PROFILES

    return frozenset(PROFILES)


def known_models() -> frozenset[str] | None:
    """The models with a card in this installation; None, which checks nothing, where there is none at all.

    By the cards' file names: the registry itself loads torch, and a check must answer at once.
    """
    import models

    cards = Path(str(models.__file__)).parent / "cards"
    return frozenset(card.stem for card in cards.glob("*.json")) or None
