"""Pictures for a PACS that shows nothing else: the flag is plain, the patient is not named, nothing is made up."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.uid import SecondaryCaptureImageStorage

from gateway.decoding import DecodingProcess
from gateway.results import EvidenceKind, build_evidence
from gateway.results.keyslices import Appearance, grey
from gateway.results.outlines import MAX_POINTS, outlines
from gateway.results.profiles import LEGACY, WEASIS, Profile
from inference.errors import UndecodablePixelData
from inference.findings import FindingClass, StudyAnalysis, Verdict
from inference.instances import Instance
from tests.gateway.results.phantoms import (
    Geometry,
    Phantom,
    abstention,
    analysis_of,
    make_secondary_capture,
    write_phantom,
)
from tests.gateway.results.readback import filled

PICTURES = replace(LEGACY, name="pictures", summary=False)
SR_TOO = replace(LEGACY, name="both", objects=(EvidenceKind.SC, EvidenceKind.SR))


def pictures(
    phantom: Phantom, analysis: StudyAnalysis, folder: Path, profile: Profile = PICTURES, **context: object
) -> Sequence[Dataset]:
    made = build_evidence(analysis, phantom.context(**context), profile, folder)
    return [dcmread(file.path) for file in made if file.kind is EvidenceKind.SC]


def pixels(dataset: Dataset) -> NDArray[np.uint8]:
    return np.asarray(dataset.pixel_array)


def test_each_key_slice_is_one_rgb_picture_in_one_series_the_surest_first(tmp_path: Path) -> None:
    phantom = write_phantom(tmp_path / "in")
    made = pictures(phantom, analysis_of(phantom), tmp_path / "out")
    assert [int(each.InstanceNumber) for each in made] == [1, 2]
    assert len({each.SeriesInstanceUID for each in made}) == 1
    sources = [each.SourceImageSequence[0].ReferencedSOPInstanceUID for each in made]
    assert sources == [phantom.instance_uids[2], phantom.instance_uids[4]]
    for each in made:
        assert each.SOPClassUID == SecondaryCaptureImageStorage
        assert (each.BurnedInAnnotation, each.PhotometricInterpretation, each.Modality) == ("YES", "RGB", "OT")
        assert pixels(each).shape == (each.Rows, each.Columns, 3)
        assert str(each.ImageComments) == "SUSPECT. Integrity flag by software \N{EN DASH} not a diagnosis"


def test_findings_on_one_slice_share_a_picture(tmp_path: Path) -> None:
    phantom = write_phantom(tmp_path / "in")
    made = pictures(phantom, analysis_of(phantom, [(1, 2, 2, 3, 8, 8), (1, 12, 12, 4, 20, 20)]), tmp_path / "out")
    assert len(made) == 1


def test_the_patient_is_not_in_the_picture(tmp_path: Path) -> None:
    def other(dataset: Dataset) -> None:
        dataset.PatientName, dataset.PatientID, dataset.AccessionNumber = "Somebody^Else", "0000", "B1"

    first, second = write_phantom(tmp_path / "1"), write_phantom(tmp_path / "2", change=other)
    profile = replace(LEGACY, name="same")
    some = pictures(first, analysis_of(first), tmp_path / "o1", profile)
    others = pictures(second, analysis_of(second), tmp_path / "o2", profile)
    assert len(some) == len(others) == 3
    for one, another in zip(some, others, strict=True):
        assert one.PatientName != another.PatientName
        np.testing.assert_array_equal(pixels(one), pixels(another))


@pytest.mark.parametrize("verdict", Verdict)
def test_a_verdict_without_region_has_a_page_of_words_where_the_profile_asks(verdict: Verdict, tmp_path: Path) -> None:
    phantom = write_phantom(tmp_path / "in")
    analysis = replace(analysis_of(phantom, [], verdict=verdict), reasons=("slice 3 is missing",))
    (page,) = pictures(phantom, analysis, tmp_path / "out", LEGACY)
    assert "SourceImageSequence" not in page
    assert str(page.ImageComments).startswith(verdict.value)
    assert pictures(phantom, analysis, tmp_path / "none", PICTURES) == []


def test_the_page_of_words_differs_by_verdict_reason_and_revision(tmp_path: Path) -> None:
    phantom = write_phantom(tmp_path / "in")
    analysis = abstention(phantom, "no model covers it")
    pages = [
        pictures(phantom, analysis, tmp_path / "1", LEGACY),
        pictures(phantom, analysis, tmp_path / "2", LEGACY, revision=2),
        pictures(phantom, replace(analysis, reasons=("another",)), tmp_path / "3", LEGACY),
        pictures(phantom, replace(analysis, verdict=Verdict.REVIEW), tmp_path / "4", LEGACY),
    ]
    assert len({pixels(page).tobytes() for (page,) in pages}) == 4


def test_what_shows_no_sign_of_editing_is_not_pointed_at(tmp_path: Path) -> None:
    phantom = write_phantom(tmp_path / "in")
    analysis = analysis_of(phantom)
    real = replace(analysis.findings[0], finding_class=FindingClass.REAL_TUMOUR)
    made = pictures(phantom, replace(analysis, findings=(real, analysis.findings[1])), tmp_path / "out")
    assert [each.SourceImageSequence[0].ReferencedSOPInstanceUID for each in made] == [phantom.instance_uids[4]]


def test_beyond_the_limit_the_report_counts_what_is_not_pictured(tmp_path: Path) -> None:
    phantom = write_phantom(tmp_path / "in")
    boxes = [(k, 4, 4, k + 1, 12, 12) for k in range(6)]
    profile = replace(SR_TOO, max_pictures=2, summary=False)
    boxed = analysis_of(phantom, boxes)
    edits = replace(
        boxed, findings=tuple(replace(each, finding_class=FindingClass.ADDED_TUMOUR) for each in boxed.findings)
    )
    made = build_evidence(edits, phantom.context(), profile, tmp_path / "out")
    assert [file.kind for file in made] == [EvidenceKind.SC, EvidenceKind.SC, EvidenceKind.SR]
    assert b"4 of 6 key slices are not pictured." in made[-1].path.read_bytes()


def test_a_source_that_cannot_be_decoded_any_more_costs_its_picture_and_the_report_says_so(tmp_path: Path) -> None:
    phantom = write_phantom(tmp_path / "in")
    analysis = analysis_of(phantom)
    damaged = dcmread(phantom.files[2])
    damaged.PixelData = damaged.PixelData[:100]
    damaged.save_as(phantom.files[2])
    made = build_evidence(analysis, phantom.context(), SR_TOO, tmp_path / "out")
    assert [file.kind for file in made] == [EvidenceKind.SC, EvidenceKind.SC, EvidenceKind.SR]
    assert b"There is no picture of series 3, image 3" in made[-1].path.read_bytes()


def test_a_decoder_in_a_process_of_its_own_makes_the_same_pictures_and_lives_on(tmp_path: Path) -> None:
    enhanced = write_phantom(tmp_path / "in", Geometry("enhanced", is_enhanced=True))
    analysis, context = analysis_of(enhanced), enhanced.context()
    here = build_evidence(analysis, context, PICTURES, tmp_path / "here")
    with DecodingProcess(memory_limit=4 * 1024**3, timeout=60) as process, process.study():
        first = build_evidence(analysis, context, PICTURES, tmp_path / "first", decode=process.frames)
        pid = process.pid
        second = build_evidence(analysis, context, PICTURES, tmp_path / "second", decode=process.frames)
        assert process.pid == pid, "a decoder that is left in the middle is ended"
    for made in (first, second):
        assert [file.path.read_bytes() for file in made] == [file.path.read_bytes() for file in here]


def test_a_decoder_that_dies_costs_its_picture(tmp_path: Path) -> None:
    def dying(instance: Instance) -> Iterator[NDArray[np.float32]]:
        raise UndecodablePixelData(f"{instance.name}: its decoder crashed")

    phantom = write_phantom(tmp_path / "in")
    made = build_evidence(analysis_of(phantom), phantom.context(), SR_TOO, tmp_path / "out", decode=dying)
    assert [file.kind for file in made] == [EvidenceKind.SC, EvidenceKind.SR]
    assert b"its decoder crashed" in made[-1].path.read_bytes()


def test_images_without_a_geometry_are_pictured_all_the_same(tmp_path: Path) -> None:
    phantom = write_phantom(
        tmp_path / "in", Geometry("sc", depths=(0.0, 1.0, 2.0, 3.0, 4.0, 5.0)), change=make_secondary_capture
    )
    assert len(pictures(phantom, analysis_of(phantom), tmp_path / "out")) == 2


def test_a_picture_of_a_lossy_image_says_so(tmp_path: Path) -> None:
    def lossy(dataset: Dataset) -> None:
        dataset.LossyImageCompression = "01"
        dataset.LossyImageCompressionRatio = [10, 2]
        dataset.LossyImageCompressionMethod = ["ISO_10918_1", "ISO_15444_1"]

    def silent(dataset: Dataset) -> None:
        dataset.LossyImageCompression = "01"

    loud, quiet = write_phantom(tmp_path / "1", change=lossy), write_phantom(tmp_path / "2", change=silent)
    first = pictures(loud, analysis_of(loud), tmp_path / "o1")[0]
    assert (first.LossyImageCompression, list(first.LossyImageCompressionRatio)) == ("01", [10, 2])
    second = pictures(quiet, analysis_of(quiet), tmp_path / "o2")[0]
    assert "LossyImageCompression" not in second, "its ratio and method would have to be there too (type 1C)"
    assert "compressed with loss" in second.DerivationDescription


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.1.99"])
def test_compression_changes_no_pixel(syntax: str, tmp_path: Path) -> None:
    from pydicom.uid import UID

    phantom = write_phantom(tmp_path / "in")
    plain = pictures(phantom, analysis_of(phantom), tmp_path / "1", WEASIS)
    other = pictures(phantom, analysis_of(phantom), tmp_path / "2", replace(WEASIS, picture_syntax=UID(syntax)))
    for one, another in zip(plain, other, strict=True):
        assert another.file_meta.TransferSyntaxUID == syntax
        assert one.SOPInstanceUID == another.SOPInstanceUID
        np.testing.assert_array_equal(pixels(one), pixels(another))


def _shown(window: tuple[float, float] | None, *, inverted: bool = False) -> Appearance:
    return Appearance(Dataset(), window, None, inverted)


def test_the_sources_own_window_is_used_where_it_shows_something() -> None:
    image = np.linspace(-1000, 1000, 10_000, dtype=np.float32).reshape(100, 100)
    shown = grey(image, _shown((0, 200)))
    assert (shown[image < -100] == 0).all()
    assert (shown[image > 100] == 255).all()
    assert abs(int(shown[50, 0]) - 127) <= 2
    for useless in (_shown((50_000, 10)), _shown((0, 200), inverted=True), _shown(None)):
        assert abs(int(grey(image, useless)[25, 0]) - 64) <= 3, "by percentiles, the whole range is seen"
    assert grey(np.zeros((4, 4), np.float32), _shown(None)).max() == 0


def test_outlines_give_the_region_back_whatever_its_shape() -> None:
    random = np.random.default_rng(7)
    from scipy import ndimage

    for share in np.linspace(0.05, 0.95, 40):
        mask = random.random((14, 17)) < share
        found = outlines(mask)
        assert len(found) == ndimage.label(mask, np.ones((3, 3)))[1], "one for each part, diagonal neighbours together"
        together = np.zeros_like(mask)
        for outline in found:
            assert (outline[0] == outline[-1]).all()
            together |= filled(outline, *mask.shape)
        np.testing.assert_array_equal(together, ndimage.binary_fill_holes(mask))
        areas = [filled(outline, *mask.shape).sum() for outline in found]
        assert areas == sorted(areas, reverse=True)
    assert outlines(np.zeros((3, 3), bool)) == []


def test_an_outline_fits_the_length_of_its_attribute() -> None:
    comb = np.zeros((400, 400), bool)
    comb[:, ::2] = True
    comb[0] = True
    noisy = comb & (np.random.default_rng(1).random(comb.shape) < 0.98)
    assert all(len(outline) <= MAX_POINTS + 1 for outline in outlines(noisy | comb[:1]))
