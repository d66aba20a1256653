"""The reports beside the SR, presentation states and key object lists: each for the viewer that understands it."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import EnhancedSRStorage

from gateway.results import EvidenceKind, Predecessor, build_evidence
from gateway.results.profiles import AIR, OHIF, WEASIS, Profile
from inference.findings import StudyAnalysis, Verdict
from tests.gateway.results.phantoms import (
    Geometry,
    Phantom,
    abstention,
    analysis_of,
    make_secondary_capture,
    write_phantom,
)

DISCLAIMER = "Software integrity check, not a diagnosis."


def made(
    phantom: Phantom, analysis: StudyAnalysis, folder: Path, profile: Profile, **context: object
) -> dict[EvidenceKind, Sequence[Dataset]]:
    files = build_evidence(analysis, phantom.context(**context), profile, folder)
    kinds = dict.fromkeys(file.kind for file in files)
    return {kind: [dcmread(file.path) for file in files if file.kind is kind] for kind in kinds}


def items(node: Dataset) -> Iterator[Dataset]:
    for item in node.get("ContentSequence", []):
        yield item
        yield from items(item)


def name_of(item: Dataset) -> str:
    return str(item.ConceptNameCodeSequence[0].CodeMeaning) if "ConceptNameCodeSequence" in item else ""


def said(report: Dataset, name: str) -> list[str]:
    return [str(item.TextValue) for item in items(report) if item.ValueType == "TEXT" and name_of(item) == name]


def test_ohif_fails_at_no_measurement_of_the_planar_report(tmp_path: Path) -> None:
    """Its reader goes through measurement groups: each needs a tracking UID and, where it measures, an outline."""
    phantom = write_phantom(tmp_path / "in")
    (report,) = made(phantom, analysis_of(phantom), tmp_path / "out", OHIF)[EvidenceKind.PLANAR]
    assert report.ConceptNameCodeSequence[0].CodeValue == "126000"
    (measurements,) = [item for item in report.ContentSequence if name_of(item) == "Imaging Measurements"]
    assert len(measurements.ContentSequence) == 2
    for group in measurements.ContentSequence:
        kinds = [item.ValueType for item in group.ContentSequence]
        assert kinds.count("SCOORD") == 1
        first = next(item for item in group.ContentSequence if item.ValueType == "UIDREF")
        assert name_of(first) == "Tracking Unique Identifier"
        assert not any("ContentSequence" in item for item in group.ContentSequence if item.ValueType == "NUM")
    verdicts = [item for item in report.ContentSequence if name_of(item) == "Integrity verdict"]
    assert [item.ConceptCodeSequence[0].CodeValue for item in verdicts] == ["SW-204"]
    assert any(name_of(item) == "Image Library" for item in report.ContentSequence)


def test_segment_and_outline_of_a_finding_have_one_tracking_uid(tmp_path: Path) -> None:
    phantom = write_phantom(tmp_path / "in")
    objects = made(phantom, analysis_of(phantom), tmp_path / "out", OHIF)
    tracked = [item.UID for item in items(objects[EvidenceKind.PLANAR][0]) if item.ValueType == "UIDREF"]
    assert {segment.TrackingUID for segment in objects[EvidenceKind.SEG][0].SegmentSequence} <= set(tracked)


def test_no_report_has_outlines_and_segments(tmp_path: Path) -> None:
    """Slicer skips the segments of such a report, and OHIF takes no segments."""
    phantom = write_phantom(tmp_path / "in")
    both = replace(OHIF, name="both", objects=(EvidenceKind.SEG, EvidenceKind.PLANAR, EvidenceKind.SR))
    objects = made(phantom, analysis_of(phantom), tmp_path / "out", both)
    for kind in (EvidenceKind.PLANAR, EvidenceKind.SR):
        (report,) = objects[kind]
        has_outlines = any(item.ValueType == "SCOORD" for item in items(report))
        has_segments = any(
            "ReferencedSegmentNumber" in reference
            for item in items(report)
            if item.ValueType == "IMAGE"
            for reference in item.ReferencedSOPSequence
        )
        assert (has_outlines, has_segments) == (kind is EvidenceKind.PLANAR, kind is EvidenceKind.SR)


def test_without_an_outline_there_is_no_planar_report_and_words_say_the_verdict(tmp_path: Path) -> None:
    phantom = write_phantom(tmp_path / "in")
    objects = made(phantom, abstention(phantom, "no model covers modality US"), tmp_path / "out", OHIF)
    assert list(objects) == [EvidenceKind.TEXT]


def test_projections_get_an_outline_where_they_cannot_get_a_seg(tmp_path: Path) -> None:
    phantom = write_phantom(
        tmp_path / "in", Geometry("dx", depths=(0.0, 1.0, 2.0, 3.0, 4.0, 5.0)), change=make_secondary_capture
    )
    objects = made(phantom, analysis_of(phantom), tmp_path / "out", OHIF)
    assert list(objects) == [EvidenceKind.SC, EvidenceKind.TEXT, EvidenceKind.PLANAR]
    assert any("are not drawn" in note for note in said(objects[EvidenceKind.TEXT][0], "Note on the evidence objects"))


def test_an_outline_of_one_part_says_that_there_are_others(tmp_path: Path) -> None:
    phantom = write_phantom(tmp_path / "in")
    analysis = analysis_of(phantom, [(1, 2, 2, 3, 10, 8)])
    analysis.series[0].labels[1, 20:23, 14:17] = 1
    (report,) = made(phantom, analysis, tmp_path / "out", OHIF)[EvidenceKind.PLANAR]
    assert any("outline of the largest of 2 parts on this slice" in comment for comment in said(report, "Comment"))


@pytest.mark.parametrize("verdict", Verdict)
def test_the_report_of_words_says_what_the_measurement_report_says(verdict: Verdict, tmp_path: Path) -> None:
    phantom = write_phantom(tmp_path / "in")
    profile = replace(OHIF, name="words", objects=(EvidenceKind.SEG, EvidenceKind.TEXT, EvidenceKind.SR))
    objects = made(phantom, analysis_of(phantom, verdict=verdict), tmp_path / "out", profile)
    (words,), (report,) = objects[EvidenceKind.TEXT], objects[EvidenceKind.SR]
    assert words.SOPClassUID == EnhancedSRStorage
    assert name_of(words) == "Image integrity summary", "OHIF shows the text of reports that are no measurement reports"
    lines = [str(item.TextValue) for item in words.ContentSequence if item.ValueType == "TEXT"]
    assert lines[:2] == [said(report, "Conclusion")[0], DISCLAIMER]
    for name in ("Conclusion", "Reason for the verdict", "Study revision", "Provenance observation"):
        assert said(words, name) == said(report, name)
    assert said(words, "Finding") == said(report, "Comment")[1:]
    assert said(words, "Probability of manipulation") == ([] if verdict is Verdict.ABSTAIN else ["97 %"])
    assert said(words, "Algorithm Name") == [f"edit-unet 1.0, sha256 {'ab' * 32}"]
    assert {item.ValueType for item in words.ContentSequence} == {"TEXT", "CODE"}, "OHIF shows nothing else"
    assert words.ContinuityOfContent == "SEPARATE", "OHIF runs the sentences of a continuous report together"
    assert (words.VerificationFlag, words.PreliminaryFlag) == ("UNVERIFIED", "PRELIMINARY")


def test_each_kind_of_report_names_the_one_before_it_of_its_kind(tmp_path: Path) -> None:
    phantom = write_phantom(tmp_path / "in")
    before = {kind: Predecessor(f"1.2.3.{n}", f"1.2.4.{n}", 1) for n, kind in enumerate(EvidenceKind)}
    profile = replace(OHIF, name="all", objects=(EvidenceKind.TEXT, EvidenceKind.PLANAR, EvidenceKind.SR))
    objects = made(
        phantom,
        analysis_of(phantom),
        tmp_path / "out",
        profile,
        revision=2,
        predecessor=before[EvidenceKind.SR],
        predecessors=before,
    )
    for kind, (report,) in objects.items():
        document = report.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
        assert document.ReferencedSOPInstanceUID == before[kind].sop_instance_uid
        assert document.ReferencedSOPClassUID == report.SOPClassUID
        assert said(report, "Report on the revision before") == [before[kind].sop_instance_uid]


def test_key_objects_list_the_slices_first_and_then_what_was_made_of_them(tmp_path: Path) -> None:
    phantom = write_phantom(tmp_path / "in")
    objects = made(phantom, analysis_of(phantom), tmp_path / "out", WEASIS)
    (selection,) = objects[EvidenceKind.KOS]
    named = [
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for item in items(selection)
        if "ReferencedSOPSequence" in item
    ]
    ours = [
        each.SOPInstanceUID for kind in (EvidenceKind.SEG, EvidenceKind.SC, EvidenceKind.SR) for each in objects[kind]
    ]
    assert named == [phantom.instance_uids[2], phantom.instance_uids[4], *ours]
    (study,) = selection.CurrentRequestedProcedureEvidenceSequence
    listed = [
        item.ReferencedSOPInstanceUID
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    ]
    assert sorted(listed) == sorted(named)
    assert said(selection, "Key Object Description")[0].startswith("SUSPECT: key slices")


def test_nothing_is_selected_where_nothing_looks_edited(tmp_path: Path) -> None:
    phantom = write_phantom(tmp_path / "in")
    objects = made(phantom, analysis_of(phantom, [], verdict=Verdict.CLEAR), tmp_path / "out", AIR)
    assert list(objects) == [EvidenceKind.SR]


def test_a_presentation_state_shows_the_image_as_its_source_does(tmp_path: Path) -> None:
    def ct_like(dataset: Dataset) -> None:
        dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = "-1024", "1", "HU"
        dataset.WindowCenter, dataset.WindowWidth = [40, 400], [80, 2000]

    phantom = write_phantom(tmp_path / "in", change=ct_like)
    (state,) = made(phantom, analysis_of(phantom), tmp_path / "out", WEASIS)[EvidenceKind.GSPS]
    assert (state.RescaleIntercept, state.RescaleSlope, state.RescaleType) == (-1024, 1, "HU")
    assert [(item.WindowCenter, item.WindowWidth) for item in state.SoftcopyVOILUTSequence] == [(40, 80), (40, 80)]
    assert state.PresentationLUTShape == "IDENTITY"
    (area,) = state.DisplayedAreaSelectionSequence
    assert list(area.DisplayedAreaBottomRightHandCorner) == [24, 32]
    words = [text.UnformattedTextValue for each in state.GraphicAnnotationSequence for text in each.TextObjectSequence]
    assert words == [f"SUSPECT: Added 1, 96 %\r\n{DISCLAIMER}", f"SUSPECT: Removed 2, 95 %\r\n{DISCLAIMER}"]


def test_images_that_are_rescaled_differently_have_a_state_each(tmp_path: Path) -> None:
    def pet_like(dataset: Dataset) -> None:
        dataset.RescaleIntercept, dataset.RescaleSlope = "0", str(dataset.InstanceNumber)

    phantom = write_phantom(tmp_path / "in", change=pet_like)
    states = made(phantom, analysis_of(phantom), tmp_path / "out", WEASIS)[EvidenceKind.GSPS]
    assert [int(state.RescaleSlope) for state in states] == [3, 5]
    assert len({state.SeriesInstanceUID for state in states}) == 2
