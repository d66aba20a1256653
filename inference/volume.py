"""From instances to volumes: a study's series, each split into stacks that are one volume each, in order of position.

Orientation and order come from geometry alone; Instance Number orders slices only where no slice has a place. What is
wrong with a stack stands in `problems`, in words and by kind, and travels with its voxels.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inference.decoding import Decode, decode, refuse_unreadable
from inference.errors import GeometryError, TooLarge, UnreadableInstance
from inference.geometry import Geometry, are_parallel, geometry_of, is_plane, places, same_place
from inference.instances import SPLITS, Frame, Instance, read_instance

_MOST_STACKS = 256  # radial and rotational series have as many directions as slices; no model reads them


class ProblemKind(StrEnum):
    """What can be wrong with a stack of slices."""

    SAME_PLACE = "two slices at one place"
    UNKNOWN_ORDER = "order of slices unknown"
    NO_GEOMETRY = "no geometry"
    MISSING_SLICES = "missing slices"
    UNEQUAL_SPACING = "unequal spacing"
    UNREADABLE_SLICES = "unreadable slices"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a stack, in words, and the instances that it is about."""

    kind: ProblemKind
    text: str
    sop_instance_uids: tuple[str, ...] = ()


@dataclass(frozen=True)
class SourceSlice:
    """Where a slice of a volume comes from; `frame_number` counts from 1, None: a single-frame instance.

    `instance_number` is the Instance Number of a single-frame instance, None where the header has none.
    """

    sop_instance_uid: str
    frame_number: int | None
    file: Path
    instance_number: int | None = None


@dataclass(frozen=True)
class Stack:
    """Slices of one series that make one volume, not yet decoded: instance and index of its frame, in order."""

    series_uid: str
    members: tuple[tuple[Instance, int], ...]
    geometry: Geometry | None
    problems: tuple[Problem, ...] = ()

    @property
    def shape(self) -> tuple[int, int, int]:
        """(slices, rows, columns)."""
        first = self.members[0][0]
        return len(self.members), first.rows, first.columns

    @property
    def instances(self) -> tuple[Instance, ...]:
        """Its instances, each once, in the order of their first slice."""
        return tuple({instance.sop_instance_uid: instance for instance, _ in self.members}.values())

    @property
    def is_in_order(self) -> bool:
        """Whether every slice has one place of its own, so that neighbours are neighbours."""
        return not any(problem.kind in (ProblemKind.SAME_PLACE, ProblemKind.UNKNOWN_ORDER) for problem in self.problems)


@dataclass(frozen=True, eq=False)
class Volume:
    """The decoded slices of a stack on the matrix of their sources.

    `voxels` (slices, rows, columns) float32 in rescaled units, finite, brighter is more. Slice *k* comes from
    `instances[k]`. `spacing` is (between slices, between rows, between columns) in mm, None where unknown;
    `thickness` (slices,) is what each slice stands for in mm, None where unknown.
    """

    series_uid: str
    voxels: NDArray[np.float32]
    instances: tuple[SourceSlice, ...]
    stack: Stack
    problems: tuple[Problem, ...] = ()

    @property
    def source_shape(self) -> tuple[int, int, int]:
        slices, rows, columns = self.voxels.shape
        return slices, rows, columns

    @property
    def geometry(self) -> Geometry | None:
        return self.stack.geometry

    @property
    def spacing(self) -> tuple[float, float, float] | None:
        return self.geometry.spacing if self.geometry is not None and self.geometry.spacing[0] > 0 else None

    @property
    def voxel_mm3(self) -> NDArray[np.float64]:
        """What a voxel of each slice holds, (slices,), mm³; zeros where unknown."""
        if self.geometry is None:
            return np.zeros(len(self.voxels))
        return self.geometry.thickness * self.geometry.spacing[1] * self.geometry.spacing[2]


@dataclass(frozen=True)
class Series:
    """The instances of one Series Instance UID, images and others."""

    series_uid: str
    instances: tuple[Instance, ...]

    @property
    def images(self) -> tuple[Instance, ...]:
        return tuple(instance for instance in self.instances if instance.is_image)

    def stacks(self) -> tuple[Stack, ...]:
        """Its images as stacks of one matrix, one orientation and one acquisition, in a stable order.

        Raises GeometryError when there are more orientations than any model could read.
        """
        return tuple(stack for group in _groups(self.images) for stack in _split(self.series_uid, group))


@dataclass
class Loaded:
    """A stack after decoding: the volume of what could be decoded (None: nothing), and why the rest could not."""

    volume: Volume | None
    unreadable: list[tuple[Instance, UnreadableInstance]] = field(default_factory=list)


def group_series(instances: Sequence[Instance]) -> tuple[Series, ...]:
    """Instances by Series Instance UID, in the order of the UIDs."""
    groups: dict[str, list[Instance]] = {}
    for instance in instances:
        groups.setdefault(instance.series_uid, []).append(instance)
    return tuple(
        Series(uid, tuple(sorted(group, key=lambda instance: instance.sop_instance_uid)))
        for uid, group in sorted(groups.items())
    )


def load_volume(
    stack: Stack, *, max_voxels: int, after_each: Callable[[], None] | None = None, decode: Decode = decode
) -> Loaded:
    """Decode a stack; `after_each` is called after each instance, and may end the work by raising.

    `decode` gives the frames of an instance, in this process or in another one.

    A slice that cannot be decoded is left out, named in `unreadable` and in the volume's problems. Raises TooLarge when
    the whole stack has more than `max_voxels`.
    """
    slices, rows, columns = stack.shape
    # Refused before allocation: by header alone, then by the sum of what headers promise and files can hold.
    refused: dict[str, tuple[Instance, UnreadableInstance]] = {}
    for instance in stack.instances:
        try:
            refuse_unreadable(instance, max_voxels)
        except UnreadableInstance as fault:
            refused[instance.sop_instance_uid] = (instance, fault)
    members = [member for member in stack.members if member[0].sop_instance_uid not in refused]
    if len(members) * rows * columns > max_voxels:
        raise TooLarge(
            f"series {stack.series_uid}: {slices:,}×{rows:,}×{columns:,} is more than {max_voxels:,} voxels; "
            "raise analysis.max_voxels where memory allows"
        )
    voxels = np.empty((len(members), rows, columns), np.float32)
    wanted: dict[str, dict[int, int]] = {}
    for place, (instance, index) in enumerate(members):
        wanted.setdefault(instance.sop_instance_uid, {})[index] = place
    for instance in stack.instances:
        if after_each is not None:
            after_each()
        if instance.sop_instance_uid in refused:
            continue
        try:
            for index, pixels in enumerate(decode(instance)):
                if (at := wanted[instance.sop_instance_uid].get(index)) is not None:
                    voxels[at] = pixels
        except UnreadableInstance as fault:
            refused[instance.sop_instance_uid] = (instance, fault)
    kept = [place for place, (instance, _) in enumerate(members) if instance.sop_instance_uid not in refused]
    if not kept:
        return Loaded(None, list(refused.values()))
    if not refused:
        return Loaded(_volume(stack, voxels, stack.problems))
    whole = _stack(stack.series_uid, [members[place] for place in kept])
    problem = Problem(
        ProblemKind.UNREADABLE_SLICES,
        f"{len(stack.members) - len(kept)} of {len(stack.members)} slices cannot be read",
        tuple(refused),
    )
    return Loaded(_volume(whole, voxels[kept], (*whole.problems, problem)), list(refused.values()))


def read_volumes(files: Sequence[Path], *, max_voxels: int = 128 * 1024**2) -> list[Volume]:
    """Every volume in some files, for tests, training and trials.

    Raises UnreadableInstance for the first file or slice that cannot be read.
    """
    volumes = []
    for series in group_series([read_instance(file) for file in files]):
        for stack in series.stacks():
            loaded = load_volume(stack, max_voxels=max_voxels)
            for _, fault in loaded.unreadable:
                raise fault
            if loaded.volume is not None:
                volumes.append(loaded.volume)
    return volumes


def _volume(stack: Stack, voxels: NDArray[np.float32], problems: tuple[Problem, ...]) -> Volume:
    sources = tuple(
        SourceSlice(instance.sop_instance_uid, instance.frames[index].number, instance.file, instance.number)
        for instance, index in stack.members
    )
    return Volume(stack.series_uid, voxels, sources, stack, problems)


Member = tuple[Instance, int]


def _frame(member: Member) -> Frame:
    return member[0].frames[member[1]]


def _groups(images: Sequence[Instance]) -> Iterator[list[Member]]:
    """Frames of one matrix that are parallel; those without a place are a group of their own."""
    groups: list[list[Member]] = []
    for instance in images:
        for index, frame in enumerate(instance.frames):
            placed = is_plane(frame)
            for group in groups:
                other, its = group[0][0], _frame(group[0])
                if (instance.rows, instance.columns) == (other.rows, other.columns) and (
                    are_parallel(frame, its) if placed and is_plane(its) else placed == is_plane(its)
                ):
                    group.append((instance, index))
                    break
            else:
                if len(groups) == _MOST_STACKS:
                    raise GeometryError(f"series {instance.series_uid}: more than {_MOST_STACKS} orientations or sizes")
                groups.append([(instance, index)])
    yield from groups


def _split(series_uid: str, group: list[Member]) -> Iterator[Stack]:
    """Echoes, b-values or time points of one series lie at the same places: each is a volume of its own."""
    if not is_plane(_frame(group[0])) or not _shares_a_place(group):
        yield _stack(series_uid, group)
        return
    for position in (*[(at,) for at in range(len(SPLITS))], tuple(range(len(SPLITS)))):
        parts: dict[tuple[str, ...], list[Member]] = {}
        for member in group:
            acquisition = _frame(member).acquisition
            parts.setdefault(tuple(acquisition[at] for at in position), []).append(member)
        if len(parts) > 1 and not any(_shares_a_place(part) for part in parts.values()):
            for _, part in sorted(parts.items()):
                yield _stack(series_uid, part)
            return
    yield _stack(series_uid, group)


def _shares_a_place(group: Sequence[Member]) -> bool:
    return bool(same_place(np.sort(places([_frame(member) for member in group]))).any())


def _stack(series_uid: str, group: list[Member]) -> Stack:
    if not is_plane(_frame(group[0])):
        return _unplaced(series_uid, group)
    at = places([_frame(member) for member in group])
    order = np.argsort(at, kind="stable")
    members = tuple(group[place] for place in order)
    if (twice := same_place(at[order])).any():
        pairs = [(members[place], members[place + 1]) for place in np.flatnonzero(twice)]
        problem = Problem(
            ProblemKind.SAME_PLACE,
            f"{_slices(len(pairs), 'lies', 'lie')} where another one lies; nothing says which is true",
            tuple(dict.fromkeys(member[0].sop_instance_uid for pair in pairs for member in pair)),
        )
        return Stack(series_uid, members, None, (problem,))
    geometry = geometry_of([_frame(member) for member in members])
    return Stack(series_uid, members, geometry, tuple(_distances(members, geometry)))


def _distances(members: Sequence[Member], geometry: Geometry) -> Iterator[Problem]:
    if geometry.gaps:
        missing = sum(gap.missing for gap in geometry.gaps)
        where = ", ".join(f"{gap.distance:.1f} mm after slice {gap.after + 1}" for gap in geometry.gaps[:3])
        yield Problem(
            ProblemKind.MISSING_SLICES,
            f"{_slices(missing, 'is', 'are')} missing from a stack of {len(members)} "
            f"at {geometry.spacing[0]:.2f} mm ({where})",
            tuple(
                dict.fromkeys(
                    members[at][0].sop_instance_uid for gap in geometry.gaps for at in (gap.after, gap.after + 1)
                )
            ),
        )
    elif not geometry.is_even:
        distances = np.diff(places([_frame(member) for member in members]))
        yield Problem(
            ProblemKind.UNEQUAL_SPACING,
            f"slices lie {distances.min():.2f} to {distances.max():.2f} mm apart",
        )


def _slices(count: int, one: str, many: str) -> str:
    return f"1 slice {one}" if count == 1 else f"{count:,} slices {many}"


def _unplaced(series_uid: str, group: list[Member]) -> Stack:
    keys = [(instance.number, _frame((instance, index)).number or 0) for instance, index in group]
    known = len(group) == 1 or (all(number is not None for number, _ in keys) and len(set(keys)) == len(keys))
    problems = [Problem(ProblemKind.NO_GEOMETRY, "no slice says where it lies in the patient")]
    if not known:
        problems.append(
            Problem(ProblemKind.UNKNOWN_ORDER, "slices have neither places nor numbers that would order them")
        )
    order = sorted(range(len(group)), key=lambda at: (keys[at][0] or 0, keys[at][1], at))
    return Stack(series_uid, tuple(group[at] for at in order), None, tuple(problems))
