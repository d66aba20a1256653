"""Every object × geometry × profile: dciodvfy finds no error, DCMTK reads the documents, and all readers agree."""

import json
import re
import subprocess
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import highdicom
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from gateway.results import EvidenceFile, EvidenceKind, Predecessor, RevisionContext, build_evidence
from gateway.results.profiles import PROFILES, Profile
from inference.findings import StudyAnalysis, Verdict
from tests.gateway.results.phantoms import abstention, analysis_of, write_phantom
from tests.gateway.results.scans import SCANS, Scan, analysed, write_scan

pytestmark = pytest.mark.peers
Programs = Callable[..., str]

# One more, so that every object is checked, with empty frames and compressed.
EVERYTHING = Profile(
    "everything",
    tuple(EvidenceKind),
    summary=True,
    empty_frames=True,
    transfer_syntax=DeflatedExplicitVRLittleEndian,
    picture_syntax=RLELossless,
)
PLAIN = replace(EVERYTHING, name="plain", transfer_syntax=ImplicitVRLittleEndian, picture_syntax=ImplicitVRLittleEndian)
DOCUMENTS = (EvidenceKind.TEXT, EvidenceKind.PLANAR, EvidenceKind.SR, EvidenceKind.KOS)
# dicom3tools of 2024 does not know the class; highdicom and pydicom read it in test_geometry.
UNKNOWN_TO_DCIODVFY = EvidenceKind.LABELMAP


def faults(file: EvidenceFile, dciodvfy: str, dsrdump: str, dcmpschk: str, dcmconv: str) -> list[str]:
    """What the checkers call an error in one object."""
    found = []
    path = file.path
    if dcmread(path, stop_before_pixels=True).file_meta.TransferSyntaxUID == DeflatedExplicitVRLittleEndian:
        path = path.with_suffix(".inflated")  # which dciodvfy cannot do
        subprocess.run([dcmconv, "+te", str(file.path), str(path)], check=True)
    if file.kind is not UNKNOWN_TO_DCIODVFY:
        done = subprocess.run([dciodvfy, "-new", str(path)], capture_output=True, check=False)
        said = (done.stdout + done.stderr).decode("utf-8", "replace").splitlines()
        found += [line for line in said if line.startswith("Error")]
    if file.kind in DOCUMENTS:
        done = subprocess.run([dsrdump, "+Pl", str(file.path)], capture_output=True, check=False)
        said = done.stderr.decode("utf-8", "replace").splitlines()
        found += [line for line in said if line.startswith(("E:", "F:"))]
        if b"not a diagnosis" not in done.stdout:
            found.append("dsrdump does not show that it is no diagnosis")
    if file.kind is EvidenceKind.GSPS:
        done = subprocess.run([dcmpschk, str(file.path)], capture_output=True, check=False)
        said = (done.stdout + done.stderr).decode("utf-8", "replace").splitlines()
        found += [line for line in said if re.match(r"[EF]:|Error", line) or "Test failed" in line]
    return [f"{file.kind}: {fault}" for fault in found]


@pytest.fixture(scope="module")
def check(program: Programs) -> Callable[[Sequence[EvidenceFile]], None]:
    tools = (
        program("/usr/bin/dciodvfy", "dicom3tools"),
        program("/usr/bin/dsrdump", "dcmtk"),
        program("/usr/bin/dcmpschk", "dcmtk"),
        program("/usr/bin/dcmconv", "dcmtk"),
    )

    def checked(files: Sequence[EvidenceFile]) -> None:
        with ThreadPoolExecutor(4) as pool:
            found = [fault for each in pool.map(lambda file: faults(file, *tools), files) for fault in each]
        assert found == []

    return checked


@pytest.fixture(scope="module", params=SCANS, ids=lambda scan: scan.name)
def found(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[StudyAnalysis, RevisionContext]:
    scan: Scan = request.param
    analysis, context = analysed(write_scan(tmp_path_factory.mktemp(scan.name), scan))
    before = {kind: Predecessor("1.2.3", "1.2.3.4", 1) for kind in EvidenceKind}
    return analysis, replace(context, revision=2, predecessor=before[EvidenceKind.SR], predecessors=before)


@pytest.mark.parametrize("profile", [*PROFILES.values(), EVERYTHING], ids=lambda profile: profile.name)
def test_every_object_is_valid_in_every_geometry_and_profile(
    found: tuple[StudyAnalysis, RevisionContext],
    profile: Profile,
    tmp_path: Path,
    check: Callable[[Sequence[EvidenceFile]], None],
) -> None:
    files = build_evidence(*found, profile, tmp_path)
    assert {file.kind for file in files} == set(profile.objects)
    check(files)


@pytest.mark.parametrize("verdict", Verdict)
def test_every_object_is_valid_without_a_finding(
    verdict: Verdict, tmp_path: Path, check: Callable[[Sequence[EvidenceFile]], None]
) -> None:
    phantom = write_phantom(tmp_path / "in")
    analysis = abstention(phantom, "no model covers it")
    if verdict is not Verdict.ABSTAIN:
        analysis = analysis_of(phantom, [], verdict=verdict)
    check(build_evidence(analysis, phantom.context(), PLAIN, tmp_path / "out"))


@pytest.fixture(scope="module")
def oblique(tmp_path_factory: pytest.TempPathFactory) -> dict[EvidenceKind, Path]:
    folder = tmp_path_factory.mktemp("oblique")
    analysis, context = analysed(write_scan(folder / "in", SCANS[3]))
    profile = Profile("agreed", tuple(EvidenceKind))
    return {file.kind: file.path for file in build_evidence(analysis, context, profile, folder / "out")}


@pytest.mark.parametrize("kind", EvidenceKind)
def test_dcmtk_and_pydicom_read_the_same_values(
    kind: EvidenceKind, oblique: dict[EvidenceKind, Path], program: Programs
) -> None:
    dcm2json = program("/usr/bin/dcm2json", "dcmtk")
    done = subprocess.run([dcm2json, "-fc", str(oblique[kind])], capture_output=True, check=True)
    theirs = json.loads(done.stdout)
    ours = json.loads(dcmread(oblique[kind]).to_json())
    for read in (theirs, ours):
        read.pop("7FE00010", None)
    assert _plain(theirs) == _plain(ours)


def _plain(node: Any) -> Any:
    """DICOM JSON without what readers may write differently: floats to six digits, empty values, padding."""
    if isinstance(node, dict):
        plain = {key: _plain(value) for key, value in node.items() if key not in ("vr", "BulkDataURI", "InlineBinary")}
        return {key: value for key, value in plain.items() if value not in ([], None)}
    if isinstance(node, list):
        return [_plain(each) for each in node]
    if isinstance(node, str):
        try:
            return f"{float(node):.6g}"
        except ValueError:
            return node.strip()
    return f"{float(node):.6g}" if isinstance(node, int | float) else node


def test_dcmtk_pydicom_and_highdicom_read_the_same_report(oblique: dict[EvidenceKind, Path], program: Programs) -> None:
    dsrdump = program("/usr/bin/dsrdump", "dcmtk")
    text = subprocess.run(
        [dsrdump, "+Pl", str(oblique[EvidenceKind.SR])], capture_output=True, check=True
    ).stdout.decode()
    dataset = dcmread(oblique[EvidenceKind.SR])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        read = highdicom.sr.srread(oblique[EvidenceKind.SR])
        content: Any = read.content
        (group,) = content.get_volumetric_roi_measurement_groups()
        measured = {each.name.meaning: each.value for each in group.get_measurements()}
        seg = highdicom.seg.segread(oblique[EvidenceKind.SEG])
    by_hand = {
        item.ConceptNameCodeSequence[0].CodeMeaning: float(item.MeasuredValueSequence[0].NumericValue)
        for item in _groups(dataset)[1].ContentSequence
        if item.ValueType == "NUM"
    }
    assert measured == by_hand
    for name, value in by_hand.items():
        assert re.search(rf'NUM:\(,,"{name}"\)="{value:g}(\.0)?"', text), f"dsrdump says another {name}"
    assert group.tracking_uid in text
    assert seg.get_tracking_ids() == [(group.tracking_identifier, group.tracking_uid)]


def test_highdicom_reads_the_outline_that_pydicom_reads(oblique: dict[EvidenceKind, Path]) -> None:
    dataset = dcmread(oblique[EvidenceKind.PLANAR])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        content: Any = highdicom.sr.srread(oblique[EvidenceKind.PLANAR]).content
        (group,) = content.get_planar_roi_measurement_groups()
        polyline = group.roi.value.ravel().tolist()
    (outline,) = [item for item in _groups(dataset)[0].ContentSequence if item.ValueType == "SCOORD"]
    assert polyline == list(outline.GraphicData)


def _groups(report: Dataset) -> list[Dataset]:
    (container,) = [
        item for item in report.ContentSequence if item.ConceptNameCodeSequence[0].CodeMeaning == "Imaging Measurements"
    ]
    return list(container.ContentSequence)
