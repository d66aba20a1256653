"""How many there should be: counts that headers state, numbers of series, and the planning scan.

A study is never complete (late images open the next revision), so what is missing is a fact and not yet a fault.
"""

from collections import Counter
from collections.abc import Iterator

from inference.findings import Observation, Severity
from inference.instances import Instance
from inference.provenance.rules import StudyFacts, rule
from inference.provenance.wording import count, short, uids

_PLANNED = ("CT", "MR")


@rule
def stated_counts_hold(facts: StudyFacts) -> Iterator[Observation]:
    """Number of Series Related Instances and its kin (PS3.3 C.7.2.1, PS3.4 C.3): fewer is missing, more is put in."""
    images = [each for each in facts.instances if each.is_image]
    for series_uid, members in facts.series.items():
        yield from _compared("series", series_uid, "NumberOfSeriesRelatedInstances", members, len(members))
    study = images[0].study_uid if images else ""
    yield from _compared("study", study, "NumberOfStudyRelatedInstances", facts.instances, len(facts.instances))
    series = len({each.series_uid for each in facts.instances})
    yield from _compared("study", study, "NumberOfStudyRelatedSeries", facts.instances, series, "series")


@rule
def acquisitions_are_whole(facts: StudyFacts) -> Iterator[Observation]:
    """Images in Acquisition (PS3.3 C.7.6.1) counts what one acquisition gave."""
    for series_uid, members in facts.series.items():
        groups: dict[str, list[Instance]] = {}
        for each in members:
            if "ImagesInAcquisition" in each.origin.stated and each.frames:
                groups.setdefault(each.frames[0].acquisition[-1], []).append(each)
        for group in groups.values():
            stated = group[0].origin.stated["ImagesInAcquisition"]
            if len({each.origin.stated["ImagesInAcquisition"] for each in group}) == 1 and len(group) > stated:
                yield Observation(
                    "more-than-acquired",
                    Severity.WARNING,
                    f"{short(series_uid)} holds {count(len(group))} of an acquisition that gave {stated:,}: images "
                    "were put "
                    "in; compare with the scanner",
                    {"series_uid": series_uid, "stated": stated, "found": len(group)},
                    uids(group)[:20],
                )


@rule
def series_are_numbered_once(facts: StudyFacts) -> Iterator[Observation]:
    """Two series of one scanner with one number: a copy, a resent reconstruction, or a series that was put in."""
    numbers: dict[tuple[str, str, int], set[str]] = {}
    for each in facts.instances:
        if each.is_image and each.origin.series_number is not None and "ORIGINAL" in each.image_type[:1]:
            key = (each.origin.device, each.modality, each.origin.series_number)
            numbers.setdefault(key, set()).add(each.series_uid)
    doubled = {number: sorted(series) for (_, _, number), series in numbers.items() if len(series) > 1}
    if doubled:
        yield Observation(
            "series-number-twice",
            Severity.INFO,
            f"{len(doubled)} Series Number{'s stand' if len(doubled) > 1 else ' stands'} on several series: look "
            "whether one "
            "is a copy of the other",
            {"series": {str(number): series for number, series in doubled.items()}},
        )


@rule
def series_have_a_planning_scan(facts: StudyFacts) -> Iterator[Observation]:
    """A scanner plans a volume on a localiser; without it the study is a part of one, or was made elsewhere."""
    original = [each for each in facts.instances if each.is_image and "ORIGINAL" in each.image_type[:1]]
    kinds = Counter(each.modality for each in original)
    if not any(kinds[modality] >= 16 for modality in _PLANNED):
        return
    if not any("LOCALIZER" in each.image_type or "SCOUT" in each.words for each in facts.instances):
        yield Observation(
            "no-localiser",
            Severity.INFO,
            "no planning scan (localiser, scout) came with this study: it is a part of an examination, or was exported",
            {"series": len({each.series_uid for each in original})},
        )


def _compared(
    level: str, uid: str, keyword: str, members: tuple[Instance, ...], found: int, what: str = "instances"
) -> Iterator[Observation]:
    stated = {each.origin.stated[keyword] for each in members if keyword in each.origin.stated}
    if len(stated) != 1 or (expected := stated.pop()) == found:
        return
    more = found > expected
    yield Observation(
        "more-than-stated" if more else "fewer-than-stated",
        Severity.INFO,
        f"a {level} of {found:,} {what} whose header says {expected:,}: "
        + (
            "some were added later"
            if more
            else "some did not arrive, or were taken out; ask the sender to send it again"
        ),
        {"level": level, "uid": uid, "attribute": keyword, "stated": expected, "found": found},
    )
