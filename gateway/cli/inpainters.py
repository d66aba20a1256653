"""`scanwarden inpainters`: the small networks of the tampering lab. They are trained here and never shipped."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import track
from rich.table import Table

from gateway.cli.models import DataOption, RunsOption
from gateway.cli.options import JsonOption, answers, fail, progress_console

app = typer.Typer(no_args_is_help=True)


@app.command("list")
def list_inpainters(as_json: JsonOption = False) -> None:
    """Every inpainter: how it is built, and whether its weights are here."""
    from models.tampering.inpainters import weights_file, weights_present
    from models.tampering.inpainters.catalogue import INPAINTERS

    rows = [
        {
            "name": kind.name,
            "about": kind.about,
            "steps": kind.steps,
            "seed": kind.seed,
            "weights": str(weights_file(kind.name)) if weights_present(kind.name) else None,
        }
        for kind in INPAINTERS.values()
    ]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    table = Table("inpainter", "how", "steps", "seed", "weights")
    for row in rows:
        table.add_row(
            str(row["name"]), str(row["about"]), str(row["steps"]), str(row["seed"]), str(row["weights"] or "-")
        )
    answers.print(table)


@app.command()
def train(
    name: Annotated[str, typer.Argument(help="An inpainter, or `all`; a run that was stopped goes on.")],
    data: DataOption,
    runs: RunsOption = Path("runs"),
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Other than the catalogue's.")] = None,
    crops: Annotated[int, typer.Option("--crops", min=10, help="Crops of training patients to learn from.")] = 2000,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the crops; weights have their own.")] = 1,
    threads: Annotated[int, typer.Option("--threads", min=1, help="CPU threads.")] = 1,
) -> None:
    """Train inpainters on patients of the training split; about two minutes of one core each."""
    from models import datasets
    from models.tampering import inpainters
    from models.tampering.inpainters.catalogue import INPAINTERS, inpainter
    from models.tampering.inpainters.crops import pool
    from models.tampering.inpainters.training import TrainingPlan
    from models.tampering.inpainters.training import train as run_training

    with _plain_faults():
        kinds = list(INPAINTERS.values()) if name == "all" else [inpainter(name)]
        with progress_console.status("cutting crops"):
            found = pool(datasets.load(data, runs / "cache"), crops, seed)
        for kind in kinds:
            path = run_training(TrainingPlan(kind, inpainters.folder(), steps, threads), found)
            answers.print(f"{kind.name}: {path}, {path.stat().st_size:,} bytes", highlight=False, soft_wrap=True)


@app.command()
def sheet(
    output: Annotated[Path, typer.Argument(help="PNG to write.")],
    data: DataOption,
    runs: RunsOption = Path("runs"),
    families: Annotated[
        str | None, typer.Option("--families", help="Comma-separated; all that can run here by default.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the edits.")] = 1,
) -> None:
    """Draw what the edit families make of three series of held-out patients, before and after, for the eye."""
    from models import datasets
    from models.splits import Split
    from models.tampering.families import FAMILIES, family, ready
    from models.tampering.sheet import draw_sheet

    with _plain_faults():
        names = [family(each).name for each in families.split(",")] if families else list(ready(FAMILIES))
        held = [case for case in datasets.load(data, runs / "cache") if case.split is not Split.TRAIN]
        series = {case.source: case for case in reversed(held) if not case.separate}
        chosen = [case for source, case in sorted(series.items()) if source != "t1-healthy"][:3]
        draw_sheet(output, chosen, names, seed)
    answers.print(f"{len(names)} families in {output}", highlight=False, soft_wrap=True)


@app.command()
def bank(
    data: DataOption,
    runs: RunsOption = Path("runs"),
    count: Annotated[int, typer.Option("--count", min=1, help="Edits of each family.")] = 300,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the edits.")] = 1,
) -> None:
    """Make the edits that are too slow for training, for runs that are to include them; goes on where it stopped."""
    from models import datasets
    from models.banking import fill_bank, slow_families
    from models.tampering.bank import folder

    with _plain_faults():
        names = slow_families()
        files = fill_bank(datasets.load(data, runs / "cache"), names, count, seed)
        for _ in track(files, "edits", total=count * len(names), console=progress_console):
            pass
    answers.print(f"{count} edits each by {', '.join(names)} in {folder()}", highlight=False, soft_wrap=True)


@contextmanager
def _plain_faults() -> Iterator[None]:
    from models.errors import ModelsError

    try:
        yield
    except ModelsError as fault:
        fail(str(fault))
