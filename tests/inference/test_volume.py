"""Order, spacing and grouping of slices come from geometry."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset

from inference.errors import TooLarge
from inference.instances import read_instance
from inference.volume import ProblemKind, group_series, load_volume, read_volumes

Brain = NDArray[np.uint16]


def kinds(volume: Any) -> set[ProblemKind]:
    return {problem.kind for problem in volume.problems}


def test_a_series_becomes_one_volume_in_rescaled_units(write_series: Any, brain: Brain) -> None:
    (volume,) = read_volumes(write_series(brain, RescaleSlope=2, RescaleIntercept=-10))
    assert volume.voxels.dtype == np.float32
    assert np.array_equal(volume.voxels, brain * 2.0 - 10)
    assert volume.spacing == (3.0, 0.5, 0.75)
    assert volume.source_shape == brain.shape
    assert not volume.problems


@given(order=st.permutations(range(8)), shuffled_numbers=st.permutations(range(1, 9)))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_neither_file_order_nor_instance_number_moves_a_slice(
    write_series: Any, brain: Brain, order: list[int], shuffled_numbers: list[int]
) -> None:
    files = write_series(brain)
    for file, number in zip(files, shuffled_numbers, strict=True):
        dataset = dcmread(file)
        dataset.InstanceNumber = number
        dataset.save_as(file)
    (volume,) = read_volumes([files[index] for index in order])
    assert np.array_equal(volume.voxels, brain)
    assert [source.file for source in volume.instances] == files


def test_slices_are_counted_along_row_times_column(write_series: Any, brain: Brain) -> None:
    (volume,) = read_volumes(write_series(brain, ImageOrientationPatient=[1, 0, 0, 0, -1, 0]))
    assert np.array_equal(volume.voxels, brain[::-1])


def test_the_affine_leads_every_pixel_to_its_place_in_the_patient(write_series: Any, brain: Brain) -> None:
    (volume,) = read_volumes(write_series(brain, distance=2.5))
    assert volume.geometry is not None
    assert np.allclose(volume.geometry.affine @ (4, 10, 20, 1), (-20 + 20 * 0.75, -30 + 10 * 0.5, 10, 1))


@pytest.mark.real_data
def test_a_sagittal_series_is_in_order_whatever_the_order_of_its_files(scanwarden_data: Path) -> None:
    files = sorted((scanwarden_data / "dicom/t1-healthy/uih-umr770").glob("*.dcm"))
    (volume,), (reverse,) = read_volumes(files), read_volumes(files[::-1])
    assert np.array_equal(volume.voxels, reverse.voxels)
    assert volume.instances == reverse.instances
    assert volume.spacing == pytest.approx((1.0, 0.5, 0.5), abs=1e-4)
    assert volume.geometry is not None
    normal = volume.geometry.affine[:3, 0]
    for source, position in zip(volume.instances, volume.geometry.positions, strict=True):
        assert np.allclose(position, dcmread(source.file, stop_before_pixels=True).ImagePositionPatient)
    assert np.all(np.diff(volume.geometry.positions @ normal) > 0)


def test_a_missing_slice_is_noticed_and_described(write_series: Any, brain: Brain) -> None:
    files = write_series(brain)
    (volume,) = read_volumes([*files[:3], *files[5:]])
    assert volume.geometry is not None
    (gap,) = volume.geometry.gaps
    assert (gap.after, gap.missing, gap.distance) == (2, 2, 9.0)
    assert volume.spacing == (3.0, 0.5, 0.75)
    assert kinds(volume) == {ProblemKind.MISSING_SLICES}
    assert "2 slices are missing" in volume.problems[0].text
    assert volume.geometry.thickness.tolist() == [3.0] * 6


def test_unequal_spacing_is_noticed(write_series: Any, brain: Brain) -> None:
    (volume,) = read_volumes(write_series(brain, places=[0, 3, 6, 9.6, 12, 15, 18, 21]))
    assert kinds(volume) == {ProblemKind.UNEQUAL_SPACING}


def test_two_slices_at_one_place_are_no_volume_that_one_could_trust(write_series: Any, brain: Brain) -> None:
    (series,) = group_series([read_instance(file) for file in write_series(brain, places=[0, 3, 6, 9, 9, 12, 15, 18])])
    (stack,) = series.stacks()
    assert not stack.is_in_order
    assert len(stack.problems[0].sop_instance_uids) == 2


def test_echoes_of_one_series_are_volumes_of_their_own(write_series: Any, brain: Brain) -> None:
    first = write_series(brain, folder="a", EchoTime=10)
    second = write_series(brain + 1, folder="b", EchoTime=90)
    volumes = read_volumes([*first, *second])
    assert [volume.voxels[0, 0, 0] for volume in volumes] == [0, 1]
    assert all(len(volume.voxels) == 8 and not volume.problems for volume in volumes)


def test_orientations_and_sizes_of_one_series_are_apart(write_series: Any, brain: Brain) -> None:
    sagittal = {"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}
    files = [
        *write_series(brain[:3], folder="axial"),
        *write_series(brain[:3, :32], folder="smaller"),
        *[
            write_series(brain[:1], folder=f"sagittal{x}", ImagePositionPatient=[x, 0, 0], **sagittal)[0]
            for x in (0, 3, 6)
        ],
    ]
    shapes = sorted(volume.voxels.shape for volume in read_volumes(files))
    assert shapes == [(3, 32, 80), (3, 64, 80), (3, 64, 80)]


def test_slices_without_a_place_are_ordered_by_number_and_said_to_be(write_series: Any, brain: Brain) -> None:
    files = write_series(brain, ImagePositionPatient=None, ImageOrientationPatient=None)
    (volume,) = read_volumes(files[::-1])
    assert np.array_equal(volume.voxels, brain)
    assert kinds(volume) == {ProblemKind.NO_GEOMETRY}
    assert volume.spacing is None


def test_an_orientation_that_is_none_is_not_used(write_series: Any, brain: Brain) -> None:
    (volume,) = read_volumes(write_series(brain, ImageOrientationPatient=[0, 0, 0, 0, 0, 0]))
    assert kinds(volume) == {ProblemKind.NO_GEOMETRY}


def enhanced(make_head: Callable[..., Dataset], brain: Brain, order: list[int]) -> Dataset:
    """An enhanced MR with its frames in `order`, geometry and rescale in functional groups (PS3.3 C.7.6.16)."""
    dataset = make_head(
        np.ascontiguousarray(brain[order]),
        SOPClassUID="1.2.840.10008.5.1.4.1.1.4.1",
        NumberOfFrames=len(order),
        ImageOrientationPatient=None,
        ImagePositionPatient=None,
        PixelSpacing=None,
        SliceThickness=None,
    )
    shared, orientation, measures = Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    measures.PixelSpacing, measures.SliceThickness = [0.5, 0.75], 3
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
    dataset.SharedFunctionalGroupsSequence = [shared]
    frames = []
    for index in order:
        frame, position, transform = Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = [0, 0, 3.0 * index]
        transform.RescaleSlope, transform.RescaleIntercept = index + 1, 5
        frame.PlanePositionSequence, frame.PixelValueTransformationSequence = [position], [transform]
        frames.append(frame)
    dataset.PerFrameFunctionalGroupsSequence = frames
    return dataset


def test_frames_of_an_enhanced_mr_have_places_and_rescale_of_their_own(
    make_head: Any, write_dataset: Any, brain: Brain, tmp_path: Path
) -> None:
    order = [3, 0, 7, 1, 6, 2, 5, 4]
    file = write_dataset(enhanced(make_head, brain, order), tmp_path / "enhanced.dcm")
    (volume,) = read_volumes([file])
    assert np.array_equal(volume.voxels, brain * np.arange(1, 9)[:, None, None] + 5.0)
    assert volume.spacing == (3.0, 0.5, 0.75)
    assert [source.frame_number for source in volume.instances] == [order.index(index) + 1 for index in range(8)]


def test_frames_without_functional_groups_are_not_given_one_place(
    make_head: Any, write_dataset: Any, brain: Brain, tmp_path: Path
) -> None:
    (volume,) = read_volumes([write_dataset(make_head(brain, NumberOfFrames=8), tmp_path / "cine.dcm")])
    assert kinds(volume) == {ProblemKind.NO_GEOMETRY}
    assert np.array_equal(volume.voxels, brain)


def test_a_series_above_the_bound_is_refused_before_it_is_decoded(write_series: Any, brain: Brain) -> None:
    (series,) = group_series([read_instance(file) for file in write_series(brain)])
    with pytest.raises(TooLarge, match="max_voxels"):
        load_volume(series.stacks()[0], max_voxels=brain.size - 1)


def test_one_slice_takes_its_thickness_from_the_header(write_series: Any, brain: Brain) -> None:
    (volume,) = read_volumes(write_series(brain[:1]))
    assert volume.spacing == (3.0, 0.5, 0.75)
