"""Attacks on a study before it is sent, seen in what the files say of themselves; each beside an untouched twin.

The twin is the same study, unedited, through the same rules: it must not raise the observation that the attack raises.
"""

import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.uid import UID

from inference.findings import Observation, Severity
from inference.instances import read_instance
from inference.provenance import Baseline, StudyFacts, by_device, observe, observe_pixels
from inference.volume import group_series, load_volume
from models.tampering.phantom import make_phantom_study

SLICES, MATRIX = 12, 160


@pytest.fixture(scope="module")
def scanned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A phantom as a scanner with private blocks writes it."""
    folder = tmp_path_factory.mktemp("scanned")
    for file in make_phantom_study(folder, np.random.default_rng(11), slices=SLICES, matrix=MATRIX):
        dataset = dcmread(file)
        dataset.Manufacturer, dataset.DeviceSerialNumber = "MAKER", "1"
        dataset.AcquisitionDate, dataset.AcquisitionTime = dataset.StudyDate, dataset.StudyTime
        del dataset.SmallestImagePixelValue, dataset.LargestImagePixelValue
        block = dataset.private_block(0x0029, "MAKER HEADER", create=True)
        block.add_new(0x10, "LO", "protocol")
        dataset.save_as(file)
    return folder


@pytest.fixture
def study(scanned: Path, tmp_path: Path) -> list[Path]:
    return sorted(Path(shutil.copytree(scanned, tmp_path / "study")).glob("*.dcm"))


def alarms(files: list[Path], *, pixels: bool = False) -> dict[str, Observation]:
    """What keeps the study from CLEAR."""
    instances = [read_instance(file) for file in files]
    stacks = tuple(stack for series in group_series(instances) for stack in series.stacks())
    baselines = {device: _habits(files[0].parent) for device in by_device(instances)}
    found = list(observe(StudyFacts(tuple(instances), stacks, baselines)))
    for stack in stacks if pixels else ():
        volume = load_volume(stack, max_voxels=1 << 24).volume
        assert volume is not None
        found += observe_pixels(volume)
    return {each.rule: each for each in found if each.severity is not Severity.INFO}


def _habits(folder: Path) -> Baseline:
    """Eight studies of the scanner as it writes them: what is here now, with its private block."""
    first = read_instance(min(folder.glob("*.dcm")))
    whole = replace(first, origin=replace(first.origin, private_creators=frozenset({"MAKER HEADER"})))
    baseline = Baseline()
    for _ in range(8):
        baseline = baseline.update([whole])
    return baseline


def replace_pixels(file: Path, pixels: NDArray[np.generic]) -> None:
    dataset = dcmread(file)
    dataset.PixelData = np.ascontiguousarray(pixels.astype("<u2")).tobytes()
    dataset.save_as(file)


def stored(files: list[Path]) -> NDArray[np.float32]:
    return np.stack([dcmread(file).pixel_array for file in files]).astype(np.float32)


def test_an_untouched_study_raises_no_alarm(study: list[Path]) -> None:
    assert alarms(study, pixels=True) == {}


def test_attack_a_pixel_edit_under_noise_copied_from_another_place_of_the_scan(study: list[Path]) -> None:
    """CT-GAN's touch-up (Mirsky 2019): smooth content, covered with the scan's own noise; the header stays."""
    volume = stored(study)
    residual = volume - np.stack([cv2.GaussianBlur(plane, (0, 0), 1.2) for plane in volume])
    for index in (5, 6, 7):
        smooth = cv2.GaussianBlur(volume[index], (0, 0), 4)[60:96, 40:76]
        volume[index, 60:96, 40:76] = np.rint(smooth + 40 + residual[index - 2, 62:98, 90:126])
        replace_pixels(study[index], np.clip(volume[index], 0, 4095))
    seen = alarms(study, pixels=True)
    assert set(seen) == {"copied-noise"}
    edited = {str(dcmread(study[index]).SOPInstanceUID) for index in (5, 6, 7)}
    assert edited & set(seen["copied-noise"].sop_instance_uids)
    move = seen["copied-noise"].evidence["copies"][0]["displacement"]
    assert [abs(step) for step in move] == [2, 2, 50]


def test_attack_a_slice_is_deleted(study: list[Path]) -> None:
    assert set(alarms([*study[:5], *study[6:]])) == {"missing-slices"}


def test_attack_a_slice_is_inserted_twice(study: list[Path]) -> None:
    dataset = dcmread(study[5])
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = UID("2.25.5")
    dataset.ImagePositionPatient = [*dataset.ImagePositionPatient[:2], float(dataset.ImagePositionPatient[2]) + 1.5]
    added = study[5].with_name("added.dcm")
    dataset.save_as(added)
    seen = alarms([*study, added])
    assert {"instance-number-twice", "slice-location-differs"} <= set(seen)
    assert "2.25.5" in seen["slice-location-differs"].sop_instance_uids


def test_attack_slices_are_reordered_and_keep_their_numbers(study: list[Path]) -> None:
    first, second = dcmread(study[3]), dcmread(study[9])
    first.ImagePositionPatient, second.ImagePositionPatient = second.ImagePositionPatient, first.ImagePositionPatient
    first.save_as(study[3])
    second.save_as(study[9])
    seen = alarms(study)
    assert set(seen) == {"instance-number-order", "slice-location-differs"}
    assert set(seen["slice-location-differs"].sop_instance_uids) == {
        str(first.SOPInstanceUID),
        str(second.SOPInstanceUID),
    }


def test_attack_a_patient_is_swapped_within_a_study(study: list[Path]) -> None:
    dataset = dcmread(study[5])
    dataset.PatientID, dataset.PatientName = "OTHER-ID", "OTHER^NAME"
    dataset.save_as(study[5])
    seen = alarms(study)["patient-differs"]
    assert seen.severity is Severity.INCIDENT
    assert seen.sop_instance_uids == (str(dataset.SOPInstanceUID),)
    assert "OTHER" not in f"{seen.to_json()}"


def test_attack_times_contradict_each_other(study: list[Path]) -> None:
    for file in study:
        dataset = dcmread(file)
        dataset.AcquisitionTime, dataset.ContentTime = "120000", "110000"
        dataset.save_as(file)
    assert set(alarms(study)) == {"content-before-acquisition"}


def test_attack_a_lossy_recompressed_study_is_flagged_lossless(study: list[Path]) -> None:
    for file, plane in zip(study, stored(study), strict=True):
        _, code = cv2.imencode(".jpg", np.clip(plane / 3, 0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 75])
        replace_pixels(file, np.asarray(cv2.imdecode(code, cv2.IMREAD_GRAYSCALE)).astype(np.uint16) * 3)
    assert "jpeg-grid" in alarms(study, pixels=True)


def test_attack_private_blocks_are_stripped(study: list[Path]) -> None:
    for file in study:
        dataset = dcmread(file)
        dataset.remove_private_tags()
        dataset.save_as(file)
    assert set(alarms(study)) == {"private-block-missing"}


def test_attack_a_study_is_saved_again_through_a_window(study: list[Path]) -> None:
    for file, plane in zip(study, stored(study), strict=True):
        grey = np.rint(np.clip(plane / 700, 0, 1) * 255)
        replace_pixels(file, np.rint(grey / 255 * 700))
    assert set(alarms(study, pixels=True)) == {"comb"}
