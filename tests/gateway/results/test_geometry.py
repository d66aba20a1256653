"""A box at a known place in the patient comes back from every object at the same millimetre, whatever the geometry.

The whole way: files, analysis with a detector that sees the box, objects, files again; read back without our code.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset, dcmread

from gateway.results import EvidenceFile, EvidenceKind, build_evidence
from gateway.results.profiles import WEASIS
from inference.coverage import Coverage
from inference.detectors import Detection
from inference.findings import StudyAnalysis
from inference.volume import Stack, Volume
from models.networks.output import NetworkOutput
from tests.gateway.results.readback import filled, frames_of, in_patient, places_of, plane_of, same_places
from tests.gateway.results.scans import (
    SCANS,
    BrightIsEdited,
    Scan,
    StackOfSlices,
    Written,
    analysed,
    inside,
    write_scan,
)

EVERYTHING = replace(WEASIS, name="everything", objects=tuple(EvidenceKind), summary=True)
TOLERANCE = 1e-3  # mm


@dataclass(frozen=True)
class Case:
    """A scan, what was found in it, and every object that was made of it."""

    written: Written
    analysis: StudyAnalysis
    made: Sequence[EvidenceFile]

    def of(self, kind: EvidenceKind) -> list[Dataset]:
        return [dcmread(file.path) for file in self.made if file.kind is kind]

    def source(self, uid: str) -> Dataset:
        return next(header for header in map(dcmread, self.written.files) if header.SOPInstanceUID == uid)

    def expected(self, stack: StackOfSlices) -> NDArray[np.float64]:
        places = stack.places()
        found: NDArray[np.float64] = places[inside(places, self.written.shift)]
        return found


@pytest.fixture(scope="module", params=SCANS, ids=lambda scan: scan.name)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    scan: Scan = request.param
    folder = tmp_path_factory.mktemp(scan.name)
    written = write_scan(folder / "in", scan)
    analysis, context = analysed(written)
    return Case(written, analysis, build_evidence(analysis, context, EVERYTHING, folder / "out"))


@pytest.mark.parametrize("kind", [EvidenceKind.SEG, EvidenceKind.LABELMAP])
def test_the_box_comes_back_from_segmentations(case: Case, kind: EvidenceKind) -> None:
    segs = case.of(kind)
    expected = [case.expected(stack) for stack in case.written.scan.stacks]
    assert len(segs) == len(expected), "a SEG for each volume"
    for seg in segs:
        places = places_of(seg, 1)
        assert min(same_places(places, each) for each in expected) < TOLERANCE
        assert seg.FrameOfReferenceUID == case.written.frame_uid
    together = np.concatenate([places_of(seg, 1) for seg in segs])
    assert together.shape == np.concatenate(expected).shape


@pytest.mark.parametrize("kind", [EvidenceKind.SEG, EvidenceKind.LABELMAP])
def test_every_frame_lies_where_the_source_frame_that_it_names_lies(case: Case, kind: EvidenceKind) -> None:
    for seg in case.of(kind):
        for frame in frames_of(seg):
            (image,) = frame.DerivationImageSequence[0].SourceImageSequence
            assert image.SpatialLocationsPreserved == "YES"
            position, cosines, spacing = plane_of(
                case.source(image.ReferencedSOPInstanceUID), image.get("ReferencedFrameNumber")
            )
            shared = seg.SharedFunctionalGroupsSequence[0]
            drawn = [float(value) for value in frame.PlanePositionSequence[0].ImagePositionPatient]
            assert drawn == pytest.approx(position, abs=TOLERANCE)
            along = shared.PlaneOrientationSequence[0].ImageOrientationPatient
            assert [float(value) for value in along] == pytest.approx(cosines, abs=1e-6)
            assert [float(value) for value in shared.PixelMeasuresSequence[0].PixelSpacing] == pytest.approx(spacing)


def test_highdicom_reads_the_same_voxels(case: Case) -> None:
    for seg, volume in zip(case.of(EvidenceKind.SEG), case.analysis.series, strict=True):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read = highdicom.seg.Segmentation.from_dataset(seg)
            if case.written.scan.is_enhanced:
                frames = [number for number in volume.frame_numbers if number]
                pixels = read.get_pixels_by_source_frame(
                    volume.sop_instance_uids[0], frames, assert_missing_frames_are_empty=True
                )
            else:
                uids = list(volume.sop_instance_uids)
                pixels = read.get_pixels_by_source_instance(uids, assert_missing_frames_are_empty=True)
        np.testing.assert_array_equal(pixels[..., 0] != 0, volume.labels != 0)


def _on_the_slice(case: Case, source: Dataset, frame: int | None) -> NDArray[np.float64]:
    """Where the box lies on one source image: its voxel centres in mm, from the image's own attributes."""
    rows, columns = np.mgrid[: source.Rows, : source.Columns]
    places = in_patient(columns.ravel(), rows.ravel(), *plane_of(source, frame))
    found: NDArray[np.float64] = places[inside(places, case.written.shift)]
    return found


def _surrounded(source: Dataset, frame: int | None, polyline: NDArray[np.floating]) -> NDArray[np.float64]:
    at = np.argwhere(filled(polyline, source.Rows, source.Columns))
    return in_patient(at[:, 1], at[:, 0], *plane_of(source, frame))


def test_the_outline_of_the_planar_report_surrounds_the_box_on_its_key_slice(case: Case) -> None:
    (report,) = case.of(EvidenceKind.PLANAR)
    (container,) = [item for item in report.ContentSequence if _name(item) == "Imaging Measurements"]
    assert len(container.ContentSequence) == len(case.analysis.findings)
    for group in container.ContentSequence:
        (outline,) = [item for item in group.ContentSequence if item.ValueType == "SCOORD"]
        assert outline.GraphicType == "POLYLINE"
        polyline = np.array(outline.GraphicData).reshape(-1, 2)
        (image,) = outline.ContentSequence
        reference = image.ReferencedSOPSequence[0]
        source = case.source(reference.ReferencedSOPInstanceUID)
        frame = reference.get("ReferencedFrameNumber")
        assert (frame is not None) == case.written.scan.is_enhanced
        found, expected = _surrounded(source, frame, polyline), _on_the_slice(case, source, frame)
        assert same_places(found, expected) < TOLERANCE


def test_the_outline_of_the_presentation_state_surrounds_it_too(case: Case) -> None:
    states = case.of(EvidenceKind.GSPS)
    assert len(states) == len(case.written.scan.stacks)
    for state in states:
        for annotation in state.GraphicAnnotationSequence:
            (reference,) = annotation.ReferencedImageSequence
            source = case.source(reference.ReferencedSOPInstanceUID)
            frame = reference.get("ReferencedFrameNumber")
            (graphic,) = annotation.GraphicObjectSequence
            polyline = np.array(graphic.GraphicData).reshape(-1, 2)
            assert graphic.NumberOfGraphicPoints == len(polyline)
            found, expected = _surrounded(source, frame, polyline), _on_the_slice(case, source, frame)
            assert same_places(found, expected) < TOLERANCE


def test_the_picture_outlines_the_box_where_it_lies(case: Case) -> None:
    """The anatomy is centred under the headline and keeps the patient's proportions; outlines are 2 pixels wide."""
    _, *pictures = case.of(EvidenceKind.SC)
    assert len(pictures) == len(case.written.scan.stacks)
    for picture in pictures:
        (reference,) = picture.SourceImageSequence
        source = case.source(reference.ReferencedSOPInstanceUID)
        frame = reference.get("ReferencedFrameNumber")
        scale = _scale(source.Rows, source.Columns, *plane_of(source, frame)[2])
        height, width = (round(each) for each in np.array((source.Rows, source.Columns)) * scale)
        pixels = picture.pixel_array
        top = _top_of_the_anatomy(pixels)
        left = (picture.Columns - width) // 2
        red = (pixels[top : top + height, left : left + width] == (255, 40, 40)).all(axis=-1)
        at = np.argwhere(_box_pixels(case, source, frame))
        (r0, c0), (r1, c1) = at.min(axis=0) * scale, (at.max(axis=0) + 1) * scale
        for line, first, last in ((r0, c0, c1), (r1, c0, c1)):
            strip = red[max(0, round(line) - 3) : round(line) + 4, round(first) : round(last)]
            assert strip.any(), "the outline's upper and lower ends are where the box ends"
        outside = red.copy()
        outside[round(r0) - 3 : round(r1) + 4, round(c0) - 3 : round(c1) + 4] = False
        assert outside.sum() < 0.5 * red.sum() + 1200, "beyond the box there is the arrow only"
        below = red[round(r1) + 4 :, round(c0) : round(c1)], red[: max(0, round(r0) - 4), round(c0) : round(c1)]
        assert all((part.sum(axis=1) < 0.6 * (c1 - c0)).all() for part in below)


def _scale(rows: int, columns: int, row_spacing: float, column_spacing: float) -> NDArray[np.float64]:
    """What the page does: square pixels, the shorter side at least 512, the longer at most 1024."""
    size = np.array((rows * row_spacing, columns * column_spacing)) / min(row_spacing, column_spacing)
    enlarged = size * min(1024 / size.max(), max(1, 512 / size.min()))
    scale: NDArray[np.float64] = enlarged / (rows, columns)
    return scale


def _top_of_the_anatomy(pixels: NDArray[np.uint8]) -> int:
    """The first row of grey that goes on through the page's middle."""
    middle = pixels[:, pixels.shape[1] // 2 - 50 : pixels.shape[1] // 2 + 50].astype(int)
    is_anatomy = (middle.sum(axis=(1, 2)) > 0) & (np.ptp(middle, axis=2).max(axis=1) < 120)
    filled_rows = is_anatomy & (np.arange(len(pixels)) > 60)
    return int(np.flatnonzero(np.convolve(filled_rows, np.ones(40), "valid") == 40)[0])


def _box_pixels(case: Case, source: Dataset, frame: int | None) -> NDArray[np.bool_]:
    rows, columns = np.mgrid[: source.Rows, : source.Columns]
    places = in_patient(columns.ravel(), rows.ravel(), *plane_of(source, frame))
    return inside(places, case.written.shift).reshape(source.Rows, source.Columns)


def test_key_objects_name_the_slices_that_the_pictures_show(case: Case) -> None:
    (selection,) = case.of(EvidenceKind.KOS)
    images = [item.ReferencedSOPSequence[0] for item in selection.ContentSequence if item.ValueType == "IMAGE"]
    named = {(image.ReferencedSOPInstanceUID, image.get("ReferencedFrameNumber")) for image in images}
    for picture in case.of(EvidenceKind.SC)[1:]:
        (reference,) = picture.SourceImageSequence
        assert (reference.ReferencedSOPInstanceUID, reference.get("ReferencedFrameNumber")) in named


def _name(item: Dataset) -> str:
    return str(item.ConceptNameCodeSequence[0].CodeMeaning) if "ConceptNameCodeSequence" in item else ""


def test_series_of_other_frames_of_reference_keep_to_themselves(tmp_path: Path) -> None:
    first = write_scan(tmp_path / "in", SCANS[0], series=1)
    second = write_scan(tmp_path / "in", SCANS[3], series=2, shift=(4.0, -6.0, 3.0))
    analysis, context = analysed(first, second)
    made = build_evidence(analysis, context, EVERYTHING, tmp_path / "out")
    segs = [dcmread(file.path) for file in made if file.kind is EvidenceKind.SEG]
    assert len(segs) == 2
    for seg, written in zip(sorted(segs, key=lambda seg: str(seg.FrameOfReferenceUID)), (first, second), strict=True):
        (stack,) = written.scan.stacks
        places = stack.places()
        assert same_places(places_of(seg, 1), places[inside(places, written.shift)]) < TOLERANCE
        assert seg.FrameOfReferenceUID == written.frame_uid
        (referenced,) = seg.ReferencedSeriesSequence
        assert referenced.SeriesInstanceUID == written.series_uid, "OHIF follows the first referenced series only"
    assert len({seg.SeriesInstanceUID for seg in segs}) == 2


def test_a_mask_of_a_coarser_grid_comes_back_to_the_source_grid(tmp_path: Path) -> None:
    """Every second row and column: within one source pixel of the box, on the source's own matrix."""
    written = write_scan(tmp_path / "in", SCANS[4])
    analysis, context = analysed(written, coarse=True)
    made = build_evidence(analysis, context, EVERYTHING, tmp_path / "out")
    seg = dcmread(next(file.path for file in made if file.kind is EvidenceKind.SEG))
    (stack,) = written.scan.stacks
    assert (seg.Rows, seg.Columns) == (stack.rows, stack.columns)
    found = places_of(seg, 1)
    places = stack.places()
    expected = places[inside(places)]
    for ends in (np.min, np.max):
        assert np.abs(ends(found, axis=0) - ends(expected, axis=0)).max() <= max(stack.spacing) + TOLERANCE


def test_the_padding_of_a_network_does_not_shift_what_it_finds(tmp_path: Path) -> None:
    """A network wants a matrix that it can halve: what is padded before it is cut off behind it, at no offset."""
    import torch

    from inference.detectors import RegistryDetector
    from models.registry import LoadedModel

    shapes = []

    class Bright(torch.nn.Module):
        def forward(self, channels: Any) -> Any:
            shapes.append(tuple(channels.shape[-2:]))
            edit = (channels[:, 1] > 0.25) * 20.0 - 10.0
            types = torch.stack([edit, -edit], dim=1)
            return NetworkOutput(edit, types, edit.amax(dim=(1, 2)))

    card = BrightIsEdited().card.model_copy(update={"edit_types": ("added", "removed"), "min_matrix": 32})
    detector = RegistryDetector(LoadedModel(card, Bright(), "cpu"))
    written = write_scan(tmp_path / "in", SCANS[4])
    analysis, context = analysed(written, detector=Uncovered(detector))
    made = build_evidence(analysis, context, EVERYTHING, tmp_path / "out")
    assert shapes[0] != (45, 53), "the network has seen another matrix"
    seg = dcmread(next(file.path for file in made if file.kind is EvidenceKind.SEG))
    (stack,) = written.scan.stacks
    places = stack.places()
    assert same_places(places_of(seg, 1), places[inside(places)]) < TOLERANCE


@dataclass
class Uncovered:
    """A detector that is asked about everything, whatever its card covers."""

    inner: Any

    @property
    def card(self) -> Any:
        return self.inner.card

    def covers(self, stack: Stack) -> Coverage:
        return Coverage()

    def recognises(self, volume: Volume) -> Coverage:
        return Coverage()

    def detect(self, volume: Volume, *, batch: int) -> Detection:
        found: Detection = self.inner.detect(volume, batch=batch)
        return found
