"""The registry of provenance rules.

A rule sees headers and geometry of the whole study; a pixel rule sees one decoded stack at a time. A rule that fails
costs nothing but its own word: the failure itself becomes an observation.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from inference.findings import Observation, Severity
from inference.instances import Instance
from inference.provenance.baseline import Baseline
from inference.volume import Stack, Volume

Facts = TypeVar("Facts")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StudyFacts:
    """What rules may look at: every instance whose header could be read, and the stacks that its images make.

    `baselines` holds what is known of each device, by `Origin.device`.
    """

    instances: tuple[Instance, ...]
    stacks: tuple[Stack, ...]
    baselines: Mapping[str, Baseline] = field(default_factory=dict)

    @property
    def series(self) -> Mapping[str, tuple[Instance, ...]]:
        """Images by Series Instance UID, in the order of the instances."""
        groups: dict[str, list[Instance]] = {}
        for instance in self.instances:
            if instance.is_image:
                groups.setdefault(instance.series_uid, []).append(instance)
        return {uid: tuple(group) for uid, group in groups.items()}


Rule = Callable[[StudyFacts], Iterable[Observation]]
PixelRule = Callable[[Volume], Iterable[Observation]]
RULES: list[Rule] = []
PIXEL_RULES: list[PixelRule] = []


def rule(function: Rule) -> Rule:
    """Register a rule; rules run in the order of registration."""
    RULES.append(function)
    return function


def pixel_rule(function: PixelRule) -> PixelRule:
    """Register a rule that looks at the voxels of one stack."""
    PIXEL_RULES.append(function)
    return function


def observe(facts: StudyFacts) -> tuple[Observation, ...]:
    """What all rules see in a study."""
    _register()
    return tuple(_run(RULES, facts))


def observe_pixels(volume: Volume) -> tuple[Observation, ...]:
    """What all pixel rules see in one stack, while its voxels are there."""
    _register()
    return tuple(_run(PIXEL_RULES, volume))


def _run(rules: Sequence[Callable[[Facts], Iterable[Observation]]], facts: Facts) -> Iterator[Observation]:
    for look in rules:
        try:
            yield from tuple(look(facts))
        except Exception as fault:  # noqa: BLE001  a rule's fault must not cost the analysis
            # The message of the fault may quote a header; its type may not.
            _log.warning("provenance rule %s failed: %s", look.__name__, type(fault).__name__)
            yield Observation(
                "rule-failed",
                Severity.INFO,
                f"the check “{look.__name__.replace('_', ' ')}” could not be made on this study; "
                "the other checks are not affected; report this to the maintainers",
                {"check": look.__name__, "fault": type(fault).__name__},
            )


def _register() -> None:
    """Each of these registers its rules when it is imported."""
    from inference.provenance import (  # noqa: F401
        compression,
        counts,
        devices,
        grid,
        headers,
        histogram,
        identity,
        known_devices,
        noise_rule,
        numbers,
        positions,
        ranges,
        times,
        uids,
    )
