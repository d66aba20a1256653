"""`scanwarden evaluate` of a whole-image network: tables here, the whole report as JSON and HTML in a folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from gateway.cli.options import answers, fail, progress_console

if TYPE_CHECKING:
    from models.images.card import ImageModelCard
    from models.images.evaluation import Evaluation

_WIDE = 170  # characters, in a file or a pipe
_SHOWN = 5  # differences between card and report that are printed


def evaluate_images(
    name: str,
    data: Path,
    runs: Path,
    seed: int,
    output: Path | None,
    *,
    leave_one_out: bool = False,
    steps: int = 1500,
    restate: bool = False,
    against: Sequence[Path] = (),
    as_json: bool = False,
) -> None:
    """Print the report of a whole-image network; `output` is a folder for report.json, report.html and pictures.

    `leave_one_out` first trains, for every kind of generator, a network that never saw it, where none is in `runs` yet.
    Beside it stand the other whole-image networks that ship, and those published into the folders `against`.
    `restate` writes the figures into the shipped card and its page. Ends with 1 where they are not the card's.
    """
    import torch

    from models import registry
    from models.images import evaluation, leave_out, presentation
    from models.images.registry import load_image_model
    from models.images.subjects import Plan
    from models.reports import as_json as json_of
    from models.reports import terminal_tables, write_html, write_json, write_pictures

    torch.set_num_threads(1)  # what a sum is split into shows in its last digits; the card's figures must come again
    if output is not None and output.exists() and not output.is_dir():
        fail(f"{output} is a file; name a folder for report.json and report.html")
    model, plan = load_image_model(name), Plan()
    images = evaluation.load(data, runs / "cache", runs / "synthetic", plan)
    kinds = sorted({subject.kind for subject in images.synthetic})
    if leave_one_out:
        _train_missing(model.card, leave_out.missing(name, kinds, runs), data, runs, steps)
    others = [load_image_model(card.name) for card in registry.available_image_models() if card.name != name]
    for folder in against:
        others += [load_image_model(card.name, folder=folder) for card in registry.available_image_models(folder)]
    made = evaluation.evaluate(
        model,
        images,
        seed=seed,
        plan=plan,
        against=others,
        left_out=leave_out.figures(model.card, images, runs, seed, quiet=as_json),
        quiet=as_json,
    )
    if output is not None:
        write_json(made.figures, output / "report.json")
        whole = presentation.report(made)
        write_html(whole, output / "report.html")
        write_pictures(whole, output / "pictures")
    if restate:
        _restate(made)
    if as_json:
        typer.echo(json_of(made.figures), nl=False)
        return
    report = presentation.report(made, pictures=False)
    for line in report.summary:
        answers.print(line, highlight=False, soft_wrap=True)
    for table in terminal_tables(report):
        answers.print(table, width=None if answers.is_terminal else _WIDE, crop=False)
    equal = restate or _equal(model.card.figures, made.figures)
    if output is not None:
        answers.print(f"the whole report with pictures: {output / 'report.html'}", highlight=False, soft_wrap=True)
        answers.print("It shows genuine images of third parties; mind their terms before it is passed on.")
    if not equal and seed == evaluation.SEED:
        raise typer.Exit(1)


def _train_missing(card: "ImageModelCard", kinds: list[str], data: Path, runs: Path, steps: int) -> None:
    from models.images import leave_out
    from models.images.training import ImageTrainingConfig, train

    for kind in kinds:
        progress_console.print(f"training {card.name} without {kind}, {steps:,} steps", highlight=False)
        train(
            ImageTrainingConfig(
                data=data,
                synthetic=runs / "synthetic",
                output=leave_out.folder_of(card.name, kind, runs),
                network=card.network,
                arguments=card.arguments,
                without_kinds=(kind,),
                steps=steps,
            )
        )


def _restate(made: "Evaluation") -> None:
    """The page goes with the card: both say what was measured."""
    from models.images import presentation
    from models.images.evaluation import for_card
    from models.images.readable import readable
    from models.registry import SHIPPED

    card = made.card.model_copy(update={"figures": for_card(made.figures)})
    card.write(SHIPPED / "cards" / f"{card.name}.json")
    page = readable(card, presentation.report(made, pictures=False))
    (SHIPPED / "cards" / f"{card.name}.md").write_text(page, encoding="utf-8")
    answers.print(f"the card of {card.name} states these figures now", highlight=False)


def _equal(card: dict[str, Any], measured: dict[str, Any]) -> bool:
    """Whether the figures are the card's; says so, and which are not."""
    from models.images.evaluation import differences

    absent = {*card.get("left_out_generator", {})} - {*measured["left_out_generator"]}
    if absent:
        here = {kind: row for kind, row in card["left_out_generator"].items() if kind not in absent}
        card = card | {"left_out_generator": here}
        kinds = ", ".join(sorted(absent))
        answers.print(f"not repeated, for want of networks trained without them: {kinds}", highlight=False)
    found = differences(card, measured)
    if not found:
        answers.print("every figure equals the card's", highlight=False)
        return True
    answers.print(f"[bold red]{len(found)} figures are not the card's[/], such as")
    for line in found[:_SHOWN]:
        answers.print(f"  {line}", highlight=False, soft_wrap=True, markup=False)
    return False
