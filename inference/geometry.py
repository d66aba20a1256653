"""Where slices lie in the patient: stacks of parallel planes, their order and their distances (PS3.3 C.7.6.2)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inference.instances import Frame

_SAME_DIRECTION = 2e-3  # difference of a direction cosine; scanners round to 4 to 6 digits
_SAME_PLACE = 1e-2  # mm
_SAME_DISTANCE = 0.05  # share of the typical distance
_MISSING = 1.5  # distances from here on hold room for another slice


@dataclass(frozen=True)
class Gap:
    """Between slice `after` and the next one there is room for `missing` more slices of the stack."""

    after: int
    missing: int
    distance: float


@dataclass(frozen=True)
class Geometry:
    """A stack of parallel slices in order of position.

    `spacing` is (between slices, between rows, between columns) in mm; `affine` maps (slice, row, column, 1) to the
    patient's x, y, z in mm and is exact where `is_even`. `thickness` (slices,) is what each slice stands for, in mm.
    """

    spacing: tuple[float, float, float]
    affine: NDArray[np.float64]
    positions: NDArray[np.float64]
    thickness: NDArray[np.float64]
    gaps: tuple[Gap, ...]
    is_even: bool


def is_plane(frame: Frame) -> bool:
    """Whether a frame says where it lies: two orthogonal unit vectors, a position and a pixel spacing."""
    if frame.orientation is None or frame.position is None or frame.spacing is None:
        return False
    row, column = np.array(frame.orientation[:3]), np.array(frame.orientation[3:])
    return bool(
        abs(np.linalg.norm(row) - 1) < 0.01 and abs(np.linalg.norm(column) - 1) < 0.01 and abs(row @ column) < 0.01
    )


def are_parallel(one: Frame, other: Frame) -> bool:
    """Whether two planes have one orientation and one pixel spacing, so that they may be slices of one volume."""
    if one.orientation is None or other.orientation is None or one.spacing is None or other.spacing is None:
        return False
    directions = zip(one.orientation, other.orientation, strict=True)
    return all(abs(a - b) <= _SAME_DIRECTION for a, b in directions) and all(
        abs(a - b) <= 1e-3 * b for a, b in zip(one.spacing, other.spacing, strict=True)
    )


def normal_of(frame: Frame) -> NDArray[np.float64]:
    """The direction that slices are counted in: row × column."""
    orientation = np.asarray(frame.orientation, np.float64)
    normal = np.cross(orientation[:3], orientation[3:])
    return np.asarray(normal / np.linalg.norm(normal), np.float64)


def places(frames: Sequence[Frame]) -> NDArray[np.float64]:
    """Each plane's distance along the first one's normal, mm."""
    normal = normal_of(frames[0])
    return np.array([normal @ np.array(frame.position) for frame in frames], np.float64)


def same_place(sorted_places: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether each slice but the first lies where the one before it lies."""
    return np.diff(sorted_places) < _SAME_PLACE


def geometry_of(frames: Sequence[Frame]) -> Geometry:
    """Geometry of parallel planes that are sorted by place and of which no two share one."""
    first = frames[0]
    assert first.spacing is not None  # noqa: S101  is_plane held
    at = places(frames)
    positions = np.array([frame.position for frame in frames], np.float64)
    distances = np.diff(at)
    typical = float(np.median(distances)) if len(distances) else first.between_slices or first.thickness or 0.0
    gaps = tuple(
        Gap(after=int(index), missing=round(float(distance) / typical) - 1, distance=float(distance))
        for index, distance in enumerate(distances)
        if distance >= _MISSING * typical
    )
    uneven = np.abs(distances - typical) > _SAME_DISTANCE * typical
    half = np.minimum(distances, typical) / 2
    edge = [typical / 2]
    thickness = np.concatenate((edge, half)) + np.concatenate((half, edge))
    row, column = np.array(first.orientation)[:3], np.array(first.orientation)[3:]
    affine = np.eye(4)
    affine[:3, 0] = (
        (positions[-1] - positions[0]) / (len(frames) - 1) if len(frames) > 1 else normal_of(first) * typical
    )
    affine[:3, 1] = column * first.spacing[0]
    affine[:3, 2] = row * first.spacing[1]
    affine[:3, 3] = positions[0]
    return Geometry(
        spacing=(typical, first.spacing[0], first.spacing[1]),
        affine=affine,
        positions=positions,
        thickness=thickness,
        gaps=gaps,
        is_even=not bool(uneven.any()),
    )
