"""Writing is repeatable: the same revision gives the same files, whole or not at all."""

import logging
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread

from gateway.results import (
    EvidenceKind,
    NoSourceHeader,
    UnknownProfile,
    build_evidence,
    profile_named,
)
from gateway.results.profiles import ORTHANC
from inference.findings import StudyAnalysis
from tests.gateway.results.phantoms import AXIAL, GEOMETRIES, Geometry, abstention, analysis_of, write_phantom


@pytest.mark.parametrize("geometry", [AXIAL, *(g for g in GEOMETRIES if g.is_enhanced)], ids=lambda g: g.name)
def test_a_repeat_gives_the_same_bytes(geometry: Geometry, tmp_path: Path) -> None:
    phantom = write_phantom(tmp_path / "in", geometry)
    first = build_evidence(analysis_of(phantom), phantom.context(), ORTHANC, tmp_path / "1")
    context = phantom.context(files=tuple(reversed(phantom.files)))
    second = build_evidence(analysis_of(phantom), context, ORTHANC, tmp_path / "2")
    assert [file.path.name for file in first] == [file.path.name for file in second]
    assert [file.path.read_bytes() for file in first] == [file.path.read_bytes() for file in second]


def test_a_repeat_in_another_process_gives_the_same_bytes(tmp_path: Path) -> None:
    """Hash seeds and clocks differ there."""
    code = (
        "import sys; from pathlib import Path\n"
        "from gateway.results import build_evidence, profile_named\n"
        "from tests.gateway.results.phantoms import *\n"
        "folder = Path(sys.argv[1]); phantom = write_phantom(folder / 'in')\n"
        "build_evidence(analysis_of(phantom), phantom.context(), profile_named('orthanc'), folder / 'out')\n"
    )
    made = []
    for name, seed in (("a", "1"), ("b", "2")):
        subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / name)],
            check=True,
            env={"PYTHONHASHSEED": seed, "TZ": "UTC" if seed == "1" else "Asia/Tokyo"},
            cwd=Path(__file__).parents[3],
        )
        made.append({file.name: file.read_bytes() for file in (tmp_path / name / "out").iterdir()})
    assert made[0] == made[1]


def test_an_analysis_that_travelled_gives_the_same_bytes(tmp_path: Path) -> None:
    """The encode step loads what the analyse step saved."""
    phantom = write_phantom(tmp_path / "in")
    analysis = analysis_of(phantom)
    analysis.save(tmp_path / "kept")
    loaded = StudyAnalysis.load(tmp_path / "kept")
    before = build_evidence(analysis, phantom.context(), ORTHANC, tmp_path / "1")
    after = build_evidence(loaded, phantom.context(), ORTHANC, tmp_path / "2")
    assert [file.path.read_bytes() for file in before] == [file.path.read_bytes() for file in after]


def test_writing_again_into_the_same_folder_changes_nothing(tmp_path: Path) -> None:
    phantom = write_phantom(tmp_path / "in")
    for _ in range(2):
        files = build_evidence(analysis_of(phantom), phantom.context(), ORTHANC, tmp_path / "out")
        assert sorted((tmp_path / "out").iterdir()) == sorted(file.path for file in files)


def test_segs_come_first_and_the_report_last(tmp_path: Path) -> None:
    """A viewer that meets the report must find the segments that it refers to."""
    phantom = write_phantom(tmp_path / "in")
    files = build_evidence(analysis_of(phantom), phantom.context(), ORTHANC, tmp_path / "out")
    assert [file.kind for file in files] == [EvidenceKind.SEG, EvidenceKind.SR]
    for file in files:
        dataset = dcmread(file.path)
        assert (file.sop_instance_uid, file.sop_class_uid) == (dataset.SOPInstanceUID, dataset.SOPClassUID)
        assert file.series_uid == dataset.SeriesInstanceUID
        assert dataset.StudyInstanceUID == phantom.study_uid
        assert dataset.file_meta.TransferSyntaxUID == ORTHANC.transfer_syntax
        assert (dataset.PatientID, str(dataset.PatientName)) == ("P-4711", "Müster^Jürgen")


def test_a_profile_says_which_objects_there_are(tmp_path: Path) -> None:
    phantom = write_phantom(tmp_path / "in")
    only = replace(ORTHANC, name="only-sr", objects=(EvidenceKind.SR,))
    files = build_evidence(analysis_of(phantom), phantom.context(), only, tmp_path / "out")
    assert [file.kind for file in files] == [EvidenceKind.SR]


def test_a_crash_while_writing_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    phantom = write_phantom(tmp_path / "in")

    def fail(handle: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="no space"):
        build_evidence(analysis_of(phantom), phantom.context(), ORTHANC, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_without_any_header_nobody_knows_whose_study_it_is(tmp_path: Path) -> None:
    phantom = write_phantom(tmp_path / "in")
    for file in phantom.files:
        file.write_bytes(b"gone")
    with pytest.raises(NoSourceHeader, match="none of 6 files has a readable header"):
        build_evidence(abstention(phantom, "x"), phantom.context(), ORTHANC, tmp_path / "out")


def test_an_unknown_profile_is_refused_with_those_that_exist() -> None:
    with pytest.raises(UnknownProfile, match="one of: air, legacy, ohif, orthanc"):
        profile_named("nonesuch")


def test_no_patient_appears_in_logs_or_warnings(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    def change(dataset: Dataset) -> None:
        dataset.PatientName = "SECRET"  # no caret: highdicom would log it

    phantom = write_phantom(tmp_path / "in", change=change)
    with caplog.at_level(logging.DEBUG):
        build_evidence(analysis_of(phantom), phantom.context(), ORTHANC, tmp_path / "out")
    output = "".join(capfd.readouterr())
    assert "SECRET" not in caplog.text + output


def test_asking_for_the_vocabulary_of_results_loads_no_network(tmp_path: Path) -> None:
    code = "import sys, gateway.results; print([m for m in ('torch', 'cv2', 'highdicom') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3]
    )
    assert done.stdout.strip() == "[]"
