"""Whether an evaluation repeats the figures of the card, to the digits that anyone reads."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_ABSOLUTE = 0.005  # another processor, or another number of slices in a batch, moves a logit in its sixth digit
_RELATIVE = 0.005


@dataclass(frozen=True)
class Agreement:
    """`compared` figures of the card; `differences` says of each that is not repeated what the card and we have.

    `same_edits` None: the card does not say which edits it was measured on.
    """

    compared: int
    differences: tuple[str, ...]
    same_edits: bool | None

    @property
    def equal(self) -> bool:
        return self.compared > 0 and not self.differences

    def figures(self) -> dict[str, Any]:
        """The same for a script."""
        return {
            "equal": self.equal,
            "compared": self.compared,
            "same_edits": self.same_edits,
            "differences": list(self.differences),
        }

    def sentence(self) -> str:
        """The answer for a person, with the reason where one is known."""
        if not self.compared:
            return "the card states no figures to compare with"
        if self.equal:
            return f"repeats the card: all {self.compared} figures are equal to {_ABSOLUTE:g}"
        why = {
            True: "the edits are the card's, so weights, thresholds or the measures have changed",
            False: "the edits are not the card's: the tampering lab, the images, seed or plan have changed since",
            None: "the card does not say which edits it was measured on",
        }[self.same_edits]
        return f"does NOT repeat the card: {len(self.differences)} of {self.compared} figures differ; {why}"


def compare(stated: Mapping[str, Any], measured: Mapping[str, Any]) -> Agreement:
    """Every number of the card's figures against the measured one of the same name."""
    card, here = dict(_numbers(stated)), dict(_numbers(measured))
    differences = [
        f"{name}: card {value:.6g}, here {here[name]:.6g}" if name in here else f"{name}: card {value:.6g}, not here"
        for name, value in card.items()
        if name not in here or not _same(value, here[name])
    ]
    known = "edits" in stated and "edits" in measured
    return Agreement(len(card), tuple(differences), stated["edits"] == measured["edits"] if known else None)


def _same(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=_RELATIVE, abs_tol=_ABSOLUTE)


def _numbers(figures: Any, path: str = "") -> Iterator[tuple[str, float]]:
    """(place, value) of every number in nested figures; what is not known (NaN, None) is left out."""
    if isinstance(figures, Mapping):
        for key, value in figures.items():
            yield from _numbers(value, f"{path}.{key}" if path else str(key))
    elif isinstance(figures, list | tuple):
        for place, value in enumerate(figures):
            yield from _numbers(value, f"{path}.{place}")
    elif isinstance(figures, int | float) and not isinstance(figures, bool) and math.isfinite(figures):
        yield path, float(figures)
