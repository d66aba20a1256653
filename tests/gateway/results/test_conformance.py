"""Other people's programs agree: dicom3tools finds no error, DCMTK reads the reports, Orthanc stores and returns."""

import subprocess
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.filebase import DicomBytesIO

from gateway.results import EvidenceFile, Predecessor, build_evidence
from gateway.results.profiles import ORTHANC, PROFILES
from inference.findings import Verdict
from tests.gateway.results.phantoms import (
    GEOMETRIES,
    Geometry,
    Phantom,
    abstention,
    analysis_of,
    make_secondary_capture,
    read_study,
    write_pdf_study,
    write_phantom,
)
from tests.peers import ORTHANC as ORTHANC_PROGRAM
from tests.peers import Orthanc, running_orthanc

pytestmark = pytest.mark.peers
UNCHECKED_CHARACTER_SET = "W: The VR checker does not support this Specific Character Set: ISO_IR 192"
Programs = Callable[..., str]

REAL = ["flair-glioma/HF0990", "flair-glioma/HF1058", "flair-glioma/HF1097", "flair-glioma/HF1139", "t1-healthy"]
REAL_BOXES = [(10, 90, 100, 18, 120, 140), (30, 40, 50, 33, 61, 70), (16, 150, 60, 20, 170, 90)]


@pytest.fixture
def assert_valid(program: Programs) -> Callable[[Sequence[EvidenceFile]], None]:
    """Every object passes dciodvfy without an error and every report opens in dsrdump without a complaint."""
    dciodvfy = program("/usr/bin/dciodvfy", "dicom3tools")
    dsrdump = program("/usr/bin/dsrdump", "dcmtk")

    def check(files: Sequence[EvidenceFile]) -> None:
        assert files
        for file in files:
            done = subprocess.run([dciodvfy, "-new", str(file.path)], capture_output=True, check=False)
            said = (done.stdout + done.stderr).decode("utf-8", "replace").splitlines()
            errors = [line for line in said if line.startswith("Error")]
            assert errors == []
            assert done.returncode == 0
        done = subprocess.run([dsrdump, "+Pl", str(files[-1].path)], capture_output=True, check=False)
        assert done.returncode == 0
        assert [line for line in done.stderr.decode().splitlines() if line != UNCHECKED_CHARACTER_SET] == []
        assert "Software integrity check, not a diagnosis." in done.stdout.decode("utf-8", "replace")

    return check


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=lambda geometry: geometry.name)
def test_every_geometry_is_valid(
    geometry: Geometry, tmp_path: Path, assert_valid: Callable[[Sequence[EvidenceFile]], None]
) -> None:
    phantom = write_phantom(tmp_path / "in", geometry)
    assert_valid(build_evidence(analysis_of(phantom), phantom.context(), ORTHANC, tmp_path / "out"))


@pytest.mark.real_data
@pytest.mark.parametrize("name", REAL)
def test_evidence_on_real_studies_is_valid(
    name: str, scanwarden_data: Path, tmp_path: Path, assert_valid: Callable[[Sequence[EvidenceFile]], None]
) -> None:
    phantom = read_study(scanwarden_data / "dicom" / name)
    files = build_evidence(analysis_of(phantom, REAL_BOXES), phantom.context(), ORTHANC, tmp_path)
    assert len(files) == 2
    assert_valid(files)


@pytest.mark.real_data
@pytest.mark.parametrize("number", range(1, 10))
def test_a_report_on_every_transfer_syntax_is_valid(
    number: int, scanwarden_data: Path, tmp_path: Path, assert_valid: Callable[[Sequence[EvidenceFile]], None]
) -> None:
    phantom = read_study(scanwarden_data / "dicom" / "transfer-syntaxes", f"{number}.dcm")
    files = build_evidence(abstention(phantom, "a mosaic is no slice"), phantom.context(), ORTHANC, tmp_path)
    assert_valid(files)


@pytest.mark.parametrize("verdict", Verdict)
def test_every_verdict_without_finding_is_valid(
    verdict: Verdict, tmp_path: Path, assert_valid: Callable[[Sequence[EvidenceFile]], None]
) -> None:
    phantom = write_phantom(tmp_path / "in")
    context = phantom.context(revision=2, predecessor=Predecessor("1.2.3", "1.2.3.4", 1))
    analysis = replace(analysis_of(phantom, [], verdict=verdict), models=())
    assert_valid(build_evidence(analysis, context, ORTHANC, tmp_path / "out"))


def test_empty_frames_and_many_findings_are_valid(
    tmp_path: Path, assert_valid: Callable[[Sequence[EvidenceFile]], None]
) -> None:
    phantom = write_phantom(tmp_path / "in")
    profile = replace(ORTHANC, name="full", empty_frames=True)
    boxes = [(k % 6, row, 3, k % 6 + 1, row + 1, 9) for k, row in enumerate(range(25))]
    assert_valid(build_evidence(analysis_of(phantom, boxes), phantom.context(), profile, tmp_path / "out"))


def test_a_report_on_a_pdf_is_valid(tmp_path: Path, assert_valid: Callable[[Sequence[EvidenceFile]], None]) -> None:
    phantom = write_pdf_study(tmp_path / "in")
    assert_valid(build_evidence(abstention(phantom, "no image"), phantom.context(), ORTHANC, tmp_path / "out"))


def _lossy(dataset: Dataset) -> None:
    dataset.LossyImageCompression = "01"
    dataset.LossyImageCompressionRatio = "10"
    dataset.LossyImageCompressionMethod = "ISO_10918_1"


def _unknown_class(dataset: Dataset) -> None:
    dataset.SOPClassUID = "1.2.840.113619.4.26"


def _emptied(dataset: Dataset) -> None:
    for keyword in ("PatientName", "PatientID", "PatientSex", "StudyDate", "StudyTime", "Modality", "SliceThickness"):
        setattr(dataset, keyword, None)


def _stripped(dataset: Dataset) -> None:
    for keyword in ("PatientName", "PatientID", "StudyTime", "SpecificCharacterSet", "SeriesNumber", "InstanceNumber"):
        delattr(dataset, keyword)


def _nonsense(dataset: Dataset) -> None:
    dataset.PatientSex = "0000"
    dataset.PatientBirthDate = "00000000"
    dataset.StudyDate = "2026.11.19"
    dataset.StudyTime = "25:61:99"
    dataset.PatientName = "a^b^c^d^e^f^g=h=i=j"
    dataset.PatientID = "  4711" + "x" * 70
    dataset.AccessionNumber = "0123456789ABCDEF0"
    dataset.PatientAge = "forty"
    dataset.PatientIdentityRemoved = "YES"


def _long_cosines(dataset: Dataset) -> None:
    dataset.ImageOrientationPatient = ["0.999999999999999999", "1e-21", "0", "-1e-21", "0.99999999999999999", "0"]


@pytest.mark.parametrize(
    "change", [_lossy, _unknown_class, _emptied, _stripped, _nonsense, _long_cosines, make_secondary_capture]
)
def test_headers_that_break_the_standard_do_not_break_ours(
    change: Callable[[Dataset], None], tmp_path: Path, assert_valid: Callable[[Sequence[EvidenceFile]], None]
) -> None:
    def quietly(dataset: Dataset) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            change(dataset)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom says while writing what we know
        phantom = write_phantom(tmp_path / "in", change=quietly)
    files = build_evidence(analysis_of(phantom), phantom.context(), ORTHANC, tmp_path / "out")
    assert len(files) == (1 if change is make_secondary_capture else 2)
    assert_valid(files)


@pytest.fixture(scope="module")
def orthanc(program: Programs) -> Iterator[Orthanc]:
    program(ORTHANC_PROGRAM, "orthanc")
    with running_orthanc() as running:
        yield running


@pytest.mark.real_data
@pytest.mark.parametrize("name", REAL)
def test_a_real_pacs_files_the_evidence_under_its_study_and_gives_it_back(
    name: str, scanwarden_data: Path, tmp_path: Path, orthanc: Orthanc, program: Programs
) -> None:
    storescu = program("/usr/bin/storescu", "dcmtk")
    phantom: Phantom = read_study(scanwarden_data / "dicom" / name)
    files = build_evidence(analysis_of(phantom, REAL_BOXES), phantom.context(), ORTHANC, tmp_path)
    made = [str(file.path) for file in files]
    for paths in ([*map(str, phantom.files), *made], made):  # a delivery may be repeated
        subprocess.run(
            [storescu, "-R", "-aec", orthanc.ae_title, orthanc.host, str(orthanc.dicom_port), *paths], check=True
        )
    expected = sorted([*phantom.instance_uids, *(file.sop_instance_uid for file in files)])
    assert orthanc.instances(phantom.study_uid) == expected
    assert orthanc.studies().count(phantom.study_uid) == 1, "the evidence must not open a second study of that UID"
    for file in files:
        assert orthanc.instances(phantom.study_uid, file.kind.value) == [file.sop_instance_uid]
        returned = dcmread(DicomBytesIO(orthanc.file(file.sop_instance_uid)))
        assert returned == dcmread(file.path)


def test_a_real_pacs_takes_every_object_of_every_profile(tmp_path: Path, orthanc: Orthanc, program: Programs) -> None:
    storescu = program("/usr/bin/storescu", "dcmtk")
    phantom = write_phantom(tmp_path / "in")
    made = [
        file
        for profile in PROFILES.values()
        for file in build_evidence(analysis_of(phantom), phantom.context(), profile, tmp_path / profile.name)
    ]
    paths = [*map(str, phantom.files), *(str(file.path) for file in made)]
    address = ["-aec", orthanc.ae_title, orthanc.host, str(orthanc.dicom_port)]
    subprocess.run([storescu, "-R", *address, *paths], check=True)
    expected = sorted([*phantom.instance_uids, *(file.sop_instance_uid for file in made)])
    assert orthanc.instances(phantom.study_uid) == expected
    for file in made:
        assert dcmread(DicomBytesIO(orthanc.file(file.sop_instance_uid))) == dcmread(file.path)
