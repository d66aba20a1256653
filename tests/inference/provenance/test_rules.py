"""Each rule on a manipulated series that it speaks about, beside the genuine twin on which it is quiet."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom import FileDataset, dcmread
from pydicom.uid import UID

from inference.findings import Observation, Severity
from inference.instances import read_instance
from inference.provenance import StudyFacts, observe, observe_pixels, rules
from inference.provenance.grid import grid_excess
from inference.provenance.histogram import comb
from inference.provenance.noise import copied_noise
from inference.volume import group_series, load_volume
from models.tampering.phantom import make_phantom_study

Change = Callable[[FileDataset, int], None]
RNG = 20
EVENTS = ("Study", "Series", "Acquisition", "Content")


def said(files: list[Path], *, pixels: bool = False) -> dict[str, Observation]:
    instances = [read_instance(file) for file in files]
    stacks = tuple(stack for series in group_series(instances) for stack in series.stacks())
    found = list(observe(StudyFacts(tuple(instances), stacks)))
    for stack in stacks if pixels else ():
        volume = load_volume(stack, max_voxels=1 << 26).volume
        assert volume is not None
        found += observe_pixels(volume)
    return {each.rule: each for each in found}


def scanner(dataset: FileDataset, index: int) -> None:
    """What a scanner of a large maker writes."""
    dataset.Manufacturer, dataset.ManufacturerModelName, dataset.DeviceSerialNumber = "SIEMENS", "Test", "1"
    dataset.SOPInstanceUID = UID(f"1.3.12.2.1107.5.2.1.{index + 1}")
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.ImplementationClassUID = UID("1.3.12.2.1107.5.2")
    dataset.file_meta.ImplementationVersionName = "MR_B17"
    dataset.SliceLocation = float(dataset.ImagePositionPatient[2])
    dataset.PatientID, dataset.PatientName, dataset.PatientBirthDate = "SECRET-ID", "SECRET^NAME", "19800102"
    dataset.PatientAge, dataset.AccessionNumber, dataset.StudyID = "040Y", "SECRET-ACC", "1"
    for event in EVENTS:
        setattr(dataset, f"{event}Date", "20200302")
        setattr(dataset, f"{event}Time", "101500.25")
    dataset.SeriesNumber = 1


@pytest.fixture
def series(write_series: Any, brain: NDArray[np.uint16]) -> list[Path]:
    return edited(write_series(np.concatenate([brain, brain + 2400])), scanner)


def edited(files: list[Path], change: Change, only: tuple[int, ...] | None = None) -> list[Path]:
    for index, file in enumerate(files):
        if only is None or index in only:
            dataset = dcmread(file)
            change(dataset, index)
            dataset.save_as(file)
    return files


def assign(**values: Any) -> Change:
    def change(dataset: FileDataset, _: int) -> None:
        for keyword, value in values.items():
            setattr(dataset, keyword, value)

    return change


def test_a_series_as_a_scanner_writes_it_shows_nothing_but_that_its_localiser_is_absent(series: list[Path]) -> None:
    assert set(said(series, pixels=True)) <= {"no-localiser"}


@pytest.mark.parametrize(
    ("rule", "severity", "change", "only"),
    [
        ("uid-of-another-maker", Severity.WARNING, assign(Manufacturer="GE MEDICAL SYSTEMS"), None),
        ("uid-of-a-tool", Severity.INFO, assign(SOPInstanceUID="2.25.77"), (3,)),
        ("several-uid-roots", Severity.WARNING, assign(SOPInstanceUID="2.25.77"), (3,)),
        ("several-devices", Severity.WARNING, assign(DeviceSerialNumber="2"), (3,)),
        ("patient-differs", Severity.INCIDENT, assign(PatientID="OTHER"), (3,)),
        ("patient-differs", Severity.WARNING, assign(PatientName="OTHER"), (3,)),
        ("study-differs", Severity.WARNING, assign(AccessionNumber="OTHER"), (3,)),
        ("study-differs", Severity.INFO, assign(StudyTime="090000"), (3,)),
        ("age-differs", Severity.INFO, assign(PatientAge="060Y"), None),
        ("content-before-acquisition", Severity.WARNING, assign(ContentTime="100000"), (3,)),
        ("acquisition-before-study", Severity.WARNING, assign(AcquisitionDate="20200220"), None),
        ("acquisition-told-twice", Severity.WARNING, assign(AcquisitionDateTime="20200108101500"), None),
        ("series-over-days", Severity.WARNING, assign(AcquisitionTime="233000", ContentTime="233001"), (3,)),
        ("dates-far-apart", Severity.INFO, assign(ContentDate="20210302"), None),
        ("slice-location-differs", Severity.WARNING, assign(SliceLocation=44.0), (3,)),
        ("beside-the-stack", Severity.WARNING, assign(ImagePositionPatient=[-10, -30, 9]), (3,)),
        ("spacing-differs", Severity.INFO, assign(SpacingBetweenSlices=9.0), None),
        ("instance-number-twice", Severity.WARNING, assign(InstanceNumber=9), (3,)),
        ("instance-number-missing", Severity.INFO, assign(InstanceNumber=18), (15,)),
        ("fewer-than-stated", Severity.INFO, assign(NumberOfSeriesRelatedInstances=40), None),
        ("more-than-stated", Severity.INFO, assign(NumberOfSeriesRelatedInstances=4), None),
        ("more-than-acquired", Severity.WARNING, assign(ImagesInAcquisition=15), None),
        ("lossy-in-part", Severity.WARNING, assign(LossyImageCompression="01"), (3,)),
        ("lossy-denied", Severity.WARNING, assign(LossyImageCompressionRatio=12.5), (3,)),
        ("lossy-ratio-wrong", Severity.INFO, assign(LossyImageCompression="01", LossyImageCompressionRatio=0.2), None),
    ],
)  # fmt: skip
def test_a_rule_speaks_about_what_it_is_for(
    series: list[Path], rule: str, severity: Severity, change: Change, only: tuple[int, ...] | None
) -> None:
    assert rule not in said(series)
    seen = said(edited(series, change, only))[rule]
    assert seen.severity is severity
    assert "SECRET" not in f"{seen.to_json()}"
    if only is not None and rule != "instance-number-missing":
        assert read_instance(series[only[0]]).sop_instance_uid in seen.sop_instance_uids


def test_a_file_header_of_another_class_or_version_is_seen(series: list[Path]) -> None:
    def change(dataset: FileDataset, _: int) -> None:
        dataset.file_meta.MediaStorageSOPClassUID = UID("1.2.840.10008.5.1.4.1.1.2")
        dataset.file_meta.ImplementationVersionName = "EDITOR_1"

    seen = said(edited(series, change, (3,)))
    assert {"file-meta-class-differs", "several-writer-versions"} <= set(seen)


def test_slices_that_changed_places_are_seen(series: list[Path]) -> None:
    places = [dcmread(series[index]).ImagePositionPatient for index in (3, 9)]
    edited(series, assign(ImagePositionPatient=places[1]), (3,))
    edited(series, assign(ImagePositionPatient=places[0]), (9,))
    assert {"instance-number-order", "slice-location-differs"} <= set(said(series))


def test_two_series_of_one_number_are_seen(series: list[Path]) -> None:
    seen = said(edited(series, assign(SeriesInstanceUID="1.2.3.4"), tuple(range(8))))
    assert seen["series-number-twice"].severity is Severity.INFO


def test_pixels_outside_the_range_that_the_header_gives_are_seen(series: list[Path]) -> None:
    def truth(dataset: FileDataset, _: int) -> None:
        pixels = dataset.pixel_array
        dataset.add_new("SmallestImagePixelValue", "US", int(pixels.min()))
        dataset.add_new("LargestImagePixelValue", "US", int(pixels.max()))

    assert "pixel-range-differs" not in said(edited(series, truth), pixels=True)

    def brighter(dataset: FileDataset, _: int) -> None:
        pixels = dataset.pixel_array.copy()
        pixels[10:20, 10:20] = 60000
        dataset.PixelData = pixels.tobytes()

    seen = said(edited(series, brighter, (3,)), pixels=True)["pixel-range-differs"]
    assert seen.sop_instance_uids == (read_instance(series[3]).sop_instance_uid,)


def test_a_comb_in_some_slices_only_says_so(tmp_path: Path) -> None:
    files = make_phantom_study(tmp_path, np.random.default_rng(RNG), slices=10, matrix=128)
    assert not {"comb", "comb-in-part"} & set(said(files, pixels=True))

    def stretched(dataset: FileDataset, _: int) -> None:
        dataset.PixelData = np.rint(dataset.pixel_array * 1.6).astype(np.uint16).tobytes()

    assert "comb-in-part" in said(edited(files, stretched, (3, 4)), pixels=True)
    assert "comb" in said(edited(files, stretched, (0, 1, 2, 5, 6, 7, 8, 9)), pixels=True)


def test_a_rule_that_fails_becomes_an_observation_and_logs_no_value(
    series: list[Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    quiet = set(said(series))

    def broken_rule(facts: StudyFacts) -> list[Observation]:
        raise ValueError("SECRET^NAME")

    monkeypatch.setattr(rules, "RULES", [broken_rule, *rules.RULES])
    seen = said(series)
    assert set(seen) == quiet | {"rule-failed"}
    assert seen["rule-failed"].severity is Severity.INFO
    assert "broken rule" in seen["rule-failed"].text
    assert "SECRET" not in caplog.text + f"{seen['rule-failed'].to_json()}"
    assert "broken_rule" in caplog.text


@settings(deadline=None, max_examples=12)
@given(
    gain=st.floats(1.35, 4.0).filter(lambda gain: abs(gain - round(gain)) > 0.05),
    seed=st.integers(0, 50),
)
def test_stretching_leaves_a_comb_whatever_the_gain(gain: float, seed: int) -> None:
    values = np.rint(np.random.default_rng(seed).normal(500, 60, 40_000))
    assert comb(values) < 0.02
    assert comb(np.rint(values * gain)) > 0.12


@settings(deadline=None, max_examples=12)
@given(row=st.integers(0, 7), column=st.integers(0, 7))
def test_the_grid_is_found_at_any_phase(row: int, column: int) -> None:
    plane = np.random.default_rng(3).normal(100, 8, (136, 136)).astype(np.float32)
    blocks = np.kron(np.random.default_rng(4).normal(0, 6, (17, 17)), np.ones((8, 8))).astype(np.float32)
    gridded = (plane + blocks)[row : row + 128, column : column + 128]
    assert grid_excess(gridded).max(axis=1).min() > 2 * grid_excess(plane[:128, :128]).max(axis=1).max()


@settings(deadline=None, max_examples=12)
@given(down=st.integers(30, 60), across=st.integers(-40, 40), plane=st.integers(0, 3), seed=st.integers(0, 5))
def test_copied_noise_is_found_at_any_displacement(down: int, across: int, plane: int, seed: int) -> None:
    volume = np.random.default_rng(seed).normal(100, 5, (4, 160, 160)).astype(np.float32)
    assert copied_noise(volume, 8.5) == []
    noise = volume[plane, 10 + down : 42 + down, 60 + across : 92 + across].copy()
    volume[1, 10:42, 60:92] = noise
    if plane == 1 and not across and down < 32:
        return
    found = copied_noise(volume, 8.5)
    assert found
    step = found[0].displacement
    assert step in {(plane - 1, down, across), (1 - plane, -down, -across)}


def test_origins_read_what_makes_sense_and_nothing_else(series: list[Path]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's opinion of what we write on purpose
        values = {"PatientAge": "OLD", "AcquisitionTime": "noon", "AcquisitionDate": "***"}
        edited(series, assign(**values, SliceLocation=None, SeriesNumber=None), (0,))
    origin = read_instance(series[0]).origin
    assert "Acquisition" not in origin.times
    assert (origin.age_differs, origin.slice_location, origin.series_number) == (None, None, None)
    assert origin.patient == read_instance(series[1]).origin.patient
    assert replace(origin, serial="9").device != origin.device
