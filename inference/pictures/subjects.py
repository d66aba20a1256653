"""What is judged: each picture by itself, a folder of pictures as one volume, or a NIfTI volume."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from inference.errors import InferenceError, TooLarge, UnreadablePicture
from inference.pictures.kinds import Kind
from inference.pictures.pixels import Pixels, Read


@dataclass(frozen=True)
class Subject:
    """One thing to judge. `file`: how results call it, relative to what was asked for; `members` in order of slices."""

    file: str
    members: tuple[tuple[Path, Kind], ...]
    is_volume: bool


def subjects_of(plain: Sequence[tuple[Path, Kind]], root: Path, *, volumes: bool) -> list[Subject]:
    """Each file for itself; with `volumes` the pictures of each folder together, in natural order of their names."""
    subjects: list[Subject] = []
    folders: dict[Path, list[tuple[Path, Kind]]] = {}
    for file, kind in sorted(plain, key=lambda member: natural(_relative(member[0], root))):
        if kind is Kind.NIFTI or not volumes:
            subjects.append(Subject(_relative(file, root), ((file, kind),), kind is Kind.NIFTI))
        else:
            folders.setdefault(file.parent, []).append((file, kind))
    for folder, members in folders.items():
        subjects.append(Subject(_relative(folder, root), tuple(members), is_volume=True))
    return subjects


def natural(name: str) -> tuple[tuple[int, str], ...]:
    """A key that puts slice 10 behind slice 9."""
    parts = re.split(r"(\d+)", name)
    return tuple((int(part), "") if part.isdecimal() else (0, part) for part in parts)


def pixels_of(subject: Subject, read: Read, max_voxels: int, before_each: Callable[[int], None]) -> Pixels:
    """Decode a subject; `before_each` is called with the number of slices read so far, and may end the work by raising.

    Slices that cannot be read are left out and told in `gaps`. Raises UnreadablePicture when none is left or their
    sizes differ, TooLarge when together they have more than `max_voxels`.
    """
    if len(subject.members) == 1:
        before_each(0)
        file, kind = subject.members[0]
        return read(file, kind, max_voxels)
    slices: list[Pixels] = []
    faults: list[str] = []
    left = max_voxels
    for place, (file, kind) in enumerate(subject.members):
        before_each(place)
        try:
            slices.append(read(file, kind, left))
        except TooLarge as fault:
            raise TooLarge(f"{subject.file}: its slices together have more than {max_voxels:,} pixels") from fault
        except InferenceError as fault:
            faults.append(str(fault))
            continue
        left -= slices[-1].voxels.size
    return _together(subject, slices, faults)


def _together(subject: Subject, slices: Sequence[Pixels], faults: Sequence[str]) -> Pixels:
    if not slices:
        raise UnreadablePicture(f"{subject.file}: no slice can be read: {faults[0]}")
    sizes = sorted({pixels.voxels.shape[1:] for pixels in slices})
    if len(sizes) > 1:
        shown = ", ".join(f"{rows}×{columns}" for rows, columns in sizes[:4])
        raise UnreadablePicture(
            f"{subject.file}: pictures of {len(sizes)} sizes ({shown}) are no slices of one volume; judge them without "
            "--volume"
        )
    gaps = [gap for pixels in slices for gap in pixels.gaps]
    if faults:
        gaps.append(f"{len(faults)} of {len(subject.members)} slices: {faults[0]}")
    voxels = np.concatenate([pixels.voxels for pixels in slices])
    return Pixels(
        voxels,
        is_shown=all(pixels.is_shown for pixels in slices),
        notes=_once(note for pixels in slices for note in pixels.notes),
        gaps=_once(gaps),
        doubts=_once(doubt for pixels in slices for doubt in pixels.doubts),
    )


def _once(texts: Sequence[str] | Iterator[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(texts))


def _relative(file: Path, root: Path) -> str:
    """By name alone where the root itself is meant: no path of this machine in a result."""
    if file == root:
        return file.resolve().name
    return str(file.relative_to(root)) if file.is_relative_to(root) else file.name
