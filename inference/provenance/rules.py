"""The registry of provenance rules."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from inference.findings import Observation
from inference.instances import Instance
from inference.volume import Stack


@dataclass(frozen=True)
class StudyFacts:
    """What rules may look at: every instance whose header could be read, and the stacks that its images make."""

    instances: tuple[Instance, ...]
    stacks: tuple[Stack, ...]


Rule = Callable[[StudyFacts], Iterator[Observation]]
RULES: list[Rule] = []


def rule(function: Rule) -> Rule:
    """Register a rule; rules run in the order of registration."""
    RULES.append(function)
    return function


def observe(facts: StudyFacts) -> tuple[Observation, ...]:
    """What all rules see in a study."""
    from inference.provenance import headers  # noqa: F401  registers its rules

    return tuple(observation for look in RULES for observation in look(facts))
