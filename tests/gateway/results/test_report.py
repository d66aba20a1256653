"""The report reads in five seconds, says the same in codes, and never hides why it says nothing."""

import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import highdicom
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import Comprehensive3DSRStorage

from gateway.results import EvidenceFile, Predecessor, RevisionContext, build_evidence
from gateway.results.profiles import ORTHANC
from inference.findings import StudyAnalysis, Verdict
from tests.gateway.results.phantoms import (
    Geometry,
    Phantom,
    abstention,
    analysis_of,
    make_secondary_capture,
    write_pdf_study,
    write_phantom,
)

DISCLAIMER = "Software integrity check, not a diagnosis."


def report_of(phantom: Phantom, analysis: StudyAnalysis, folder: Path, **context: object) -> Dataset:
    return dcmread(build_evidence(analysis, phantom.context(**context), ORTHANC, folder)[-1].path)


def items(node: Dataset) -> Iterator[Dataset]:
    """Every content item, depth first."""
    for item in node.get("ContentSequence", []):
        yield item
        yield from items(item)


def name_of(item: Dataset) -> str:
    return str(item.ConceptNameCodeSequence[0].CodeMeaning) if "ConceptNameCodeSequence" in item else ""


def texts(node: Dataset, name: str) -> list[str]:
    return [str(item.TextValue) for item in items(node) if item.ValueType == "TEXT" and name_of(item) == name]


def groups_of(report: Dataset) -> list[Dataset]:
    (container,) = [item for item in report.ContentSequence if name_of(item) == "Imaging Measurements"]
    return list(container.ContentSequence)


def verdict_of(report: Dataset) -> str:
    (item,) = [item for item in items(report) if name_of(item) == "Integrity verdict"]
    return str(item.ConceptCodeSequence[0].CodeValue)


def test_the_first_words_are_the_verdict_the_place_and_the_disclaimer(tmp_path: Path) -> None:
    phantom = write_phantom(tmp_path / "in")
    report = report_of(phantom, analysis_of(phantom), tmp_path / "out")
    first, second = [
        str(item.TextValue)
        for item in report.ContentSequence
        if (item.ValueType, item.RelationshipType) == ("TEXT", "CONTAINS")
    ]
    assert first == "SUSPECT: 2 regions look edited (1 added, 1 removed) in series 3, images 3-5 and images 5-6."
    assert second == DISCLAIMER


def test_it_is_a_preliminary_measurement_report_that_nobody_has_verified(tmp_path: Path) -> None:
    phantom = write_phantom(tmp_path / "in")
    report = report_of(phantom, analysis_of(phantom), tmp_path / "out")
    assert report.SOPClassUID == Comprehensive3DSRStorage
    assert report.ConceptNameCodeSequence[0].CodeValue == "126000"
    assert report.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    assert (report.VerificationFlag, report.PreliminaryFlag) == ("UNVERIFIED", "PRELIMINARY")
    assert report.CodingSchemeIdentificationSequence[0].CodingSchemeDesignator == "99SCANWARDEN"


def test_every_finding_refers_to_its_segment_under_one_tracking_uid(tmp_path: Path) -> None:
    phantom = write_phantom(tmp_path / "in")
    seg_file, sr_file = build_evidence(analysis_of(phantom), phantom.context(), ORTHANC, tmp_path / "out")
    seg = dcmread(seg_file.path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report = highdicom.sr.srread(sr_file.path)
        assert isinstance(report.content, highdicom.sr.MeasurementReport)
        groups = report.content.get_volumetric_roi_measurement_groups()
    assert len(groups) == 2
    for group, segment in zip(groups, seg.SegmentSequence, strict=True):
        assert group.tracking_uid == segment.TrackingUID
        assert group.tracking_identifier == segment.TrackingID
        assert group.finding_type is not None
        assert group.finding_type.value == segment.SegmentedPropertyTypeCodeSequence[0].CodeValue
        referred = group.referenced_segment
        assert referred is not None
        assert referred.referenced_sop_instance_uid == seg.SOPInstanceUID
        assert {measurement.name.meaning for measurement in group.get_measurements()} == {
            "Certainty of Finding",
            "Volume",
        }


def test_what_viewers_demand_of_the_tree_holds(tmp_path: Path) -> None:
    """OHIF and Slicer: shared/notes in short — tracking UID first, an image library of references only, bare NUMs."""
    phantom = write_phantom(tmp_path / "in")
    report = report_of(phantom, analysis_of(phantom), tmp_path / "out")
    for group in groups_of(report):
        first = next(item for item in group.ContentSequence if item.ValueType == "UIDREF")
        assert name_of(first) == "Tracking Unique Identifier"
    (library,) = [item for item in report.ContentSequence if name_of(item) == "Image Library"]
    for group in library.ContentSequence:
        assert all("ReferencedSOPSequence" in item for item in group.ContentSequence)
    assert not any("ContentSequence" in item for item in items(report) if item.ValueType == "NUM")
    assert not any(item.ValueType in ("SCOORD", "SCOORD3D") for item in items(report))


def test_a_machine_reads_the_verdict_the_probability_and_the_model(tmp_path: Path) -> None:
    phantom = write_phantom(tmp_path / "in")
    report = report_of(phantom, analysis_of(phantom), tmp_path / "out")
    assert verdict_of(report) == "SW-204"
    (probability,) = [item for item in items(report) if name_of(item) == "Probability of manipulation"]
    assert float(probability.MeasuredValueSequence[0].NumericValue) == 97.0
    assert any("ab" * 32 in text for text in texts(report, "Algorithm Parameters"))
    assert texts(report, "Device Observer Model Name") == ["edit-unet 1.0"]
    assert texts(report, "Provenance observation") == ["WARNING: an instance has a UID of another root [uid-root]"]


@pytest.mark.parametrize("verdict", Verdict)
def test_every_verdict_makes_a_report_without_findings(verdict: Verdict, tmp_path: Path) -> None:
    phantom = write_phantom(tmp_path / "in")
    analysis = replace(analysis_of(phantom, [], verdict=verdict), reasons=("the reason",))
    report = report_of(phantom, analysis, tmp_path / "out")
    assert texts(report, "Conclusion")[0].startswith(f"{verdict.value}: ")
    assert len(groups_of(report)) == 1


def test_an_abstention_gives_its_reasons_and_no_probability(tmp_path: Path) -> None:
    phantom = write_phantom(tmp_path / "in")
    analysis = abstention(phantom, "no model covers modality US", "slice 3 cannot be decoded")
    report = report_of(phantom, analysis, tmp_path / "out")
    assert texts(report, "Conclusion") == [
        "ABSTAIN: no statement is made; no model covers modality US; slice 3 cannot be decoded."
    ]
    assert texts(report, "Reason for the verdict") == ["no model covers modality US", "slice 3 cannot be decoded"]
    assert verdict_of(report) == "SW-205"
    assert not any(item.ValueType == "NUM" for item in items(report))


def test_a_study_of_one_pdf_gets_a_report_that_refers_to_it(tmp_path: Path) -> None:
    phantom = write_pdf_study(tmp_path / "in")
    report = report_of(phantom, abstention(phantom, "the study holds no image"), tmp_path / "out")
    (study,) = report.CurrentRequestedProcedureEvidenceSequence
    (series,) = study.ReferencedSeriesSequence
    assert [item.ReferencedSOPInstanceUID for item in series.ReferencedSOPSequence] == list(phantom.instance_uids)
    assert not any(name_of(item) == "Image Library" for item in items(report))


def test_everything_that_arrived_and_was_made_is_evidence(tmp_path: Path) -> None:
    phantom = write_phantom(tmp_path / "in")
    seg, sr = build_evidence(analysis_of(phantom), phantom.context(), ORTHANC, tmp_path / "out")
    (study,) = dcmread(sr.path).CurrentRequestedProcedureEvidenceSequence
    listed = {
        item.ReferencedSOPInstanceUID for part in study.ReferencedSeriesSequence for item in part.ReferencedSOPSequence
    }
    assert listed == {*phantom.instance_uids, seg.sop_instance_uid}
    assert study.StudyInstanceUID == phantom.study_uid


def test_a_later_revision_names_the_report_before_it(tmp_path: Path) -> None:
    phantom = write_phantom(tmp_path / "in")
    first: EvidenceFile = build_evidence(analysis_of(phantom), phantom.context(), ORTHANC, tmp_path / "1")[-1]
    report = report_of(
        phantom,
        analysis_of(phantom),
        tmp_path / "2",
        revision=2,
        predecessor=Predecessor(first.sop_instance_uid, first.series_uid, 1),
    )
    (study,) = report.PredecessorDocumentsSequence
    (series,) = study.ReferencedSeriesSequence
    (document,) = series.ReferencedSOPSequence
    assert document.ReferencedSOPInstanceUID == first.sop_instance_uid
    assert series.SeriesInstanceUID == first.series_uid
    assert report.SOPInstanceUID != first.sop_instance_uid
    assert texts(report, "Study revision") == [
        "Revision 2 of the study: 6 instances. It replaces the report on revision 1."
    ]


def test_corrected_headers_are_in_the_report_and_with_the_file(tmp_path: Path) -> None:
    def change(dataset: Dataset) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset.PatientSex = "0000"

    phantom = write_phantom(tmp_path / "in", change=change)
    evidence = build_evidence(analysis_of(phantom), phantom.context(), ORTHANC, tmp_path / "out")
    assert all([each.evidence["attribute"] for each in file.observations] == ["PatientSex"] for file in evidence)
    lines = texts(dcmread(evidence[-1].path), "Provenance observation")
    assert any(line.startswith("INFO: PatientSex (0010,0040) of the source breaks the standard") for line in lines)
    assert "0000" not in " ".join(lines).replace("(0010,0040)", "")


def test_findings_without_a_geometry_are_listed_all_the_same(tmp_path: Path) -> None:
    phantom = write_phantom(
        tmp_path / "in", Geometry("sc", depths=(0.0, 1.0, 2.0, 3.0, 4.0, 5.0)), change=make_secondary_capture
    )
    report = report_of(phantom, analysis_of(phantom), tmp_path / "out")
    findings = [item.ConceptCodeSequence[0].CodeValue for item in items(report) if name_of(item) == "Finding"]
    assert findings == ["SW-101", "SW-102"]
    assert len(texts(report, "Note on the evidence objects")) == 1


def test_files_that_no_longer_read_cost_their_reference_only(tmp_path: Path) -> None:
    phantom = write_phantom(tmp_path / "in")
    phantom.files[0].write_bytes(b"no longer DICOM")
    context: RevisionContext = phantom.context(files=(*phantom.files, tmp_path / "gone.dcm"))
    report = dcmread(build_evidence(abstention(phantom, "x"), context, ORTHANC, tmp_path / "out")[-1].path)
    (study,) = report.CurrentRequestedProcedureEvidenceSequence
    assert sum(len(part.ReferencedSOPSequence) for part in study.ReferencedSeriesSequence) == len(phantom.files) - 1


def test_evidence_that_came_back_is_no_source(tmp_path: Path) -> None:
    phantom = write_phantom(tmp_path / "in")
    first = build_evidence(analysis_of(phantom), phantom.context(), ORTHANC, tmp_path / "1")
    context = phantom.context(revision=2, files=(*phantom.files, *(file.path for file in first)))
    _, second = build_evidence(analysis_of(phantom), context, ORTHANC, tmp_path / "2")
    returned = {file.sop_instance_uid for file in first}
    (study,) = dcmread(second.path).CurrentRequestedProcedureEvidenceSequence
    listed = {
        item.ReferencedSOPInstanceUID for part in study.ReferencedSeriesSequence for item in part.ReferencedSOPSequence
    }
    assert not returned & listed
