"""What headers and geometry alone give away, without any history. Texts name UIDs and numbers, never a patient."""

from collections.abc import Iterator

from pydicom.uid import UID

from inference.findings import Observation, Severity
from inference.instances import Instance
from inference.provenance.rules import StudyFacts, rule
from inference.volume import ProblemKind

_ALWAYS_LOSSY = ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51")
_PROBLEMS = {
    ProblemKind.SAME_PLACE: ("two-at-one-place", Severity.WARNING),
    ProblemKind.MISSING_SLICES: ("missing-slices", Severity.WARNING),
    ProblemKind.UNEQUAL_SPACING: ("unequal-spacing", Severity.INFO),
    ProblemKind.NO_GEOMETRY: ("no-geometry", Severity.INFO),
}


@rule
def stacks_are_whole(facts: StudyFacts) -> Iterator[Observation]:
    """A slice put beside another, or taken out, shows in the distances (PS3.3 C.7.6.2)."""
    for stack in facts.stacks:
        for problem in stack.problems:
            if problem.kind in _PROBLEMS:
                name, severity = _PROBLEMS[problem.kind]
                evidence = {"series_uid": stack.series_uid, "slices": len(stack.members)}
                yield Observation(name, severity, problem.text, evidence, problem.sop_instance_uids)


@rule
def file_meta_names_the_same_instance(facts: StudyFacts) -> Iterator[Observation]:
    """Media Storage SOP Instance UID repeats SOP Instance UID (PS3.10 §7.1); an edited copy often keeps the old one."""
    differing = [
        instance
        for instance in facts.instances
        if instance.media_sop_instance_uid and instance.media_sop_instance_uid != instance.sop_instance_uid
    ]
    if differing:
        yield Observation(
            "file-meta-differs",
            Severity.WARNING,
            f"the file header of {_count(len(differing))} names another instance than its data set",
            {"media_storage_sop_instance_uids": [instance.media_sop_instance_uid for instance in differing[:20]]},
            _uids(differing),
        )


@rule
def lossy_syntax_is_declared(facts: StudyFacts) -> Iterator[Observation]:
    """An image in a lossy transfer syntax says so in Lossy Image Compression (PS3.3 C.7.6.1.1.5)."""
    silent = [
        instance for instance in facts.instances if instance.transfer_syntax in _ALWAYS_LOSSY and instance.lossy != "01"
    ]
    if silent:
        yield Observation(
            "lossy-not-declared",
            Severity.WARNING,
            f"{_count(len(silent))} in a lossy transfer syntax not declared as such (Lossy Image Compression)",
            {"transfer_syntax": UID(silent[0].transfer_syntax).name},
            _uids(silent),
        )


@rule
def lossy_history(facts: StudyFacts) -> Iterator[Observation]:
    """Pixels that were compressed lossily once stay so under any later transfer syntax."""
    lossy = [instance for instance in facts.instances if instance.lossy == "01"]
    if lossy:
        yield Observation(
            "lossy-history", Severity.INFO, f"{_count(len(lossy))} compressed lossily in the past", {}, _uids(lossy)
        )


@rule
def one_writer_for_a_series(facts: StudyFacts) -> Iterator[Observation]:
    """Files of one series come from one implementation (PS3.10 §7.1); one that was rewritten shows its writer."""
    series: dict[str, dict[str, list[Instance]]] = {}
    for instance in facts.instances:
        if instance.implementation_class_uid:
            writers = series.setdefault(instance.series_uid, {})
            writers.setdefault(instance.implementation_class_uid, []).append(instance)
    for series_uid, writers in series.items():
        if len(writers) < 2:
            continue
        usual = max(writers, key=lambda writer: len(writers[writer]))
        others = [instance for writer, group in writers.items() if writer != usual for instance in group]
        yield Observation(
            "several-writers",
            Severity.WARNING,
            f"{_count(len(others))} of a series {_verb(others, 'was', 'were')} written by other software than the rest",
            {"series_uid": series_uid, "implementations": {writer: len(group) for writer, group in writers.items()}},
            _uids(others),
        )


@rule
def derived_images(facts: StudyFacts) -> Iterator[Observation]:
    """Derived or secondary images are not what the scanner measured first (PS3.3 C.7.6.1.1.2)."""
    derived = [
        instance
        for instance in facts.instances
        if instance.is_image and ("DERIVED" in instance.image_type[:1] or "SECONDARY" in instance.image_type[1:2])
    ]
    if derived:
        yield Observation(
            "derived-images",
            Severity.INFO,
            f"{_count(len(derived))} {_verb(derived, 'is', 'are')} derived or secondary by Image Type",
            {},
            _uids(derived),
        )


def _count(number: int) -> str:
    return "1 instance" if number == 1 else f"{number:,} instances"


def _verb(instances: list[Instance], one: str, many: str) -> str:
    return one if len(instances) == 1 else many


def _uids(instances: list[Instance]) -> tuple[str, ...]:
    return tuple(instance.sop_instance_uid for instance in instances)
