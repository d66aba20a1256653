"""What headers give away without any history."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.uid import UID

from inference.findings import Observation, Severity
from inference.instances import read_instance
from inference.provenance import StudyFacts, observe
from inference.volume import group_series

Brain = NDArray[np.uint16]


def observations(files: list[Any]) -> dict[str, Observation]:
    instances = [read_instance(file) for file in files]
    stacks = tuple(stack for series in group_series(instances) for stack in series.stacks())
    return {each.rule: each for each in observe(StudyFacts(tuple(instances), stacks))}


def test_a_plain_series_shows_nothing(write_series: Any, brain: Brain) -> None:
    assert observations(write_series(brain)) == {}


def test_a_file_header_of_another_instance_is_seen(write_series: Any, brain: Brain) -> None:
    files = write_series(brain)
    dataset = dcmread(files[2])
    dataset.file_meta.MediaStorageSOPInstanceUID = UID("1.2.3.4")
    dataset.save_as(files[2])
    seen = observations(files)["file-meta-differs"]
    assert seen.severity is Severity.WARNING
    assert seen.sop_instance_uids == (dataset.SOPInstanceUID,)
    assert seen.evidence["media_storage_sop_instance_uids"] == ["1.2.3.4"]


def test_a_file_that_other_software_wrote_is_seen(write_series: Any, brain: Brain) -> None:
    files = write_series(brain)
    dataset = dcmread(files[5])
    dataset.file_meta.ImplementationClassUID = UID("1.2.3.4")
    dataset.save_as(files[5])
    seen = observations(files)["several-writers"]
    assert seen.sop_instance_uids == (dataset.SOPInstanceUID,)
    assert seen.text.startswith("1 instance of a series was written by other software")


@pytest.mark.parametrize(
    ("places", "rule", "severity"),
    [
        ([0, 3, 6, 9, 9, 12, 15, 18], "two-at-one-place", Severity.WARNING),
        ([0, 3, 6, 12, 15, 18, 21, 24], "missing-slices", Severity.WARNING),
        ([0, 3, 6, 9.5, 12, 15, 18, 21], "unequal-spacing", Severity.INFO),
    ],
)
def test_stacks_that_are_not_whole_are_seen(
    write_series: Any, brain: Brain, places: list[float], rule: str, severity: Severity
) -> None:
    assert observations(write_series(brain, places=places))[rule].severity is severity


def test_a_lossy_past_and_a_derived_image_are_facts_without_blame(write_series: Any, brain: Brain) -> None:
    seen = observations(write_series(brain, LossyImageCompression="01", ImageType=["DERIVED", "SECONDARY"]))
    assert {each.severity for each in seen.values()} == {Severity.INFO}
    assert set(seen) == {"lossy-history", "derived-images"}


def test_a_lossy_syntax_that_is_not_declared_is_seen(
    make_head: Any, write_dataset: Any, tmp_path: Any, brain: Brain
) -> None:
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEGExtended12Bit

    dataset = make_head(brain[0], PixelData=encapsulate([b"\xff\xd8\xff\xd9"]))
    file = write_dataset(dataset, tmp_path / "lossy.dcm", syntax=JPEGExtended12Bit)
    assert observations([file])["lossy-not-declared"].severity is Severity.WARNING
