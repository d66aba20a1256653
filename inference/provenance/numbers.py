"""Instance Number (PS3.3 C.7.6.1) against itself and against the order of places.

Single-frame stacks only; a series whose numbers follow time or echo instead of place says nothing here.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator

import numpy as np

from inference.findings import Observation, Severity
from inference.instances import Instance
from inference.provenance.rules import StudyFacts, rule
from inference.provenance.wording import count, short, uids

_FOLLOWS = 0.6  # rank correlation from which on numbers are meant to follow places
_FEW = 4


@rule
def numbers_are_given_once(facts: StudyFacts) -> Iterator[Observation]:
    """Two slices of one stack with one number: one of them was added later, or numbered by hand."""
    for series_uid, members in _stacks(facts):
        counts = Counter(each.number for each in members)
        doubled = [each for each in members if counts[each.number] > 1]
        if doubled and len(doubled) < len(members):
            yield Observation(
                "instance-number-twice",
                Severity.WARNING,
                f"{count(len(doubled))} of {short(series_uid)} share an Instance Number with another one: a slice "
                "was put in "
                "or sent again under another UID; compare the number of slices with the scanner",
                {
                    "series_uid": series_uid,
                    "numbers": sorted(n for n, c in counts.items() if c > 1 and n is not None)[:20],
                },
                uids(doubled),
            )


@rule
def numbers_have_no_holes(facts: StudyFacts) -> Iterator[Observation]:
    """A missing number inside a series that otherwise counts by one: not sent yet, or taken out."""
    for series_uid, members in _series(facts):
        numbers = sorted({each.number for each in members if each.number is not None})
        if len(numbers) < _FEW:
            continue
        steps = np.diff(numbers)
        if np.mean(steps == 1) < 0.8:
            continue
        missing = [
            n for low, step in zip(numbers, steps, strict=False) for n in range(low + 1, low + int(step)) if step < 100
        ]
        if missing:
            yield Observation(
                "instance-number-missing",
                Severity.INFO,
                f"{short(series_uid)} lacks {count(len(missing))} by number: not sent, or taken out; ask the sender "
                "to send "
                "the series again",
                {"series_uid": series_uid, "missing": missing[:20]},
                uids([each for each in members if each.number in {missing[0] - 1, missing[-1] + 1}]),
            )


@rule
def numbers_follow_places(facts: StudyFacts) -> Iterator[Observation]:
    """Where numbers run with the places, the few that do not were exchanged or inserted."""
    for series_uid, members in _stacks(facts):
        if len(members) < 2 * _FEW or len({each.number for each in members}) < len(members):
            continue
        numbers = np.array([each.number or 0 for each in members])
        ranks = numbers.argsort().argsort().astype(float)
        line = np.arange(len(ranks), dtype=float)
        correlation = float(np.corrcoef(ranks, line)[0, 1])
        if abs(correlation) < _FOLLOWS:
            continue
        ordered = set(_longest_run(list(ranks if correlation > 0 else -ranks)))
        wrong = [each for index, each in enumerate(members) if index not in ordered]
        if wrong and len(wrong) <= 0.34 * len(members):
            yield Observation(
                "instance-number-order",
                Severity.WARNING,
                f"{count(len(wrong))} of {short(series_uid)} {'is' if len(wrong) == 1 else 'are'} numbered against "
                "the order "
                "of places: slices were exchanged or put in; fetch the series from the scanner and compare",
                {"series_uid": series_uid, "numbers": [each.number for each in wrong][:20]},
                uids(wrong),
            )


def _longest_run(values: list[float]) -> list[int]:
    """Indices of a longest increasing subsequence."""
    ends: list[float] = []
    at: list[int] = []
    before: list[int] = []
    for index, value in enumerate(values):
        place = bisect_left(ends, value)
        before.append(at[place - 1] if place else -1)
        if place == len(ends):
            ends.append(value)
            at.append(index)
        else:
            ends[place], at[place] = value, index
    run: list[int] = []
    index = at[-1] if at else -1
    while index >= 0:
        run.append(index)
        index = before[index]
    return run[::-1]


def _stacks(facts: StudyFacts) -> Iterator[tuple[str, tuple[Instance, ...]]]:
    """Placed single-frame stacks of numbered images, in order of place."""
    for stack in facts.stacks:
        members = stack.instances
        if (
            len(members) == len(stack.members) >= _FEW
            and all(each.number is not None and each.frames[0].position is not None for each in members)
            and all(len(each.frames) == 1 for each in members)
        ):
            yield stack.series_uid, members


def _series(facts: StudyFacts) -> Iterator[tuple[str, tuple[Instance, ...]]]:
    for series_uid, members in facts.series.items():
        if all(len(each.frames) == 1 and each.number is not None for each in members):
            yield series_uid, members
