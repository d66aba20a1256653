"""Figures as JSON that is equal for equal figures: plain numbers, nothing that is not finite, six digits."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np


def plain(value: Any) -> Any:
    """`value` in JSON's own types; arrays become lists, NaN and infinities None, floats keep six significant digits."""
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value


def as_json(figures: Mapping[str, Any]) -> str:
    return json.dumps(plain(figures), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_json(figures: Mapping[str, Any], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(as_json(figures), encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    figures: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return figures
