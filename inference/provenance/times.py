"""Dates and times that cannot all be true (PS3.3 C.7.2.1, C.7.3.1, C.7.6.1): a clock only runs one way.

Anonymisers shift or blank dates, and scanners write Series Time before or after the first acquisition: only what no
honest machine does is a warning.
"""

import datetime as dt
from collections.abc import Iterator
from itertools import combinations

from inference.findings import Observation, Severity
from inference.instances import Instance
from inference.provenance.rules import StudyFacts, rule
from inference.provenance.wording import count, short, uids

_SLACK = dt.timedelta(minutes=5)  # clocks of console and reconstruction
_DAY = dt.timedelta(days=1)
_FAR = dt.timedelta(days=30)
_SERIES = dt.timedelta(hours=6)  # no series takes longer


@rule
def images_are_made_after_they_are_measured(facts: StudyFacts) -> Iterator[Observation]:
    """Content Time is when the image was made from the data of Acquisition Time."""
    wrong = [
        each
        for each in facts.instances
        if (made := each.origin.times.get("Content") or each.origin.times.get("InstanceCreation"))
        and (measured := _acquired(each))
        and made < measured - _SLACK
    ]
    if wrong:
        yield _says(
            "content-before-acquisition",
            Severity.WARNING,
            wrong,
            "made before it was measured",
            "made before they were measured",
        )


@rule
def studies_start_before_they_are_measured(facts: StudyFacts) -> Iterator[Observation]:
    """Study Date is when the study started; a day is left for time zones and studies that were registered late."""
    wrong = [
        each
        for each in facts.instances
        if "ORIGINAL" in each.image_type[:1]
        and (start := each.origin.dates.get("Study"))
        and (measured := each.origin.dates.get("Acquisition"))
        and measured < start - _DAY
    ]
    if wrong:
        yield _says(
            "acquisition-before-study",
            Severity.WARNING,
            wrong,
            "measured before its study began",
            "measured before their study began",
        )


@rule
def acquisition_is_told_once(facts: StudyFacts) -> Iterator[Observation]:
    """Acquisition DateTime repeats Acquisition Date and Time; an editor that changes one forgets the other."""
    wrong = [
        each
        for each in facts.instances
        if (one := each.origin.times.get("AcquisitionDateTime"))
        and (other := each.origin.times.get("Acquisition"))
        and abs(one - other) > _DAY
    ]
    if wrong:
        yield _says(
            "acquisition-told-twice",
            Severity.WARNING,
            wrong,
            "with two times of acquisition",
            "with two times of acquisition",
        )


@rule
def a_series_is_measured_in_one_go(facts: StudyFacts) -> Iterator[Observation]:
    """A slice of another day in a series was put there."""
    for series_uid, members in facts.series.items():
        timed = sorted(
            ((moment, each) for each in members if (moment := _acquired(each))),
            key=lambda pair: (pair[0], pair[1].sop_instance_uid),
        )
        if len(timed) < 3:
            continue
        middle = timed[len(timed) // 2][0]
        wrong = [each for moment, each in timed if abs(moment - middle) > _SERIES]
        if wrong and all("ORIGINAL" in each.image_type[:1] for each in members):
            yield Observation(
                "series-over-days",
                Severity.WARNING,
                f"{count(len(wrong))} of {short(series_uid)} measured hours or days apart from the rest: look "
                "whether they "
                "belong to this examination",
                {
                    "series_uid": series_uid,
                    "hours": round(max(abs(m - middle) for m, _ in timed).total_seconds() / 3600, 1),
                },
                uids(wrong),
            )


@rule
def dates_of_a_study_are_close(facts: StudyFacts) -> Iterator[Observation]:
    """Reprocessing months later is rare but honest, and anonymisers shift some dates and forget others."""
    apart: list[tuple[int, str, str, Instance]] = []
    for each in facts.instances:
        days = [
            (abs((one[1] - other[1]).days), one[0], other[0])
            for one, other in combinations(sorted(each.origin.dates.items()), 2)
        ]
        if days and (worst := max(days))[0] > _FAR.days:
            apart.append((*worst, each))
    if apart:
        most, one, other, _ = max(apart, key=lambda entry: entry[:3])
        yield Observation(
            "dates-far-apart",
            Severity.INFO,
            f"in {count(len(apart))} {one} Date and {other} Date lie {most:,} days apart: the image was made again "
            "later, "
            "or its dates were changed (anonymisers do)",
            {"days": most, "dates": [one, other]},
            uids([each for *_, each in apart]),
        )


def _acquired(instance: Instance) -> dt.datetime | None:
    return instance.origin.times.get("Acquisition") or instance.origin.times.get("AcquisitionDateTime")


def _says(name: str, severity: Severity, wrong: list[Instance], one: str, many: str) -> Observation:
    return Observation(
        name,
        severity,
        f"by its dates and times {count(len(wrong))} {'was' if len(wrong) == 1 else 'were'} "
        f"{one if len(wrong) == 1 else many}: "
        "the clock of a machine is wrong, or the header was edited; compare with the scanner's log",
        {},
        uids(wrong),
    )
