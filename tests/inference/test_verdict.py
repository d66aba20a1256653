"""One verdict, never CLEAR without knowing, with the reason that decides in front."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.findings import Finding, FindingClass, Observation, Severity, Verdict
from inference.verdict import Evidence, Unanalysed, decide
from inference.volume import SourceSlice
from models.card import Thresholds

THRESHOLDS = Thresholds(review=0.5, suspect=0.9)
REGION = Finding(FindingClass.REMOVED_TUMOUR, 0.93, "1.2", (3, 7), 5, (0, 0, 9, 9), 100.0, 1)


def evidence(
    *scores: float,
    unanalysed: tuple[Unanalysed, ...] = (),
    severity: Severity | None = None,
    findings: tuple[Finding, ...] = (),
) -> Evidence:
    observations = () if severity is None else (Observation("rule", severity, "something is odd"),)
    return Evidence(scores, 20 * len(scores), findings, 0, unanalysed, observations)


@pytest.mark.parametrize(
    ("known", "verdict"),
    [
        (evidence(0.02), Verdict.CLEAR),
        (evidence(0.02, severity=Severity.INFO), Verdict.CLEAR),
        (evidence(0.02, unanalysed=(Unanalysed("3 planning slices", counts=False),)), Verdict.CLEAR),
        (evidence(0.02, severity=Severity.WARNING), Verdict.REVIEW),
        (evidence(0.02, severity=Severity.INCIDENT), Verdict.REVIEW),
        (evidence(severity=Severity.INCIDENT), Verdict.REVIEW),
        (evidence(0.6), Verdict.REVIEW),
        (evidence(0.6, unanalysed=(Unanalysed("a series"),)), Verdict.REVIEW),
        (evidence(0.02, 0.95, findings=(REGION,)), Verdict.SUSPECT),
        (evidence(0.95, unanalysed=(Unanalysed("a series"),)), Verdict.SUSPECT),
        (evidence(), Verdict.ABSTAIN),
        (evidence(severity=Severity.WARNING), Verdict.ABSTAIN),
        (evidence(0.02, unanalysed=(Unanalysed("a series"),)), Verdict.ABSTAIN),
    ],
)
def test_what_is_known_decides(known: Evidence, verdict: Verdict) -> None:
    assert decide(known, THRESHOLDS).verdict is verdict


gaps = st.lists(st.builds(Unanalysed, st.text(min_size=1), st.booleans()), max_size=4).map(tuple)


@given(
    scores=st.lists(st.floats(0, 1), max_size=4),
    unanalysed=gaps,
    severity=st.one_of(st.none(), st.sampled_from(Severity)),
)
def test_clear_is_only_said_when_every_image_was_analysed(
    scores: list[float], unanalysed: tuple[Unanalysed, ...], severity: Severity | None
) -> None:
    decision = decide(evidence(*scores, unanalysed=unanalysed, severity=severity), THRESHOLDS)
    assert 0 <= decision.score <= 1
    assert decision.reasons
    if decision.verdict is Verdict.CLEAR:
        assert scores
        assert max(scores) < THRESHOLDS.review
        assert not any(gap.counts for gap in unanalysed)
        assert severity in (None, Severity.INFO)


def test_the_first_reason_is_the_one_that_decides() -> None:
    suspect = decide(evidence(0.95, findings=(REGION,), severity=Severity.WARNING), THRESHOLDS)
    assert suspect.reasons[0] == "a region looks as if something was removed: slices 4 to 8, clearest on 6, score 0.93"
    review = decide(evidence(0.02, severity=Severity.INCIDENT), THRESHOLDS)
    assert review.reasons[0] == "something is odd"
    abstain = decide(evidence(0.02, unanalysed=(Unanalysed("modality CT"),)), THRESHOLDS)
    assert abstain.reasons[0] == "not analysed: modality CT"
    assert "20 slices that were analysed" in abstain.reasons[1]


def test_a_thousand_damaged_files_make_a_few_lines() -> None:
    many = tuple(Unanalysed(f"instance {number}") for number in range(1000))
    reasons = decide(evidence(unanalysed=many), THRESHOLDS).reasons
    assert len(reasons) < 10
    assert "994 more" in reasons[-1]


def test_a_region_is_placed_by_the_numbers_that_a_viewer_shows() -> None:
    def told(sources: list[SourceSlice]) -> str:
        known = replace(evidence(0.95, findings=(REGION,)), sources={REGION.label: sources})
        return decide(known, THRESHOLDS).reasons[0].partition(": ")[2]

    files = [SourceSlice(str(k), None, Path(str(k)), 40 - k) for k in range(20)]
    frames = [SourceSlice("1", k + 2, Path("1"), 1) for k in range(20)]
    assert told(files) == "images 33 to 37, clearest on 35, score 0.93"
    assert told(frames) == "frames 5 to 9, clearest on 7, score 0.93"
    assert told([replace(each, instance_number=1) for each in files]) == "slices 4 to 8, clearest on 6, score 0.93"
