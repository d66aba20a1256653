"""`scanwarden evaluate` of a model of instances: real tumours, edits and the four classes on held-out patients."""

from pathlib import Path

import typer

from gateway.cli.options import answers, fail

CARDS_SEED = 7


def evaluate_instances(
    name: str, data: Path, runs: Path, seed: int, output: Path | None, *, as_json: bool = False
) -> bool:
    """Print the report; whether its figures are those of the card, which only the card's seed is expected to repeat.

    With an `output` folder: report.json and report.html.
    """
    from models import evaluation, instance_model, instance_page, instance_release
    from models.reports import as_json as json_of
    from models.reports import terminal_tables, write_html, write_json

    if output is not None and output.exists() and not output.is_dir():
        fail(f"{output} is a file; name a folder for report.json and report.html")
    model = instance_model.load(name)
    figures = instance_release.measured(model, data, runs / "cache", seed=seed)
    stated = {key: value for key, value in model.card.figures.items() if key != "calibration_patients"}
    agreement = evaluation.compare(stated, figures)
    page = instance_page.page(model.card, figures)
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        write_json(figures, output / "report.json")
        write_html(page, output / "report.html")
    if as_json:
        typer.echo(json_of(figures), nl=False)
        return agreement.equal or seed != CARDS_SEED
    for table in terminal_tables(page):
        answers.print(table)
    for line in (*page.summary, *(text for section in page.sections for text in section.paragraphs)):
        answers.print(line, highlight=False, soft_wrap=True, markup=False)
    answers.print(agreement.sentence(), highlight=False)
    return agreement.equal or seed != CARDS_SEED
