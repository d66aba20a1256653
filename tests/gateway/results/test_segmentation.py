"""A SEG shows a region at the very millimetre where it was found, on the images in which it was found."""

import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import highdicom
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom import Dataset, dcmread

from gateway.results import EvidenceFile, EvidenceKind, build_evidence
from gateway.results.profiles import ORTHANC, Profile
from inference.findings import StudyAnalysis
from tests.gateway.results.phantoms import (
    AXIAL,
    BOXES,
    GEOMETRIES,
    Geometry,
    Phantom,
    analysis_of,
    make_secondary_capture,
    read_study,
    write_phantom,
)
from tests.gateway.results.readback import frames_of, pixels_of, places_of


def built(
    phantom: Phantom, analysis: StudyAnalysis, folder: Path, profile: Profile = ORTHANC
) -> tuple[list[EvidenceFile], EvidenceFile]:
    """The SEGs and the SR of an analysis."""
    *segs, sr = build_evidence(analysis, phantom.context(), profile, folder)
    assert sr.kind is EvidenceKind.SR
    assert all(seg.kind is EvidenceKind.SEG for seg in segs)
    return segs, sr


def expected_places(geometry: Geometry, box: Sequence[int]) -> NDArray[np.float64]:
    k0, r0, c0, k1, r1, c1 = box
    last = len(geometry.depths)
    k0, k1 = min(k0, last - 1), min(k1, last)
    return np.array(
        [
            geometry.millimetres(k, row, column)
            for k in range(k0, k1)
            for row in range(r0, r1)
            for column in range(c0, c1)
        ]
    )


def sorted_places(places: NDArray[np.float64]) -> NDArray[np.float64]:
    return places[np.lexsort(np.round(places, 3).T)]


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=lambda geometry: geometry.name)
def test_a_known_box_comes_back_at_the_same_millimetres(geometry: Geometry, tmp_path: Path) -> None:
    phantom = write_phantom(tmp_path / "in", geometry)
    (seg_file,), _ = built(phantom, analysis_of(phantom), tmp_path / "out")
    seg = dcmread(seg_file.path)
    for segment, box in enumerate(BOXES, start=1):
        found, expected = sorted_places(places_of(seg, segment)), sorted_places(expected_places(geometry, box))
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() < 1e-3


angles = st.floats(-np.pi, np.pi)
lengths = st.floats(0.2, 5.0)


@st.composite
def geometries(draw: st.DrawFn) -> Geometry:
    """Any rotation, any spacing, any small matrix, slices in any order."""
    turn, tilt, roll = (draw(angles) for _ in range(3))
    about_z = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
    about_y = np.array([[np.cos(roll), 0, np.sin(roll)], [0, 1, 0], [-np.sin(roll), 0, np.cos(roll)]])
    axes = about_z @ about_x @ about_y
    depths = np.cumsum([draw(lengths) for _ in range(6)]).tolist()
    return Geometry(
        "any",
        row=tuple(axes[:, 0].tolist()),
        column=tuple(axes[:, 1].tolist()),
        depths=tuple(draw(st.permutations(depths))),
        rows=draw(st.integers(24, 40)),
        columns=draw(st.integers(20, 40)),
        spacing=(draw(lengths), draw(lengths)),
        is_enhanced=draw(st.booleans()),
    )


@settings(max_examples=25, deadline=None)
@given(geometries())
def test_any_geometry_brings_the_box_back(geometry: Geometry) -> None:
    with tempfile.TemporaryDirectory() as name:
        phantom = write_phantom(Path(name) / "in", geometry)
        (seg_file,), _ = built(phantom, analysis_of(phantom), Path(name) / "out")
        seg = dcmread(seg_file.path)
        for segment, box in enumerate(BOXES, start=1):
            found, expected = places_of(seg, segment), expected_places(geometry, box)
            assert found.shape == expected.shape
            # Sorting by rounded millimetres is ambiguous for an arbitrary rotation: every place has its twin instead.
            distances = np.linalg.norm(found[:, None] - expected[None], axis=2)
            assert distances.min(axis=0).max() < 1e-3
            assert distances.min(axis=1).max() < 1e-3


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=lambda geometry: geometry.name)
def test_every_frame_finds_its_source_image(geometry: Geometry, tmp_path: Path) -> None:
    phantom = write_phantom(tmp_path / "in", geometry)
    (seg_file,), _ = built(phantom, analysis_of(phantom), tmp_path / "out")
    seg = dcmread(seg_file.path)
    sources = {str(header.SOPInstanceUID): header for header in map(dcmread, phantom.files)}
    for frame in frames_of(seg):
        (image,) = frame.DerivationImageSequence[0].SourceImageSequence
        assert image.SpatialLocationsPreserved == "YES"
        source = sources[image.ReferencedSOPInstanceUID]
        assert image.ReferencedSOPClassUID == source.SOPClassUID
        position = source.get("ImagePositionPatient")
        if geometry.is_enhanced:
            group = source.PerFrameFunctionalGroupsSequence[image.ReferencedFrameNumber - 1]
            position = group.PlanePositionSequence[0].ImagePositionPatient
        else:
            assert "ReferencedFrameNumber" not in image
        drawn = frame.PlanePositionSequence[0].ImagePositionPatient
        assert [float(value) for value in drawn] == pytest.approx([float(value) for value in position], abs=1e-4)
    (series,) = seg.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == phantom.series_uid
    listed = [item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence]
    assert len(listed) == len(set(listed))
    assert set(listed) <= set(sources)
    assert (seg.Rows, seg.Columns) == (geometry.rows, geometry.columns)
    assert {source.FrameOfReferenceUID for source in sources.values()} == {seg.FrameOfReferenceUID}


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=lambda geometry: geometry.name)
def test_highdicom_reads_the_same_masks(geometry: Geometry, tmp_path: Path) -> None:
    phantom = write_phantom(tmp_path / "in", geometry)
    analysis = analysis_of(phantom)
    (seg_file,), _ = built(phantom, analysis, tmp_path / "out")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        seg = highdicom.seg.segread(seg_file.path)
        volume = analysis.series[0]
        if geometry.is_enhanced:
            read = seg.get_pixels_by_source_frame(
                source_sop_instance_uid=volume.sop_instance_uids[0],
                source_frame_numbers=[number for number in volume.frame_numbers if number],
                ignore_spatial_locations=False,
                assert_missing_frames_are_empty=True,
            )
        else:
            read = seg.get_pixels_by_source_instance(
                source_sop_instance_uids=list(volume.sop_instance_uids), assert_missing_frames_are_empty=True
            )
    for segment in range(len(BOXES)):
        np.testing.assert_array_equal(read[..., segment] != 0, volume.labels == segment + 1)


def test_a_segment_says_what_it_is_in_words_codes_and_colour(tmp_path: Path) -> None:
    phantom = write_phantom(tmp_path / "in")
    (seg_file,), _ = built(phantom, analysis_of(phantom), tmp_path / "out")
    seg = dcmread(seg_file.path)
    assert seg.SegmentationType == "BINARY"
    assert [item.SegmentLabel for item in seg.SegmentSequence] == ["Added 1", "Removed 2"]
    types = [item.SegmentedPropertyTypeCodeSequence[0] for item in seg.SegmentSequence]
    assert [item.CodeValue for item in types] == ["SW-101", "SW-102"]
    colours = [tuple(item.RecommendedDisplayCIELabValue) for item in seg.SegmentSequence]
    assert len(set(colours)) == 2
    algorithm = seg.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence[0]
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("edit-unet", "1.0")
    assert "ab" * 32 in algorithm.AlgorithmParameters
    assert seg.Manufacturer == "Scanwarden"


def test_empty_frames_are_left_out_unless_the_profile_wants_them(tmp_path: Path) -> None:
    phantom = write_phantom(tmp_path / "in")
    analysis = analysis_of(phantom)
    (lean,), _ = built(phantom, analysis, tmp_path / "lean")
    (full,), _ = built(phantom, analysis, tmp_path / "full", replace(ORTHANC, name="full", empty_frames=True))
    assert int(dcmread(lean.path).NumberOfFrames) == 3 + 2
    assert all(frame.any() for frame in pixels_of(dcmread(lean.path)))
    assert int(dcmread(full.path).NumberOfFrames) == 6 * 2


def test_only_the_surest_findings_are_drawn_and_the_report_says_so(tmp_path: Path) -> None:
    phantom = write_phantom(tmp_path / "in")
    boxes = [(0, row, 0, 1, row + 1, 4) for row in range(25)]
    (seg_file,), sr = built(phantom, analysis_of(phantom, boxes), tmp_path / "out")
    drawn = [int(item.SegmentLabel.split()[-1]) for item in dcmread(seg_file.path).SegmentSequence]
    assert drawn == list(range(1, 21)), "scores fall with the label"
    assert "5 of 25 regions are listed without a drawing." in sr.path.read_bytes().decode("latin-1")


def test_two_volumes_of_a_series_give_two_segs(tmp_path: Path) -> None:
    """An enhanced image with two stacks, or two echoes: each volume has its own positions."""
    phantom = write_phantom(tmp_path / "in", AXIAL)
    analysis = analysis_of(phantom)
    whole = analysis.series[0]
    stacks = [
        replace(
            whole,
            **{
                name: getattr(whole, name)[part]
                for name in (
                    "sop_instance_uids",
                    "frame_numbers",
                    "source_files",
                    "slice_scores",
                    "labels",
                    "classes",
                )
            },
        )
        for part in (slice(0, 4), slice(4, 6))
    ]
    segs, _ = built(phantom, replace(analysis, series=tuple(stacks)), tmp_path / "out")
    assert len(segs) == 2
    assert len({seg.sop_instance_uid for seg in segs} | {seg.series_uid for seg in segs}) == 4
    assert len({int(dcmread(seg.path).SeriesNumber) for seg in segs}) == 2


def _no_position(dataset: Dataset) -> None:
    del dataset.ImagePositionPatient


def _no_frame_of_reference(dataset: Dataset) -> None:
    del dataset.FrameOfReferenceUID


def _same_place(dataset: Dataset) -> None:
    dataset.ImagePositionPatient = [0, 0, 0]


def _not_parallel(dataset: Dataset) -> None:
    if dataset.InstanceNumber == 2:
        dataset.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]


def _zero_cosines(dataset: Dataset) -> None:
    dataset.ImageOrientationPatient = [0, 0, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (make_secondary_capture, "say no position"),
        (_no_position, "say no position"),
        (_no_frame_of_reference, "say no position"),
        (_same_place, "two of its images lie at one place"),
        (_not_parallel, "not parallel"),
        (_zero_cosines, "say no position"),
    ],
)
def test_without_a_geometry_there_is_no_seg_and_the_report_says_why(change: object, words: str, tmp_path: Path) -> None:
    phantom = write_phantom(tmp_path / "in", change=change)  # type: ignore[arg-type]
    segs, sr = built(phantom, analysis_of(phantom), tmp_path / "out")
    assert segs == []
    text = sr.path.read_bytes().decode("latin-1")
    assert "The regions in series 3 are not drawn" in text
    assert words in text


def test_a_source_without_slice_thickness_still_gives_a_seg(tmp_path: Path) -> None:
    def change(dataset: Dataset) -> None:
        del dataset.SliceThickness

    phantom = write_phantom(tmp_path / "in", Geometry("one", depths=(1.0,)), change=change)
    (seg_file,), _ = built(phantom, analysis_of(phantom), tmp_path / "out")
    measures = dcmread(seg_file.path).SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert "SliceThickness" not in measures, "a thickness that nobody measured must not be made up"


def test_a_real_series_is_drawn_where_it_lies(scanwarden_data: Path, tmp_path: Path) -> None:
    phantom = read_study(scanwarden_data / "dicom" / "t1-healthy")
    analysis = analysis_of(phantom, [(10, 100, 200, 14, 140, 260)])
    (seg_file,), _ = built(phantom, analysis, tmp_path)
    seg = dcmread(seg_file.path)
    headers = {header.SOPInstanceUID: header for header in (dcmread(f, stop_before_pixels=True) for f in phantom.files)}
    for frame in frames_of(seg):
        source = headers[frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID]
        assert [float(v) for v in frame.PlanePositionSequence[0].ImagePositionPatient] == pytest.approx(
            [float(v) for v in source.ImagePositionPatient]
        )
    assert pixels_of(seg)[:, 100:140, 200:260].all()
    assert pixels_of(seg).sum() == 4 * 40 * 60
