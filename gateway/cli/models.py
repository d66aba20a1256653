"""Commands about the networks: what there is, training, release and evaluation."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from gateway.cli import train_images
from gateway.cli.options import JsonOption, answers, fail

if TYPE_CHECKING:
    from models.card import ModelCard
    from models.images.card import ImageModelCard

app = typer.Typer(no_args_is_help=True)

DataOption = Annotated[
    Path,
    typer.Option("--data", envvar="SCANWARDEN_DATA", help="Folder of the images, laid out as docs/models.md says."),
]
RunsOption = Annotated[Path, typer.Option("--runs", help="Folder for checkpoints, curves and decoded images.")]


@app.command("list")
def list_models(as_json: JsonOption = False) -> None:
    """Every model: its version, what it covers, and whether its weights are those of its card (1 when any is not)."""
    from models import registry
    from models.errors import ModelsError

    rows = []
    cards: list[ModelCard | ImageModelCard] = [*registry.available(), *registry.available_image_models()]
    for card in cards:
        modalities, body_parts = _covers(card)
        try:
            registry.verify(card.name)
            fault = None
        except ModelsError as error:
            fault = str(error)
        rows.append(
            {
                "name": card.name,
                "version": card.version,
                "task": card.task,
                "network": card.network,
                "modalities": modalities,
                "body_parts": body_parts,
                "digest": card.digest,
                "licence": card.licence,
                "weights_match": fault is None,
                "fault": fault,
            }
        )
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
    else:
        table = Table("model", "version", "task", "covers", "licence", "SHA-256", "weights")
        for row in rows:
            covers = f"{', '.join(row['modalities'])}: {', '.join(row['body_parts'])}"  # type: ignore[arg-type]
            state = "match the card" if row["weights_match"] else f"[bold red]{row['fault']}[/]"
            table.add_row(
                str(row["name"]),
                str(row["version"]),
                str(row["task"]),
                covers,
                str(row["licence"]),
                str(row["digest"])[:16],
                state,
            )
        answers.print(table)
    raise typer.Exit(0 if all(row["weights_match"] for row in rows) else 1)


def _covers(card: "ModelCard | ImageModelCard") -> tuple[list[str], list[str]]:
    """The modalities of a card, and the body parts or organs."""
    from models.card import ModelCard

    if isinstance(card, ModelCard):
        return list(card.modalities), list(card.body_parts)
    modalities = {modality for organ in card.organs for modality in organ.modalities}
    return sorted(modalities), [organ.value for organ in card.organs]


@app.command("refit")
def refit(
    name: Annotated[str, typer.Argument(help="An edit network that was published; its weights stay.")],
    runs: RunsOption = Path("runs"),
    folder: Annotated[
        Path | None, typer.Option("--folder", help="With cards/ and weights/; those that ship by default.")
    ] = None,
) -> None:
    """Fit calibration, fusion and thresholds again, and report again, from the trials kept when it was published.

    Needs neither images nor training; the card and its page are written anew.
    """
    from models import release
    from models.registry import SHIPPED

    with plain_faults():
        card, figures = release.refit(name, runs / name, folder=folder or SHIPPED)
    told, whole = card.judging, figures["studies"]["all"]
    for line in (
        f"series are judged by {told['by']}: {told['why']}",
        f"review from {card.thresholds.review:.3f}, suspect from {card.thresholds.suspect:.3f}",
        f"of {whole['genuine']} genuine series {whole['genuine_at_review']} reach REVIEW and "
        f"{whole['genuine_at_suspect']} SUSPECT; AUC of series {whole['auc']:.3f}",
    ):
        answers.print(line, highlight=False, soft_wrap=True)


def train(
    name: Annotated[str, typer.Argument(help="The model's name; a run of this name that was stopped goes on.")],
    data: DataOption,
    runs: RunsOption = Path("runs"),
    steps: Annotated[
        str, typer.Option("--stages", help="steps:crop:pairs, comma-separated; unset: those of the kind of model.")
    ] = "",
    seed: Annotated[int, typer.Option("--seed", help="Seed of weights and samples.")] = 1,
    threads: Annotated[int, typer.Option("--threads", min=1, help="CPU threads.")] = os.cpu_count() or 1,
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")] = "auto",
    start: Annotated[
        Path | None,
        typer.Option("--start", help="Weights that stay as they are; only layers that they lack are trained."),
    ] = None,
    publish: Annotated[
        Path | None,
        typer.Option(
            "--publish", metavar="FOLDER", help="When done: calibrate, measure, write weights/ and cards/ here."
        ),
    ] = None,
    version: Annotated[str, typer.Option("--version", help="Version in the card of what is published.")] = "0",
    image_steps: Annotated[int, typer.Option("--steps", min=1, help="Of organ-resnet and organ-attention.")] = 4500,
    without_generator: Annotated[
        list[str] | None, typer.Option("--without-generator", help="A kind of generator to leave out; may be repeated.")
    ] = None,
    without_source: Annotated[
        list[str] | None, typer.Option("--without-source", help="A source to leave out; may be repeated.")
    ] = None,
    without_family: Annotated[
        list[str] | None, typer.Option("--without-family", help="An edit family to leave out; may be repeated.")
    ] = None,
) -> None:
    """Train a network on genuine images and their edited or synthetic twins; a run that was stopped goes on.

    The name says which: edit-unet (edited pixels, and a map of how densely a region was edited), edit-maskrcnn (real,
    added and removed tumours as instances), or of whole images organ-resnet or organ-attention, each alone or with a
    suffix.
    """
    if name.startswith(train_images.NAMES):
        with plain_faults():
            train_images.train_images(
                name,
                data,
                runs,
                steps=image_steps,
                seed=seed,
                threads=threads,
                without_generators=tuple(without_generator or ()),
                without_sources=tuple(without_source or ()),
                publish=publish,
                version=version,
            )
        return
    from dataclasses import replace

    from models.evaluation.left_out import LeftOut, without
    from models.recipes import recipe_of

    recipe = recipe_of(name)
    config = recipe.configuration(data, runs / name)
    config = replace(config, seed=seed, threads=threads, device=device, start=start)
    if steps:
        try:
            stages = [tuple(int(number) for number in stage.split(":")) for stage in steps.split(",")]
            whole, crop, pairs = zip(*stages, strict=True)
        except ValueError:
            fail(f"--stages {steps}: give steps:crop:pairs for each stage, such as 4500:128:16,700:256:6")
        config = replace(config, stages=tuple(zip(whole, crop, pairs, strict=True)))
    with plain_faults():
        config = without(config, LeftOut(tuple(without_family or ()), tuple(without_source or ())))
        folder = recipe.train(config)
        answers.print(f"averaged weights and curves are in {folder}", highlight=False, soft_wrap=True)
        if publish is not None:
            card = recipe.release(config, name, version, publish)
            answers.print(f"published {card.name} {card.version}: {card.digest}", highlight=False, soft_wrap=True)


def evaluate(
    name: Annotated[str, typer.Argument(help="The model's registry name.")],
    data: DataOption,
    runs: RunsOption = Path("runs"),
    seed: Annotated[int, typer.Option("--seed", help="Seed of the edits; 7 repeats the card's figures.")] = 7,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder for the report: JSON, HTML.")] = None,
    leave_one_out: Annotated[
        bool,
        typer.Option(
            "--leave-one-out",
            help="Edits: what runs trained without a family or source make of it. Whole images: train them first.",
        ),
    ] = False,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Training steps of each network left without.")] = 1500,
    restate_card: Annotated[
        bool, typer.Option("--restate-card", help="Write the figures into the shipped card and its page.")
    ] = False,
    audits: Annotated[
        bool, typer.Option("--audits/--no-audits", help="Edits: whether a shortcut tells edited images.")
    ] = True,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Edits: processes of one thread each.")] = 2,
    against: Annotated[
        list[Path] | None,
        typer.Option("--against", metavar="FOLDER", help="Whole images: networks published here stand beside it."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Try a model on held-out patients and print the report, misses and false alarms included.

    An edit network: every edit family; 1 when the figures are not those of the card (with its seed, 7). One of
    instances: real tumours, too. A whole-image network: every kind of generator, and images of other sources.
    """
    from gateway.cli.evaluate_edits import evaluate_edits
    from gateway.cli.evaluate_images import evaluate_images
    from gateway.cli.evaluate_instances import evaluate_instances
    from models import registry
    from models.card import INSTANCES

    if name in {card.name for card in registry.available_image_models()}:
        with plain_faults():
            evaluate_images(
                name,
                data,
                runs,
                seed,
                output,
                leave_one_out=leave_one_out,
                steps=steps,
                restate=restate_card,
                against=against or (),
                as_json=as_json,
            )
        return
    if name in {card.name for card in registry.available() if card.task == INSTANCES}:
        with plain_faults():
            same = evaluate_instances(name, data, runs, seed, output, as_json=as_json)
        raise typer.Exit(0 if same else 1)
    with plain_faults():
        repeated = evaluate_edits(
            name,
            data,
            runs,
            seed,
            output,
            leave_one_out=leave_one_out,
            audits=audits,
            workers=workers,
            restate=restate_card,
            as_json=as_json,
        )
    raise typer.Exit(0 if repeated or restate_card else 1)


@contextmanager
def plain_faults() -> Iterator[None]:
    """What the models' room complains of, as one line instead of a traceback."""
    from models.errors import ModelsError

    try:
        yield
    except ModelsError as fault:
        fail(str(fault))
