"""Commands about the generators of whole images: train them, fill a folder with their images, make a study of them."""

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from gateway.cli.models import DataOption, RunsOption, plain_faults
from gateway.cli.options import answers, fail

app = typer.Typer(no_args_is_help=True)

KindArgument = Annotated[str, typer.Argument(help="The kind of generator, or `all`; `list` names them.")]
SeedOption = Annotated[int, typer.Option("--seed", help="Seed of weights and order; another seed is another instance.")]


@app.command("list")
def list_generators(runs: RunsOption = Path("runs")) -> None:
    """Every kind: what it leaves in an image, and which instances of it are trained here."""
    from models.tampering.generators.kinds import KINDS
    from models.tampering.generators.sampling import instances
    from models.tampering.generators.training import about

    table = Table("kind", "size", "trace", "trained: seed, steps, seconds")
    trained = instances(runs / "generators")
    for kind in KINDS.values():
        known = [about(instance.path) for instance in trained.get(kind.name, [])]
        told = "; ".join(f"{each['seed']}, {each['steps']}, {each['seconds']}" for each in known) or "no"
        table.add_row(kind.name, str(kind.build().size or "any"), kind.trace, told)
    answers.print(table)


@app.command("train")
def train_generators(
    kind: KindArgument,
    data: DataOption,
    runs: RunsOption = Path("runs"),
    seed: SeedOption = 1,
    steps: Annotated[int, typer.Option("--steps", min=0, help="Steps of training; 0: as many as the kind wants.")] = 0,
    threads: Annotated[int, typer.Option("--threads", min=1, help="CPU threads.")] = 1,
) -> None:
    """Train on the genuine images of the training split; a run that was stopped goes on, a finished one stays."""
    from models.tampering.generators import material
    from models.tampering.generators.training import GeneratorConfig, train

    with plain_faults():
        names = _kinds(kind)
        examples = material.load(data, runs / "cache")
        for name in names:
            began = time.monotonic()
            config = GeneratorConfig(name, runs / "generators" / f"{name}-{seed}", seed, steps, threads)
            path = train(config, examples)
            seconds = time.monotonic() - began
            answers.print(f"{name}: {path} after {seconds:.0f} s", highlight=False, soft_wrap=True)


@app.command("sample")
def sample_generators(
    data: DataOption,
    kind: Annotated[str, typer.Option("--kind", help="One kind only; default: all that are trained.")] = "",
    runs: RunsOption = Path("runs"),
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Default: RUNS/synthetic.")] = None,
) -> None:
    """Fill a folder with images of each kind, source and split, an index, and a contact sheet of each kind."""
    from models.images.synthetic import load_synthetic
    from models.tampering.generators import material
    from models.tampering.generators.contact import contact_sheet
    from models.tampering.generators.sampling import instances, sample

    folder = output or runs / "synthetic"
    with plain_faults():
        names = _kinds(kind) if kind else list(instances(runs / "generators"))
        if not names:
            fail(f"no generator is trained in {runs / 'generators'}; run `scanwarden generators train all`")
        examples = material.load(data, runs / "cache")
        for name in names:
            began = time.monotonic()
            count = sample(name, runs / "generators", folder, examples)
            sheet = folder / "contact-sheets" / f"{name}.png"
            contact_sheet(sheet, load_synthetic(folder, kinds=(name,)), examples)
            seconds = time.monotonic() - began
            answers.print(f"{name}: {count} images in {seconds:.0f} s, {sheet}", highlight=False, soft_wrap=True)


@app.command("study")
def synthetic_study(
    kind: Annotated[str, typer.Argument(help="A kind that is trained.")],
    output: Annotated[Path, typer.Argument(help="Folder for the study; new, or empty.")],
    template: Annotated[
        Path | None, typer.Option("--template", help="Folder with a genuine series that lends headers and histogram.")
    ] = None,
    slices: Annotated[int | None, typer.Option("--slices", min=1, help="That many from the middle.")] = None,
    runs: RunsOption = Path("runs"),
    seed: Annotated[int, typer.Option("--seed", help="Seed of the images; the newest instance makes them.")] = 1,
) -> None:
    """Write a brain MR series of which no slice was made by a scanner, for trials; without --template a phantom's."""
    from models.tampering.generators.sampling import instances
    from models.tampering.generators.study import synthesise_study
    from models.tampering.generators.training import load

    if output.exists() and any(output.iterdir()):
        fail(f"{output} is not empty; name a new folder, so that no genuine file is overwritten")
    with plain_faults():
        (name,) = _kinds(kind)[:1]
        trained = instances(runs / "generators").get(name)
        if not trained:
            fail(f"no {name} is trained in {runs / 'generators'}; run `scanwarden generators train {name}`")
        network, _ = load(trained[-1].path)
        made = synthesise_study(output, network, seed, template=template, slices=slices)
    answers.print(
        f"study {made.study_uid}: {len(made.paths)} slices by {trained[-1].name} in {output}",
        highlight=False,
        soft_wrap=True,
    )


def _kinds(name: str) -> list[str]:
    from models.tampering.generators.kinds import KINDS, kind_of

    return list(KINDS) if name == "all" else [kind_of(name).name]
