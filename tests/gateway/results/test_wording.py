"""Sentences for tired people: the verdict first, the place as their viewer counts, never more than was found."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.results import wording
from gateway.results.sources import read_sources
from inference.findings import FindingClass, Observation, Severity, StudyAnalysis, Verdict
from tests.gateway.results.phantoms import Geometry, analysis_of, write_phantom


@given(st.text())
def test_a_line_is_one_bounded_line(text: str) -> None:
    line = wording.plain(text)
    assert len(line) <= 1024
    assert line == line.strip()
    assert not any(ord(letter) < 32 for letter in line)
    line.encode()


@pytest.mark.parametrize(("score", "words"), [(0.973, "97 %"), (0.9999, "99.9 %"), (1.0, "99.9 %"), (0.0, "0.1 %")])
def test_no_probability_is_certain(score: float, words: str) -> None:
    assert wording.percent(score) == words


def test_one_edit_is_said_in_one_breath(tmp_path: Path) -> None:
    phantom = write_phantom(tmp_path)
    analysis = analysis_of(phantom, [(1, 2, 2, 4, 8, 8)])
    place = wording.place(analysis.findings[0], analysis.series[0], read_sources(phantom.context()))
    assert wording.conclusion(analysis, [(analysis.findings[0], place)]) == (
        "SUSPECT: 1 region looks edited (added) in series 3, images 2-4."
    )


def test_many_edits_are_named_where_they_are_surest(tmp_path: Path) -> None:
    phantom = write_phantom(tmp_path)
    analysis = analysis_of(phantom, [(k, 2, 2, k + 1, 8, 8) for k in range(6)])
    edits = [(each, wording.Place("series 3", f"image {each.label}")) for each in reversed(analysis.findings)]
    assert wording.conclusion(analysis, edits) == (
        "SUSPECT: 5 regions look edited (2 added, 2 removed, 1 resynthesised) in series 3, image 1 and image 2 and "
        "image 3 and image 5 and 1 more places."
    )


def test_a_review_says_may(tmp_path: Path) -> None:
    phantom = write_phantom(tmp_path)
    analysis = analysis_of(phantom, [(1, 2, 2, 2, 8, 8)], verdict=Verdict.REVIEW)
    assert wording.conclusion(analysis, [(analysis.findings[0], wording.Place("series 3", "image 2"))]) == (
        "REVIEW: 1 region may be edited (added) in series 3, image 2."
    )


def test_a_tumour_without_edit_is_not_called_edited(tmp_path: Path) -> None:
    phantom = write_phantom(tmp_path)
    analysis = analysis_of(phantom, [(1, 2, 2, 2, 8, 8)], verdict=Verdict.CLEAR)
    real = replace(analysis.findings[0], finding_class=FindingClass.REAL_TUMOUR)
    sentence = wording.finding_sentence(real, analysis.series[0], read_sources(phantom.context()))
    assert "no sign of editing" in sentence
    assert wording.conclusion(replace(analysis, findings=(real,)), [(real, wording.Place("series 3", "image 2"))]) == (
        "CLEAR: no sign of manipulation found in 1 analysed series."
    )


def test_frames_of_an_enhanced_image_are_called_frames(tmp_path: Path) -> None:
    phantom = write_phantom(tmp_path, Geometry("enhanced", is_enhanced=True))
    analysis = analysis_of(phantom, [(1, 2, 2, 4, 8, 8)])
    sources = read_sources(phantom.context())
    assert str(wording.place(analysis.findings[0], analysis.series[0], sources)) == "series 3, frames 2-4"


def test_a_finding_whose_mask_is_lost_is_placed_by_its_slices(tmp_path: Path) -> None:
    phantom = write_phantom(tmp_path)
    finding = analysis_of(phantom, [(1, 2, 2, 4, 8, 8)]).findings[0]
    assert str(wording.place(finding, None, read_sources(phantom.context()))) == "series 3, slices 2-4"


@pytest.mark.parametrize("verdict", [Verdict.SUSPECT, Verdict.REVIEW, Verdict.VERIFIED])
def test_a_verdict_without_region_rests_on_its_reasons(verdict: Verdict) -> None:
    analysis = StudyAnalysis("1.2", verdict, 0.9, ("same UID, other pixels", "a", "b", "c"))
    assert wording.conclusion(analysis, []) == f"{verdict.value}: same UID, other pixels; a (2 more below)."


def test_the_gravest_observations_come_first_and_none_is_lost_without_a_word() -> None:
    many = [Observation(f"r{k}", Severity.INFO, "t") for k in range(60)]
    lines = wording.observation_sentences([*many, Observation("bad", Severity.INCIDENT, "t")], 50)
    assert lines[0] == "INCIDENT: t [bad]"
    assert len(lines) == 51
    assert lines[-1] == "11 more observations are in the gateway's ledger."
