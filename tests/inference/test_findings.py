"""What travels from the analysing step to the next ones arrives whole."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inference.errors import AnalysisUnreadable
from inference.findings import (
    Finding,
    FindingClass,
    ModelUsed,
    Observation,
    SeriesAnalysis,
    Severity,
    StudyAnalysis,
    Verdict,
    classes_of,
)

shares = st.floats(0, 1)
words = st.text(max_size=30)
uids = st.from_regex(r"1(\.[1-9][0-9]{0,5}){1,6}", fullmatch=True)


@st.composite
def analyses(draw: st.DrawFn) -> StudyAnalysis:
    shapes = draw(st.lists(st.tuples(st.integers(1, 4), st.integers(2, 9), st.integers(2, 9)), max_size=3))
    findings: list[Finding] = []
    series = []
    for slices, rows, columns in shapes:
        series_uid = draw(uids)
        labels = np.zeros((slices, rows, columns), np.uint16)
        if draw(st.booleans()):
            label = len(findings) + 1
            key = draw(st.integers(0, slices - 1))
            labels[key, :1, :2] = label
            findings.append(
                Finding(
                    finding_class=draw(st.sampled_from(FindingClass)),
                    score=draw(shares),
                    series_uid=series_uid,
                    slices=(key, key),
                    key_slice=key,
                    box=(0, 0, 1, 2),
                    volume_mm3=draw(st.floats(0, 1e6)),
                    label=label,
                )
            )
        series.append((series_uid, labels))
    return StudyAnalysis(
        study_uid=draw(uids),
        verdict=draw(st.sampled_from(Verdict)),
        score=draw(shares),
        reasons=tuple(draw(st.lists(words, max_size=3))),
        findings=tuple(findings),
        series=tuple(
            SeriesAnalysis(
                series_uid=series_uid,
                sop_instance_uids=tuple(draw(uids) for _ in labels),
                frame_numbers=tuple(draw(st.one_of(st.none(), st.integers(1, 99))) for _ in labels),
                source_files=tuple(Path(f"/images/{index}.dcm") for index in range(len(labels))),
                slice_scores=tuple(draw(shares) for _ in labels),
                labels=labels,
                classes=classes_of(labels, findings),
            )
            for series_uid, labels in series
        ),
        observations=(
            Observation("rule", draw(st.sampled_from(Severity)), draw(words), {"count": draw(st.integers())}, ("1.2",)),
        ),
        models=(ModelUsed("edit-unet", "1", "0" * 64),),
        seconds=draw(st.floats(0, 900)),
    )


def assert_same(one: StudyAnalysis, other: StudyAnalysis) -> None:
    assert replace(one, series=()).__dict__ == replace(other, series=()).__dict__
    assert len(one.series) == len(other.series)
    for left, right in zip(one.series, other.series, strict=True):
        for name in ("series_uid", "sop_instance_uids", "frame_numbers", "source_files", "slice_scores"):
            assert getattr(left, name) == getattr(right, name)
        for name in ("labels", "classes"):
            first, second = getattr(left, name), getattr(right, name)
            assert first.dtype == second.dtype
            assert np.array_equal(first, second)


@given(analysis=analyses())
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_saved_analysis_comes_back_whole(analysis: StudyAnalysis, tmp_path: Path) -> None:
    analysis.save(tmp_path)
    assert_same(StudyAnalysis.load(tmp_path), analysis)


@given(analysis=analyses())
@settings(deadline=None, max_examples=20)
def test_what_scripts_read_is_plain_json_with_the_promised_keys(analysis: StudyAnalysis) -> None:
    record = json.loads(json.dumps(analysis.to_json(), allow_nan=False))
    assert set(record) == {
        "study_uid", "verdict", "score", "reasons", "findings", "slices", "observations", "models", "seconds",
        "synthesis",
    }  # fmt: skip
    for finding in record["findings"]:
        assert set(finding) == {"class", "score", "series_uid", "slices", "key_slice", "box", "volume_mm3"}
    for entry in record["slices"]:
        assert set(entry) == {"sop_instance_uid", "index", "score"}
    for model in record["models"]:
        assert set(model) == {"name", "version", "digest"}


@given(analysis=analyses())
@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_class_array_follows_the_order_of_the_slices(analysis: StudyAnalysis, tmp_path: Path) -> None:
    analysis.save(tmp_path)
    with np.load(tmp_path / "masks.npz", allow_pickle=False) as masks:
        classes = masks["class"]
    assert classes.dtype == np.uint8
    assert len(classes) == len(analysis.to_json()["slices"])
    for finding in analysis.findings:
        series = analysis.series_of(finding)
        start = sum(len(before.labels) for before in analysis.series[: analysis.series.index(series)])
        row, column = finding.box[:2]
        assert classes[start + finding.key_slice, row, column] == finding.finding_class.code


def test_a_folder_without_an_analysis_is_said_to_have_none(tmp_path: Path) -> None:
    with pytest.raises(AnalysisUnreadable, match="analyse the revision again"):
        StudyAnalysis.load(tmp_path)


def test_masks_of_another_number_of_slices_are_refused() -> None:
    with pytest.raises(ValueError, match="same slices"):
        SeriesAnalysis("1.2", ("1.2.3",), (None,), (Path("x"),), (0.5,), np.zeros((2, 4, 4), np.uint16),
                       np.zeros((2, 4, 4), np.uint8))  # fmt: skip
