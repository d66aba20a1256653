"""What all commands share: the configuration option, the two consoles, and how a fault ends a command."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, TextColumn, TimeRemainingColumn

from config import Settings
from gateway.access.people import Account, UnknownAccount, account_of_this_process
from gateway.access.roles import Action

if TYPE_CHECKING:
    from storage import Database

# Answers go to standard output, progress and complaints to standard error, so that `--json` can be piped.
answers = Console()
progress_console = Console(stderr=True)

VERDICT_STYLES = {"VERIFIED": "green", "CLEAR": "green", "REVIEW": "yellow", "SUSPECT": "bold red", "ABSTAIN": "cyan"}

EXIT_FAULT = 2
EXIT_FORBIDDEN = 3

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", envvar="SCANWARDEN_CONFIG", help="YAML configuration file; without it: the defaults."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the same facts as JSON, for a script.")]


def settings_or_exit(config: Path | None) -> Settings:
    """Read the configuration; on faults print every one with its remedy and end with exit code 2."""
    from config.check import check
    from gateway.cli.config import known_models, known_profiles, print_faults

    report = check(config, known_profiles=known_profiles(), known_models=known_models())
    if report.settings is None or report.faults:
        print_faults(report, progress_console)
        raise typer.Exit(EXIT_FAULT)
    if report.warnings:
        print_faults(report, progress_console)
    return report.settings


@contextmanager
def existing_database(
    settings: Settings, action: Action | None = Action.CONFIGURE, *, study_uid: str | None = None
) -> "Iterator[Database]":
    """The database of a gateway that has run, for somebody who may do `action`; a look never makes a new database.

    Every command that opens it says what for; one that forgets to is the administrators' alone. None: for everybody.
    A refusal is recorded and ends the command with exit code 3.
    """
    from gateway.access import AccessRefused, Gate
    from storage import open_database
    from storage.errors import StorageError

    database = open_database(settings)
    file = database.url.database
    if database.is_sqlite and (file is None or not Path(file).is_file()):
        fail(f"there is no database at {file}; start the gateway first, or name its configuration with --config")
    try:
        database.check()
        if action is not None:
            Gate(settings).admit(account(), action, database, study_uid=study_uid)
        yield database
    except AccessRefused as refusal:
        progress_console.print(f"[bold red]refused:[/] {refusal}", highlight=False)
        raise typer.Exit(EXIT_FORBIDDEN) from None
    except StorageError as fault:
        fail(str(fault))
    finally:
        database.close()


def account() -> Account:
    """Who types the command, as the operating system knows them."""
    try:
        return account_of_this_process()
    except UnknownAccount as fault:
        fail(str(fault))


def person() -> str:
    """Who types the command, as the ledger names them."""
    return account().actor


def progress_columns() -> tuple[ProgressColumn, ...]:
    """What a progress bar shows: the step, how far, and how long still."""
    counted = TextColumn("{task.completed}/{task.total}")
    return TextColumn("{task.description}"), BarColumn(), counted, TimeRemainingColumn()


def fail(message: str) -> NoReturn:
    """End the command with exit code 2 and one line that says what is wrong and what to do."""
    progress_console.print(f"[bold red]scanwarden:[/] {message}", highlight=False)
    raise typer.Exit(EXIT_FAULT)
