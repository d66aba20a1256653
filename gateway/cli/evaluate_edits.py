"""`scanwarden evaluate` of an edit network: tables here, the whole report as JSON, HTML and cases in a folder."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from gateway.cli.options import answers, fail

if TYPE_CHECKING:
    from models.evaluation import Agreement

_SHOWN = 5  # differences between card and report that are printed
CARDS_SEED = 7


def evaluate_edits(
    name: str,
    data: Path,
    runs: Path,
    seed: int,
    output: Path | None,
    *,
    leave_one_out: bool = False,
    audits: bool = True,
    workers: int = 1,
    restate: bool = False,
    as_json: bool = False,
) -> bool:
    """Print the report; whether it repeats the card's figures, which only the card's seed is expected to.

    With an `output` folder: report.json, report.html and cases.jsonl. `leave_one_out` adds what is in `runs` of models
    trained without a family or a source. `restate` writes the figures into the shipped card and its page.
    """
    from models import evaluation, registry
    from models.audits import audit, audit_section
    from models.evaluation import cases, families, left_out, published, tabulated
    from models.reports import Report, Section, Table, terminal_tables, write_html, write_json
    from models.reports import as_json as json_of
    from models.splits import UNSEEN, Split

    if output is not None and output.exists() and not output.is_dir():
        fail(f"{output} is a file; name a folder for report.json, report.html and cases.jsonl")
    model, began = registry.load(name), time.monotonic()
    card = model.card
    trials = evaluation.trials_of(
        model, data, runs / "cache", split=Split.TEST, seed=seed, quiet=as_json, workers=workers
    )
    figures = evaluation.report(trials, card)
    agreement = evaluation.compare(card.figures, figures)
    if restate:
        from models.release import restate as write_into

        write_into(card, figures)
    extra: list[Section] = []
    if leave_one_out:
        found = left_out.leave_one_out(card, runs, data, runs / "cache", seed=seed, workers=workers, quiet=as_json)
        figures["leave_one_out"] = found
        extra.append(left_out.section(found))
    if audits:
        seen = [source for source in card.data if source not in UNSEEN]
        made = audit(data, runs / "cache", families.trained(card), seen)
        figures["audits"] = [each.figures() for each in made]
        extra.append(audit_section(made))
    figures["agreement"] = agreement.figures()
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        write_json(figures, output / "report.json")
        write_html(evaluation.page(trials, card, figures, extra=extra), output / "report.html")
        cases.write(trials, card, output / "cases.jsonl")
    if as_json:
        typer.echo(json_of(figures), nl=False)
        return agreement.equal or seed != CARDS_SEED
    shown: list[Table] = [published.field_table(figures), *evaluation.tables(figures), tabulated.froc(figures)]
    shown += tabulated.froc_of_boxes(figures)
    shown += [table for section in extra for table in section.tables]
    for table in terminal_tables(Report(name, [Section("", tables=shown)])):
        answers.print(table)
    for section in extra:
        for line in section.paragraphs:
            answers.print(line, highlight=False, soft_wrap=True, markup=False)
    _say(agreement, time.monotonic() - began)
    if output is not None:
        answers.print(f"the whole report with pictures: {output / 'report.html'}", highlight=False, soft_wrap=True)
        answers.print("It shows images of third parties; mind their terms before it is passed on.")
    return agreement.equal or seed != CARDS_SEED


def _say(agreement: "Agreement", seconds: float) -> None:
    answers.print(f"{agreement.sentence()} ({seconds / 60:.1f} minutes)", highlight=False, soft_wrap=True, markup=False)
    for line in agreement.differences[:_SHOWN]:
        answers.print(f"  {line}", highlight=False, soft_wrap=True, markup=False)
    if len(agreement.differences) > _SHOWN:
        answers.print("  … all of them: --output FOLDER, report.json, agreement", highlight=False)
