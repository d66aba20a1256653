"""Trials in a file, so that calibration, fusion and figures can be made again without a network or an image.

Lines of JSON, compressed: numbers and names alone. Cases kept for the eye are images, and are left out.
"""

import gzip
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from models.errors import ModelsError
from models.fusion import Evidence
from models.trials.records import ScanTrial, SliceTrial, StudyTrial, Trials

_KINDS: dict[str, type[Any]] = {
    "slices": SliceTrial,
    "studies": StudyTrial,
    "scans": ScanTrial,
    "boxes": ScanTrial,
    "conditions": SliceTrial,
}


class TrialsUnreadable(ModelsError):
    """A file of kept trials that is absent, damaged or of another version."""


def keep(trials: Trials, path: Path) -> None:
    """Write all but the cases for the eye; renamed into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with gzip.open(partial, "wt", encoding="utf-8", compresslevel=4) as file:
        file.write(json.dumps({"edits": trials.edits}) + "\n")
        for kind in _KINDS:
            for record in getattr(trials, kind):
                values = {each.name: _written(getattr(record, each.name)) for each in fields(record)}
                file.write(json.dumps({"kind": kind, **values}) + "\n")
    partial.replace(path)


def kept(path: Path) -> Trials:
    """What `keep` wrote. Raises TrialsUnreadable."""
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            trials = Trials(edits=list(json.loads(next(file))["edits"]))
            for line in file:
                values = json.loads(line)
                kind = values.pop("kind")
                record = _KINDS[kind](**{name: _read(value) for name, value in values.items()})
                getattr(trials, kind).append(record)
    except FileNotFoundError as fault:
        raise TrialsUnreadable(f"no trials at {path}; they are kept when a model is published") from fault
    except (OSError, EOFError, StopIteration, ValueError, KeyError, TypeError) as fault:
        raise TrialsUnreadable(f"{path} holds no trials of this version ({fault}); publish the model again") from fault
    return trials


def _written(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return {"array": value.tolist(), "dtype": value.dtype.str, "shape": value.shape}
    if isinstance(value, Evidence):
        return {"evidence": {name: _written(each) for name, each in vars(value).items()}}
    return value.item() if isinstance(value, np.generic) else value


def _read(value: Any) -> Any:
    if isinstance(value, dict):
        if "evidence" in value:
            return Evidence(**value["evidence"])
        return np.array(value["array"], dtype=np.dtype(value["dtype"])).reshape(value["shape"])
    return value
