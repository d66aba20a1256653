"""What a device always does: learnt from the studies that it sent, compared with the next one.

A baseline counts, for each kind of image, how many studies showed a property (private blocks, attributes, writer, root
of UIDs, a planning scan). What almost every study showed and this one does not is worth a look: the usual way to lose
private blocks is to go through other software. Plain data in and out; who stores it decides what may teach it.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from inference.instances import Instance

_VERSION = 1
_ENOUGH = 8  # studies of one kind, before a device can be said to always do something
_ALWAYS = 0.99  # share of the studies that showed it
_MOST_TRAITS = 512  # of one kind of image; a sender that invents names must not grow the table
_MOST_KINDS = 64  # of one device, for the same reason
_LONGEST_NAME = 64  # characters of a private creator (PS3.5 table 6.2-1, LO)
_LONGEST_WORD = 16  # of an image type (CS)


class BaselineUnreadable(ValueError):
    """A stored baseline is not what `to_json` wrote; forget it and learn anew."""


@dataclass(frozen=True)
class Departure:
    """A device's kind of image always showed `trait` in `studies` studies, and now some instances do not."""

    kind: str
    trait: str
    studies: int
    sop_instance_uids: tuple[str, ...]


@dataclass(frozen=True)
class Baseline:
    """Studies seen by kind of image, and in how many of them every such image showed a trait."""

    studies: Mapping[str, int] = field(default_factory=dict)
    traits: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def update(self, instances: Iterable[Instance], *, without: Collection[str] = ()) -> "Baseline":
        """This baseline and one more study of the device, less the kinds of image that it has taught already.

        Teach it only studies that nothing speaks against.
        """
        studies = dict(self.studies)
        traits = {kind: dict(known) for kind, known in self.traits.items()}
        for kind, members in kinds_of(instances).items():
            if kind in without or (kind not in studies and len(studies) >= _MOST_KINDS):
                continue
            studies[kind] = studies.get(kind, 0) + 1
            known = traits.setdefault(kind, {})
            for trait in frozenset.intersection(*(_traits(instance) for instance in members)):
                if trait in known or len(known) < _MOST_TRAITS:
                    known[trait] = known.get(trait, 0) + 1
        return Baseline(studies, traits)

    def compare(self, instances: Iterable[Instance]) -> tuple[Departure, ...]:
        """What these instances of the device lack although its studies always showed it."""
        found = []
        for kind, members in sorted(kinds_of(instances).items()):
            seen = self.studies.get(kind, 0)
            if seen < _ENOUGH:
                continue
            shown = [(instance.sop_instance_uid, _traits(instance)) for instance in members]
            for trait, times in sorted(self.traits.get(kind, {}).items()):
                lacking = tuple(uid for uid, traits in shown if trait not in traits)
                if times >= _ALWAYS * seen and lacking:
                    found.append(Departure(kind, trait, seen, lacking))
        return tuple(found)

    def to_json(self) -> dict[str, Any]:
        return {
            "version": _VERSION,
            "studies": dict(self.studies),
            "traits": {kind: dict(known) for kind, known in self.traits.items()},
        }

    @staticmethod
    def from_json(stored: Mapping[str, Any]) -> "Baseline":
        """Raises BaselineUnreadable when `stored` is not what `to_json` wrote."""
        try:
            if stored["version"] != _VERSION:
                raise BaselineUnreadable(f"a baseline of version {stored['version']}, not {_VERSION}; learn it anew")
            studies = {str(kind): int(number) for kind, number in stored["studies"].items()}
            traits = {
                str(kind): {str(trait): int(number) for trait, number in known.items()}
                for kind, known in stored["traits"].items()
            }
        except (KeyError, TypeError, AttributeError) as fault:
            raise BaselineUnreadable(f"no baseline: {type(fault).__name__}; learn it anew") from fault
        return Baseline(studies, traits)


def by_device(instances: Iterable[Instance]) -> dict[str, list[Instance]]:
    """Images that a scanner made first, by the digest that names it; derived ones come from workstations."""
    devices: dict[str, list[Instance]] = {}
    for instance in instances:
        if instance.is_image and instance.origin.device and "DERIVED" not in instance.image_type[:1]:
            devices.setdefault(instance.origin.device, []).append(instance)
    return devices


def kinds_of(instances: Iterable[Instance]) -> dict[str, Sequence[Instance]]:
    """A scanner writes another header for a localiser than for a volume: each kind has its own habits."""
    kinds: dict[str, list[Instance]] = {}
    for instance in instances:
        words = (word[:_LONGEST_WORD] for word in instance.image_type[:3])
        kinds.setdefault("\\".join((instance.sop_class_uid, *words)), []).append(instance)
    return dict(kinds)


def _traits(instance: Instance) -> frozenset[str]:
    """Only what a transfer through honest software keeps; the file's writer is the last node, not the device."""
    origin = instance.origin
    return frozenset(
        [
            *(f"private block {creator[:_LONGEST_NAME]}" for creator in origin.private_creators if creator),
            *(f"attribute {keyword}" for keyword in origin.attributes),
        ]
    )


def traits_of(instances: Iterable[Instance]) -> Counter[str]:
    """How many instances show each trait, for a look at a new device."""
    return Counter(trait for instance in instances for trait in _traits(instance))
