"""What is said of whole images: coded once for each series, in words for everybody, and valid DICOM."""

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread

from gateway.results import EvidenceKind, build_evidence
from gateway.results.profiles import LEGACY, OHIF, ORTHANC, Profile
from inference.findings import SeriesSynthesis, StudyAnalysis, Verdict
from models.images.organs import KNOWN, Organ
from tests.gateway.results.phantoms import Phantom, abstention, analysis_of, write_phantom
from tests.gateway.results.test_report import groups_of, items, name_of, texts

CODES = {Verdict.SUSPECT: "SW-401", Verdict.REVIEW: "SW-402", Verdict.CLEAR: "SW-403", Verdict.ABSTAIN: "SW-404"}


def synthesis(phantom: Phantom, verdict: Verdict = Verdict.SUSPECT, organ: Organ = Organ.CHEST_XRAY) -> SeriesSynthesis:
    known = organ is not Organ.UNKNOWN
    return SeriesSynthesis(
        series_uid=phantom.series_uid,
        model="whole",
        organ=organ.value,
        organ_probability=0.98 if known else 0.0,
        probability=0.973 if known else None,
        verdict=verdict,
        images=phantom.instance_uids[:4],
        scores=(0.9, 0.8, None, 0.99),
        agreeing=3,
        total=len(phantom.instance_uids),
        reason="" if known else "a page of text",
    )


def judged(phantom: Phantom, verdict: Verdict = Verdict.SUSPECT, organ: Organ = Organ.CHEST_XRAY) -> StudyAnalysis:
    """A study of which only the whole images were judged."""
    reasons = ("the whole images look generated",)
    return replace(abstention(phantom, *reasons), verdict=verdict, synthesis=(synthesis(phantom, verdict, organ),))


def made(
    phantom: Phantom, analysis: StudyAnalysis, folder: Path, profile: Profile, kind: EvidenceKind
) -> list[Dataset]:
    files = build_evidence(analysis, phantom.context(), profile, folder)
    return [dcmread(file.path) for file in files if file.kind is kind]


def whole_images_group(report: Dataset) -> Dataset:
    """The group that tracks whole images."""
    (group,) = [each for each in groups_of(report) if any(text.startswith("Whole images") for text in _tracked(each))]
    return group


def _tracked(group: Dataset) -> list[str]:
    return texts(group, "Tracking Identifier")


def coded(group: Dataset, name: str) -> list[str]:
    return [
        str(item.ConceptCodeSequence[0].CodeValue)
        for item in items(group)
        if item.ValueType == "CODE" and name_of(item) == name
    ]


def numbers(group: Dataset) -> dict[str, float]:
    return {
        name_of(item): float(item.MeasuredValueSequence[0].NumericValue)
        for item in items(group)
        if item.ValueType == "NUM"
    }


@pytest.mark.parametrize("verdict", CODES)
def test_a_series_has_a_concept_of_its_own_for_each_answer(verdict: Verdict, tmp_path: Path) -> None:
    phantom = write_phantom(tmp_path / "in")
    organ = Organ.UNKNOWN if verdict is Verdict.ABSTAIN else Organ.CHEST_XRAY
    (report,) = made(phantom, judged(phantom, verdict, organ), tmp_path / "out", ORTHANC, EvidenceKind.SR)
    group = whole_images_group(report)
    assert coded(group, "Finding") == [CODES[verdict]]
    if verdict is Verdict.ABSTAIN:
        assert numbers(group) == {}
        assert "no organ that I know in its images: a page of text" in texts(group, "Comment")[0]
    else:
        assert numbers(group) == {
            "Probability that the images were generated": 97.3,
            "Probability of the organ": 98.0,
        }


def test_a_series_of_a_known_organ_may_have_no_answer_about_its_origin(tmp_path: Path) -> None:
    phantom = write_phantom(tmp_path / "in")
    doubted = replace(synthesis(phantom, Verdict.ABSTAIN), probability=None, reason="less detail than their matrix")
    analysis = replace(judged(phantom, Verdict.ABSTAIN), synthesis=(doubted,))
    (report,) = made(phantom, analysis, tmp_path / "out", ORTHANC, EvidenceKind.SR)
    group = whole_images_group(report)
    assert coded(group, "Finding") == ["SW-404"]
    assert numbers(group) == {"Probability of the organ": 98.0}
    assert "chest X-ray: less detail than their matrix" in texts(group, "Comment")[0]


@pytest.mark.parametrize("organ", KNOWN)
def test_the_organ_is_a_coded_site_of_the_finding(organ: Organ, tmp_path: Path) -> None:
    phantom = write_phantom(tmp_path / "in")
    (report,) = made(phantom, judged(phantom, organ=organ), tmp_path / "out", ORTHANC, EvidenceKind.SR)
    (site,) = [item for item in items(whole_images_group(report)) if name_of(item) == "Finding Site"]
    words = str(site.ConceptCodeSequence[0].CodeMeaning).lower()
    assert words in organ.value
    assert site.ConceptCodeSequence[0].CodingSchemeDesignator == "SCT"


def test_the_conclusion_names_the_series_that_look_generated(tmp_path: Path) -> None:
    phantom = write_phantom(tmp_path / "in")
    (report,) = made(phantom, judged(phantom), tmp_path / "out", ORTHANC, EvidenceKind.SR)
    assert texts(report, "Conclusion") == [
        "SUSPECT: the whole images of series 3 look generated, not made by a scanner."
    ]


def test_edited_regions_and_generated_images_are_both_concluded(tmp_path: Path) -> None:
    phantom = write_phantom(tmp_path / "in")
    analysis = replace(analysis_of(phantom), synthesis=(synthesis(phantom),))
    (report,) = made(phantom, analysis, tmp_path / "out", ORTHANC, EvidenceKind.SR)
    (said,) = texts(report, "Conclusion")
    assert "series 3 look generated" in said
    assert "2 regions look edited" in said


def test_a_quiet_answer_stands_in_the_report_and_claims_nothing(tmp_path: Path) -> None:
    phantom = write_phantom(tmp_path / "in")
    analysis = replace(abstention(phantom, "no model covers it"), synthesis=(synthesis(phantom, Verdict.CLEAR),))
    (report,) = made(phantom, analysis, tmp_path / "out", ORTHANC, EvidenceKind.SR)
    assert texts(report, "Conclusion")[0].startswith("ABSTAIN: no statement is made; no model covers it")
    assert coded(whole_images_group(report), "Finding") == ["SW-403"]


def test_the_report_of_words_says_it_too(tmp_path: Path) -> None:
    phantom = write_phantom(tmp_path / "in")
    (report,) = made(phantom, judged(phantom), tmp_path / "out", OHIF, EvidenceKind.TEXT)
    assert texts(report, "Whole images of a series") == [
        "Series 3, chest X-ray: the whole images look generated, not made by a scanner, 97 % "
        f"(4 of {len(phantom.instance_uids)} images looked at)"
    ]


def test_a_viewer_of_pictures_alone_is_told_in_words(tmp_path: Path) -> None:
    phantom = write_phantom(tmp_path / "in")
    pictures = replace(LEGACY, name="pictures", summary=False)
    assert len(made(phantom, judged(phantom), tmp_path / "out", pictures, EvidenceKind.SC)) == 1
    quiet = judged(phantom, Verdict.CLEAR)
    assert made(phantom, quiet, tmp_path / "quiet", pictures, EvidenceKind.SC) == []


def test_many_series_cost_the_report_a_line_each_and_no_more_than_it_can_hold(tmp_path: Path) -> None:
    phantom = write_phantom(tmp_path / "in")
    many = tuple(replace(synthesis(phantom, Verdict.CLEAR), series_uid=f"1.2.{k}") for k in range(130))
    (report,) = made(phantom, replace(judged(phantom), synthesis=many), tmp_path / "out", ORTHANC, EvidenceKind.SR)
    assert len(groups_of(report)) == 101
    assert texts(report, "Note on the evidence objects") == ["30 series with lower scores are not listed."]


@pytest.mark.peers
def test_the_report_is_valid_and_dcmtk_reads_the_concept(tmp_path: Path, program: Callable[[str, str], str]) -> None:
    phantom = write_phantom(tmp_path / "in")
    analysis = replace(analysis_of(phantom), synthesis=(synthesis(phantom),))
    for profile, kind in ((ORTHANC, EvidenceKind.SR), (OHIF, EvidenceKind.TEXT)):
        files = build_evidence(analysis, phantom.context(), profile, tmp_path / profile.name)
        (file,) = [each.path for each in files if each.kind is kind]
        checked = _output(program("/usr/bin/dciodvfy", "dicom3tools"), "-new", str(file))
        assert not [line for line in checked.splitlines() if line.startswith("Error")]
        dumped = _output(program("/usr/bin/dsrdump", "dcmtk"), "+Pc", str(file))
        assert ("(SW-401,99SCANWARDEN" if kind is EvidenceKind.SR else "(SW-310,99SCANWARDEN") in dumped


def _output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr
