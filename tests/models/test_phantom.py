import datetime as dt
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pydicom
import pytest

from models.tampering import phantom
from models.tampering.phantom import make_phantom_study, phantom_volume


def test_the_same_seed_gives_the_same_head() -> None:
    first, second = (phantom_volume(np.random.default_rng(1), slices=3, matrix=64) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_a_lesion_is_brighter_than_the_head_without_it() -> None:
    without, with_lesion = (phantom_volume(np.random.default_rng(1), 8, 96, lesion=lesion) for lesion in (False, True))
    assert (with_lesion.astype(int) - without).max() > 100


def test_the_series_is_one_series_in_order_with_its_geometry(study: Path) -> None:
    headers = [pydicom.dcmread(path) for path in sorted(study.glob("*.dcm"))]
    assert len({header.SeriesInstanceUID for header in headers}) == 1
    assert [header.ImagePositionPatient[2] for header in headers] == [0, 3, 6, 9, 12, 15]
    assert {(header.Modality, header.BodyPartExamined, str(header.PatientName)) for header in headers} == {
        ("MR", "BRAIN", "PHANTOM^SCANWARDEN")
    }


def test_a_study_that_takes_long_to_write_has_one_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else provenance says of some of its instances that they may come from another study."""
    clock = (dt.datetime(2026, 11, 20, 9, 0, second, tzinfo=dt.UTC) for second in range(60))
    monkeypatch.setattr(phantom, "dt", SimpleNamespace(datetime=SimpleNamespace(now=lambda _: next(clock)), UTC=dt.UTC))
    paths = make_phantom_study(tmp_path, np.random.default_rng(0), slices=3, matrix=64)
    assert {str(pydicom.dcmread(path).StudyTime) for path in paths} == {"090000"}


@pytest.mark.peers
def test_dciodvfy_finds_no_error_in_the_phantom(study: Path, tmp_path: Path, program: Callable[..., str]) -> None:
    verifier = program("/usr/bin/dciodvfy", "dicom3tools")
    for path in make_phantom_study(tmp_path, np.random.default_rng(0), slices=2, matrix=64, lesion=True):
        said = subprocess.run([verifier, "-new", str(path)], capture_output=True, text=True, check=False)
        assert "Error" not in said.stdout + said.stderr
