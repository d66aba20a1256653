"""What OHIF shows of our evidence objects, measured in the pixels of its screen. `make viewers` runs it."""

import numpy as np
import pytest
from playwright.sync_api import Page
from pydicom import dcmread

from gateway.results import EvidenceKind
from gateway.results.codes import REGIONS
from inference.findings import FindingClass, Verdict
from tests.viewers.conftest import Keep, Sent
from tests.viewers.ohif import Ohif, Slice
from tests.viewers.screen import Mask, bright, edge, near, on_screen, strays, tinted
from tests.viewers.studies import corners

ADDED = REGIONS[FindingClass.ADDED_TUMOUR].colour
REMOVED = REGIONS[FindingClass.REMOVED_TUMOUR].colour
OUTLINES = ((0, 255, 0), (255, 255, 0))  # how OHIF draws what a report outlines: the chosen region, the others
SLACK = 5  # pixels of the screen: OHIF's line is two wide, and a pixel of the phantom has three
# All of SCANS but two stacks of different planes in one file, which OHIF 3.12.10 does not show (docs/viewers.md).
GEOMETRIES = (
    "axial", "sagittal", "coronal", "oblique", "columns-not-of-8", "unequal-spacing", "gantry-tilt",
    "enhanced-mr", "enhanced-ct", "enhanced-two-echoes",
)  # fmt: skip


def tint(viewer: Ohif, shown: Slice, colour: tuple[int, int, int]) -> Mask:
    """Where the viewport has a colour; without the letters at its edges."""
    found: Mask = tinted(shown.picture, colour) & viewer.clear_of_letters(shown.picture)
    return found


def outlined(viewer: Ohif, shown: Slice) -> Mask:
    """Where the viewport has a line of a report."""
    return np.logical_or(*(tint(viewer, shown, colour) for colour in OUTLINES))


def regions_on_screen(sent: Sent, viewer: Ohif, shown: Slice) -> Mask:
    """Where the regions of the tampered study's slice have to lie, from the image's header and the camera alone."""
    (volume,) = sent.tampered.analysis.series
    labels = volume.labels[volume.sop_instance_uids.index(shown.sop_instance_uid)]
    places = viewer.places(corners(sent.tampered.source(shown.sop_instance_uid)))
    found: Mask = on_screen((labels > 0).astype(np.uint8), places, shown.picture.shape[:2]) > 0
    return found


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_the_overlay_lies_on_what_is_bright_on_each_slice(geometry: str, sent: Sent, page: Page, address: str) -> None:
    """The box that is reported is the only bright thing: the images without overlay say where it is on the screen."""
    written = sent.written[geometry]
    numbers = {
        str(header.ReferencedSeriesSequence[0].SeriesInstanceUID): int(header.SeriesNumber)
        for header in map(dcmread, sent.evidence["scans"][EvidenceKind.SEG])
    }
    viewer = Ohif(page, address, sent.scans.uid)
    viewer.open_images(f"S:{list(sent.written).index(geometry) + 1}")
    wanted = {shown.name: bright(shown.picture) & viewer.clear_of_letters(shown.picture) for shown in viewer.slices()}
    marked = [name for name, mask in wanted.items() if mask.any()]
    assert 0 < len(marked) < len(wanted)
    viewer.open_segmentation(f"S:{numbers[written.series_uid]}")
    for shown in viewer.slices(until=lambda now: tint(viewer, now, ADDED).any() == (now.name in marked)):
        assert strays(tint(viewer, shown, ADDED), wanted[shown.name], SLACK) == (0, 0), shown.name
    assert viewer.faults == []


def test_the_overlay_lies_on_the_edited_slices_where_the_analysis_put_it(
    sent: Sent, page: Page, address: str, keep: Keep
) -> None:
    analysis = sent.tampered.analysis
    (volume,) = analysis.series
    assert analysis.verdict is Verdict.SUSPECT
    viewer = Ohif(page, address, sent.tampered.uid)
    viewer.open_segmentation("Scanwarden regions")
    marked = {volume.sop_instance_uids[k] for k in np.flatnonzero(volume.labels.any(axis=(1, 2)))}
    assert 0 < len(marked) < len(volume.labels)
    key = volume.sop_instance_uids[max(analysis.findings, key=lambda finding: finding.score).key_slice]
    for shown in viewer.slices(until=lambda now: tint(viewer, now, REMOVED).any() == (now.sop_instance_uid in marked)):
        expected = regions_on_screen(sent, viewer, shown)
        assert strays(tint(viewer, shown, REMOVED), expected, SLACK) == (0, 0), shown.name
        if shown.sop_instance_uid == key:
            keep(viewer.screenshot(), "ohif-segmentation")
    assert viewer.faults == []


def test_the_report_is_read_in_words(sent: Sent, page: Page, address: str, keep: Keep) -> None:
    viewer = Ohif(page, address, sent.tampered.uid)
    lines = viewer.open_report("Scanwarden integrity summary").splitlines()
    keep(viewer.screenshot(), "ohif-report")
    said = "\n".join(lines)
    assert "SUSPECT: 2 regions look edited (2 removed) in series 1" in said
    assert "not a diagnosis" in said
    assert "Probability of manipulation: 99.9 %" in lines
    assert any("Region 1 looks edited (removed): series 1, images 4-9" in line for line in lines)
    assert any(line.startswith("Algorithm Name: edit-unet") for line in lines)
    assert viewer.faults == []


def test_the_outlines_report_draws_the_region_on_its_key_slice(
    sent: Sent, page: Page, address: str, keep: Keep
) -> None:
    (volume,) = sent.tampered.analysis.series
    findings = {volume.sop_instance_uids[each.key_slice]: each for each in sent.tampered.analysis.findings}
    surest = max(findings.values(), key=lambda finding: finding.score)
    viewer = Ohif(page, address, sent.tampered.uid)
    viewer.open_outlines("Scanwarden outlines report")
    for shown in viewer.slices(until=lambda now: outlined(viewer, now).any() == (now.sop_instance_uid in findings)):
        if findings.get(shown.sop_instance_uid) is surest:
            line = edge(regions_on_screen(sent, viewer, shown))
            drawn = near(outlined(viewer, shown), SLACK)  # the line is dashed
            assert (line & drawn).sum() > 0.95 * line.sum()
            said = page.locator("[data-cy=viewport-grid]").inner_text()
            assert f"Certainty of Finding: {100 * surest.score:.1f}" in said
            keep(viewer.screenshot(), "ohif-outline")
    assert viewer.faults == []


def test_the_key_images_open_as_they_were_made(sent: Sent, page: Page, address: str, keep: Keep) -> None:
    viewer = Ohif(page, address, sent.tampered.uid)
    viewer.open_images("Scanwarden key images")
    viewer.close_player()
    made = {str(each.SOPInstanceUID): each for each in map(dcmread, sent.evidence["tampered"][EvidenceKind.SC])}
    seen: set[str] = set()
    for shown in viewer.slices():
        picture = made[shown.sop_instance_uid].pixel_array
        rows, columns = picture.shape[:2]
        places = viewer.places(np.array([(0, 0, 0), (columns, 0, 0), (0, rows, 0)], float))
        wanted = on_screen(picture, places, shown.picture.shape[:2])
        area = viewer.clear_of_letters(shown.picture)
        seen_pixels, made_pixels = shown.picture[area].astype(float), wanted[area].astype(float)
        likeness = np.corrcoef(seen_pixels.ravel(), made_pixels.ravel())[0, 1]
        assert likeness > 0.95
        assert tint(viewer, shown, REMOVED).any()
        if not seen:
            keep(viewer.screenshot(), "ohif-key-image")
        seen.add(shown.sop_instance_uid)
    assert seen == set(made)
    assert viewer.faults == []


def test_an_untampered_study_has_no_overlay_and_a_report_without_signs(
    sent: Sent, page: Page, address: str, keep: Keep
) -> None:
    viewer = Ohif(page, address, sent.genuine.uid)
    assert sorted(viewer.listed()) == ["MR", "SR"]
    for shown in viewer.slices():
        assert not any(tint(viewer, shown, style.colour).any() for style in REGIONS.values())
    said = viewer.open_report("Scanwarden integrity summary")
    keep(viewer.screenshot(), "ohif-report-clear")
    assert "CLEAR: no sign of manipulation" in said
    assert "SUSPECT" not in said
    assert viewer.faults == []
