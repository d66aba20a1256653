"""One study is of one patient. Values are compared as digests; none stands in a text or in evidence."""

from collections.abc import Callable, Iterator, Mapping

from inference.findings import Observation, Severity
from inference.instances import Instance
from inference.provenance.rules import StudyFacts, rule
from inference.provenance.wording import count, uids

_AGE = 1.6  # years; ages are rounded down, and dates are often shortened to a year


@rule
def one_patient_in_a_study(facts: StudyFacts) -> Iterator[Observation]:
    """A Study Instance UID belongs to one patient (PS3.3 A.1.2): another's slices in it are a swap or a mix-up."""
    found = _differing(facts.instances, lambda instance: instance.origin.patient)
    strong = {keyword for keyword in found if keyword in ("PatientID", "PatientBirthDate", "PatientSex")}
    if not found:
        return
    others = _members(found)
    yield Observation(
        "patient-differs",
        Severity.INCIDENT if strong else Severity.WARNING,
        f"{count(len(others))} of this study {'names' if len(others) == 1 else 'name'} another patient than the rest "
        f"({', '.join(sorted(found))}): do not read it before the patient is confirmed at the scanner or in the RIS",
        {"attributes": sorted(found)},
        uids(others),
    )


@rule
def one_study_in_a_study(facts: StudyFacts) -> Iterator[Observation]:
    """Study Date, Time, ID and Accession Number belong to the study (PS3.3 C.7.2.1): equal wherever they stand."""
    found = _differing([each for each in facts.instances if each.is_image], lambda instance: instance.origin.study)
    if found:
        others = _members(found)
        yield Observation(
            "study-differs",
            # Modalities that share a study often set Study Time and Study ID each for itself.
            Severity.WARNING if found.keys() & {"StudyDate", "AccessionNumber"} else Severity.INFO,
            f"{count(len(others))} of this study {'has' if len(others) == 1 else 'have'} another "
            f"{', '.join(sorted(found))} than the rest: they may come from another study; compare with the RIS",
            {"attributes": sorted(found)},
            uids(others),
        )


@rule
def age_fits_the_birth_date(facts: StudyFacts) -> Iterator[Observation]:
    """Patient's Age is what Birth Date makes it on Study Date."""
    wrong = [
        each
        for each in facts.instances
        if each.origin.age_differs is not None and not -0.6 <= each.origin.age_differs <= _AGE
    ]
    if wrong:
        yield Observation(
            "age-differs",
            Severity.INFO,
            f"in {count(len(wrong))} the patient's age does not fit birth date and study date: one of the three was "
            "changed or typed by hand; confirm the patient",
            {},
            uids(wrong),
        )


def _differing(
    instances: "tuple[Instance, ...] | list[Instance]", of: Callable[[Instance], Mapping[str, str]]
) -> dict[str, list[Instance]]:
    """For each attribute with several values: the instances that do not have the usual one. Absent is no value."""
    values: dict[str, dict[str, list[Instance]]] = {}
    for instance in instances:
        for keyword, digest in of(instance).items():
            values.setdefault(keyword, {}).setdefault(digest, []).append(instance)
    found = {}
    for keyword, groups in values.items():
        if len(groups) > 1:
            usual = max(groups, key=lambda digest: len(groups[digest]))
            found[keyword] = [each for digest, group in groups.items() if digest != usual for each in group]
    return found


def _members(found: dict[str, list[Instance]]) -> list[Instance]:
    return list({each.sop_instance_uid: each for group in found.values() for each in group}.values())
