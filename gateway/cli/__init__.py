"""The command line: `scanwarden COMMAND`. A file for each group of commands; heavy parts load where they are used."""

from importlib.metadata import version
from typing import Annotated

import typer

from gateway.cli.analyse import analyse
from gateway.cli.audit import app as audit
from gateway.cli.baselines import app as baselines
from gateway.cli.config import app as config
from gateway.cli.deliveries import app as deliveries
from gateway.cli.demo import demo
from gateway.cli.fetch import fetch
from gateway.cli.forwards import app as forwards
from gateway.cli.generators import app as generators
from gateway.cli.inpainters import app as inpainters
from gateway.cli.models import app as models
from gateway.cli.models import evaluate, train
from gateway.cli.network import send
from gateway.cli.priors import priors
from gateway.cli.rules import app as rules
from gateway.cli.serve import serve
from gateway.cli.studies import retry, status, study
from gateway.cli.tamper import tamper
from gateway.cli.verify import verify

app = typer.Typer(
    name="scanwarden",
    help="DICOM gateway that flags tumours added to or removed from images, and proves what arrived.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,  # locals may hold patient data
    add_completion=False,
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"scanwarden {version('scanwarden')}")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """Options that stand before every command."""


for command in (serve, send, fetch, priors, analyse, status, study, retry, verify, demo, tamper, train, evaluate):
    app.command()(command)
app.add_typer(audit, name="audit", help="The ledger: what happened, in order, and that nobody changed it.")
app.add_typer(config, name="config", help="Check, show and document the configuration.")
app.add_typer(rules, name="rules", help="The routing rules: what would happen to a study, and why.")
app.add_typer(deliveries, name="deliveries")
app.add_typer(baselines, name="baselines", help="What each scanner is known to always write.")
app.add_typer(forwards, name="forwards", help="What is passed on to other archives as it came.")
app.add_typer(
    generators, name="generators", help="Generators of whole images: synthetic images for training and trials."
)
app.add_typer(inpainters, name="inpainters", help="The small networks of the tampering lab.")
app.add_typer(models, name="models", help="The networks, their weights and cards.")


def main() -> None:
    """Entry point of the `scanwarden` command."""
    app()
