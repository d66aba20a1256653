"""Every case of an evaluation as a line of JSON, for questions that no report asks."""

import json
from collections.abc import Iterator
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any

from models.card import ModelCard
from models.evaluation.slices import pixels
from models.reports.plain import plain
from models.trials import Trials


def lines(trials: Trials, card: ModelCard) -> Iterator[dict[str, Any]]:
    """Slices (`pixels`: found, wrongly found and missed at the card's threshold), conditions, scans and series."""
    for kind, group in (("slice", trials.slices), ("condition", trials.conditions)):
        for trial, counts in zip(group, pixels(group, card), strict=True):
            yield {"kind": kind, **_plain(trial), "pixels": plain(counts)}
    for name, others in (("scan", trials.scans), ("boxes", trials.boxes), ("series", trials.studies)):
        for other in others:
            yield {"kind": name, **_plain(other)}


def write(trials: Trials, card: ModelCard, path: Path) -> None:
    """One case a line, in the order in which they were tried."""
    with path.open("w", encoding="utf-8") as file:
        for line in lines(trials, card):
            file.write(json.dumps(line) + "\n")


def _plain(record: Any) -> dict[str, Any]:
    named = {each.name: getattr(record, each.name) for each in fields(record) if each.name != "pixels"}
    nested = {name: asdict(each) for name, each in named.items() if is_dataclass(each) and not isinstance(each, type)}
    return {name: plain(each) for name, each in (named | nested).items()}
