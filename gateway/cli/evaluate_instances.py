"""`scanwarden evaluate` of a model of instances: real tumours, edits and false alarms on held-out patients."""

import json
from pathlib import Path

from gateway.cli.options import answers, fail

CARDS_SEED = 7


def evaluate_instances(
    name: str, data: Path, runs: Path, seed: int, output: Path | None, *, as_json: bool = False
) -> bool:
    """Print the report; whether its figures are those of the card, which only the card's seed is expected to repeat.

    With an `output` folder: report.json.
    """
    from rich.table import Table

    from models import evaluation, instance_model, instance_release
    from models.splits import Split

    if output is not None and output.exists() and not output.is_dir():
        fail(f"{output} is a file; name a folder for report.json")
    model = instance_model.load(name)
    lesion = model.card.thresholds.lesion
    figures = instance_release.measured(model, data, runs / "cache", split=Split.TEST, seed=seed, lesion=lesion)
    agreement = evaluation.compare(model.card.figures, figures)
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        (output / "report.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    if as_json:
        answers.print_json(json.dumps(figures))
        return agreement.equal or seed != CARDS_SEED
    for title, rows in (("Real tumours", figures["real"]), ("Edits", {**figures["kinds"], **figures["families"]})):
        names = list(next(iter(rows.values()), {}))
        table = Table("", *(each.replace("_", " ") for each in names), title=title)
        for label, row in rows.items():
            table.add_row(label, *(instance_release.number(row[each]) for each in names))
        answers.print(table)
    answers.print(agreement.sentence(), highlight=False)
    return agreement.equal or seed != CARDS_SEED
