"""A series comes from one scanner and went through one piece of software."""

from collections.abc import Callable, Iterator

from inference.findings import Observation, Severity
from inference.instances import Instance
from inference.provenance.rules import StudyFacts, rule
from inference.provenance.wording import count, short, uids

_SAID: dict[str, Callable[[Instance], str]] = {
    "Manufacturer": lambda each: each.origin.manufacturer,
    "Manufacturer's Model Name": lambda each: each.origin.model,
    "Device Serial Number": lambda each: each.origin.serial,
    "Station Name": lambda each: each.origin.station,
    "Software Versions": lambda each: each.origin.software,
    "SOP Class": lambda each: each.sop_class_uid,
    "Modality": lambda each: each.modality,
}


@rule
def one_scanner_for_a_series(facts: StudyFacts) -> Iterator[Observation]:
    """Series level attributes of the General Equipment module (PS3.3 C.7.5.1) are equal in a series."""
    for series_uid, members in facts.series.items():
        said = {name: group for name, of in _SAID.items() if (group := _others(members, of))}
        if said:
            others = list({each.sop_instance_uid: each for group in said.values() for each in group}.values())
            yield Observation(
                "several-devices",
                Severity.WARNING,
                f"{count(len(others))} of {short(series_uid)} {'names' if len(others) == 1 else 'name'} another "
                f"{', '.join(said)} than the rest: slices of another examination, or a header that was edited; compare "
                "with the scanner",
                {"series_uid": series_uid, "attributes": list(said)},
                uids(others),
            )


@rule
def one_version_of_the_writer(facts: StudyFacts) -> Iterator[Observation]:
    """Implementation Version Name under one Implementation Class UID (PS3.10 §7.1): an update, or a second tool."""
    for series_uid, members in facts.series.items():
        if len({each.implementation_class_uid for each in members}) > 1:
            continue  # several-writers says it already
        others = _others(members, lambda each: each.origin.writer_version)
        if others:
            yield Observation(
                "several-writer-versions",
                Severity.WARNING,
                f"{count(len(others))} of {short(series_uid)} written by another version of the software than the "
                "rest: "
                "look what happened to these files on their way",
                {"series_uid": series_uid, "versions": sorted({each.origin.writer_version for each in members})[:10]},
                uids(others),
            )


def _others(members: tuple[Instance, ...], of: Callable[[Instance], str]) -> list[Instance]:
    groups: dict[str, list[Instance]] = {}
    for each in members:
        groups.setdefault(of(each), []).append(each)
    if len(groups) < 2:
        return []
    usual = max(groups, key=lambda value: len(groups[value]))
    return [each for value, group in groups.items() if value != usual for each in group]
