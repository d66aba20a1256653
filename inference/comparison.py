"""Two series of one study that show the same slices in the same contrast: where do they differ, and only there?

A repeat differs by noise everywhere, a copy nowhere; an edit of one of them differs in one place. Series are brought
together by Frame of Reference and geometry (PS3.3 C.7.4.1); those of other contrasts differ everywhere and are left
alone.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from inference.errors import InferenceError, TimeLimitExceeded
from inference.findings import Observation, Severity
from inference.limits import Limits
from inference.volume import Stack, Volume, load_volume
from models import inputs
from models.matched import Matched, Surroundings

FloatArray = NDArray[np.float32]

_SHARE = 4  # of analysis.max_voxels: two volumes and what is computed of them are held at once
_LEAST_SLICES = 3
_ALIKE = 0.9  # correlation of the smoothed images from which on they are of one contrast
_SMOOTH = 1.5  # pixels; what is finer is noise
_SLOW = 16.0  # pixels; what is coarser is another coil or another gain
_WIDE = 3.0  # pixels over which differences are averaged
_TISSUE = 0.18
_FEWEST = 3000  # pixels of tissue that both show
_STANDS_OUT = 6.0  # robust standard deviations
_GROWN = 0.6
_LOCAL = 0.1  # of the common tissue: what is larger is another scan, not an edit
_COPIED = 0.9  # share of the common pixels that are equal to the last bit: one is a copy of the other
_LEAST_PIXELS = 25


@dataclass(frozen=True)
class Difference:
    """Where one volume differs from another more than it does elsewhere, on the first one's matrix.

    `slices` is (first, last), both inside; `box` (row0, column0, row1, column1), half-open, over all of them. `equal`
    is the share of common pixels that are the same to the last bit, `strength` in robust standard deviations.
    """

    strength: float
    slices: tuple[int, int]
    box: tuple[int, int, int, int]
    equal: float

    @property
    def is_of_a_copy(self) -> bool:
        return self.equal >= _COPIED


def compare(stacks: Sequence[Stack], limits: Limits) -> tuple[list[Observation], list[str]]:
    """What series of one study say of each other, and why some were not compared.

    Each stack is decoded once more at most, one beside another: the largest of each Frame of Reference and orientation
    is held, and the others are compared with it.
    """
    found: list[Observation] = []
    try:
        found.extend(_compared(stacks, limits))
    except TimeLimitExceeded as fault:
        return found, [f"series were not all compared with each other: {fault}"]
    except MemoryError:
        return found, ["series were not compared with each other: more memory is needed than analysis.memory_limit"]
    return found, []


def _compared(stacks: Sequence[Stack], limits: Limits) -> Iterator[Observation]:
    groups: dict[str, list[Stack]] = {}
    for stack in stacks:
        if _is_comparable(stack, limits):
            groups.setdefault(stack.members[0][0].frame_of_reference, []).append(stack)
    for group in groups.values():
        while len(group) > 1:
            first, *rest = sorted(group, key=lambda stack: -int(np.prod(stack.shape)))
            partners = [stack for stack in rest if _same_place(first, stack)]
            group = [stack for stack in rest if stack not in partners]
            if partners:
                yield from _compare_with(first, partners, limits)


def _compare_with(first: Stack, partners: Sequence[Stack], limits: Limits) -> Iterator[Observation]:
    held = _decoded(first, limits)
    if held is None:
        return
    for stack in partners:
        other = _decoded(stack, limits)
        if other is None:
            continue
        found = difference(held.voxels, on_grid_of(held, other))
        if found is not None:
            yield _observation(held, other, found)


def _decoded(stack: Stack, limits: Limits) -> Volume | None:
    try:
        total = stack.shape[0]
        return load_volume(
            stack,
            max_voxels=limits.max_voxels // _SHARE,
            after_each=lambda: limits.tick("read", total, total),
            decode=limits.decode,
        ).volume
    except TimeLimitExceeded:
        raise
    except (InferenceError, MemoryError):
        return None  # the analysis itself has said what is wrong with it


def _is_comparable(stack: Stack, limits: Limits) -> bool:
    first = stack.members[0][0]
    return (
        bool(first.frame_of_reference)
        and first.samples == 1
        and stack.geometry is not None
        and stack.geometry.is_even
        and stack.shape[0] >= _LEAST_SLICES
        and int(np.prod(stack.shape)) <= limits.max_voxels // _SHARE
    )


def _same_place(one: Stack, other: Stack) -> bool:
    """Parallel slices as far apart, of which at least half lie in the other's volume."""
    here, there = one.geometry, other.geometry
    if one.series_uid == other.series_uid or here is None or there is None:
        return False
    steps = np.linalg.solve(here.affine, there.affine)
    if not np.allclose(steps[:3, :3], np.diag(np.diag(steps[:3, :3])), atol=0.02) or abs(steps[0, 0] - 1) > 0.05:
        return False
    places = steps[0, 0] * np.arange(other.shape[0]) + steps[0, 3]
    inside = (places > -0.5) & (places < one.shape[0] - 0.5)
    return bool(inside.sum() >= max(_LEAST_SLICES, other.shape[0] / 2))


def on_grid_of(held: Volume, other: Volume) -> FloatArray:
    """`other` on the matrix of `held`, NaN where it shows nothing. Untouched where both have one grid."""
    if held.geometry is None or other.geometry is None:
        return np.full(held.source_shape, np.nan, np.float32)
    steps = np.linalg.solve(other.geometry.affine, held.geometry.affine)
    if held.source_shape == other.source_shape and np.allclose(steps, np.eye(4), atol=0.02):
        return other.voxels
    found = ndimage.affine_transform(
        other.voxels, steps[:3, :3], steps[:3, 3], held.source_shape, order=1, cval=np.nan, output=np.float32
    )
    return np.asarray(found, np.float32)


def difference(one: FloatArray, other: FloatArray) -> Difference | None:
    """The one place where two volumes (slices, rows, columns) of one contrast differ; None: none, or many.

    NaN in `other`: not shown there.
    """
    shown = np.isfinite(other)
    offset, scale = inputs.intensity_range(one)
    smooth = _smoothed(one, _SMOOTH)
    filled = np.where(shown, other, np.float32(0))
    there = _smoothed(filled, _SMOOTH)
    whole = _smoothed(shown.astype(np.float32), _SMOOTH) > 0.99  # what is smoothed with nothing is no measure
    common = shown & whole & (smooth > offset + _TISSUE * scale)
    if int(common.sum()) < _FEWEST:
        return None
    step = max(1, int(common.sum()) // 200_000)
    x, y = smooth[common][::step].astype(np.float64), there[common][::step].astype(np.float64)
    if min(x.std(), y.std()) <= 0 or np.corrcoef(x, y)[0, 1] < _ALIKE:
        return None
    gain, shift = np.polyfit(y, x, 1)
    apart = np.where(common, smooth - (gain * there + shift), 0).astype(np.float32)
    weight = np.maximum(_smoothed(common.astype(np.float32), _SLOW), 0.05)
    apart -= np.where(common, _smoothed(apart, _SLOW) / weight, 0).astype(np.float32)
    unequal = common & (one != filled)
    equal = 1.0 - float(unequal.sum() / common.sum())
    noise = max(float(np.median([inputs.noise_level(plane, offset, scale) for plane in one])), 1e-3 * scale)
    energy = np.log(_smoothed(apart * apart, _WIDE) / noise**2 + 1e-3).astype(np.float32)
    matched = Matched(Surroundings.of(one, offset, scale, noise), common)
    deviation = np.where(common, matched.deviation(energy), 0)
    loud = ndimage.uniform_filter1d(_smoothed(deviation.astype(np.float32), _WIDE), 3, axis=0, mode="nearest")
    middle = float(np.median(loud[common]))
    spread = max(1.4826 * float(np.median(np.abs(loud[common] - middle))), 0.1)
    found = _standing_out((loud - middle) / spread * common, int(common.sum()), equal)
    return found if found is None or not found.is_of_a_copy else _to_the_bit(found, unequal)


def _standing_out(loudness: NDArray[np.floating], tissue: int, equal: float) -> Difference | None:
    strength = float(loudness.max())
    if strength < _STANDS_OUT:
        return None
    high = loudness >= _GROWN * strength
    labels, _ = ndimage.label(high, structure=np.ones((3, 3, 3), bool))
    number = int(labels[np.unravel_index(int(loudness.argmax()), loudness.shape)])
    size = int((labels == number).sum())
    if int(high.sum()) > _LOCAL * tissue or size < _LEAST_PIXELS or size < high.sum() / 2:
        return None
    planes, rows, columns = ndimage.find_objects(labels)[number - 1]
    return Difference(
        strength, (planes.start, planes.stop - 1), (rows.start, columns.start, rows.stop, columns.stop), equal
    )


def _to_the_bit(found: Difference, unequal: NDArray[np.bool_]) -> Difference:
    """A copy tells exactly where it was changed: no filter need blur that."""
    first, last = found.slices
    row0, column0, row1, column1 = found.box
    inside = np.zeros_like(unequal)
    inside[first : last + 1, row0:row1, column0:column1] = True
    planes, rows, columns = (np.flatnonzero((unequal & inside).any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1)))
    if not len(planes):
        return found
    box = int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1
    return replace(found, slices=(int(planes[0]), int(planes[-1])), box=box)


def _smoothed(volume: FloatArray, sigma: float) -> FloatArray:
    return np.stack([cv2.GaussianBlur(plane, (0, 0), sigma) for plane in volume])


def _observation(held: Volume, other: Volume, found: Difference) -> Observation:
    first, last = found.slices
    row0, column0, row1, column1 = found.box
    where = f"slice{'s' if last > first else ''} {first + 1}{f' to {last + 1}' if last > first else ''}"
    names = f"series …{held.series_uid[-12:]} and …{other.series_uid[-12:]}"
    text = (
        f"{names} are the same images, except in one place ({where}, rows {row0} to {row1 - 1}, columns {column0} to "
        f"{column1 - 1}): one of them was changed there; look at both and fetch the originals"
        if found.is_of_a_copy
        else f"{names} show the same anatomy in the same contrast and differ most in one place ({where}, rows "
        f"{row0} to {row1 - 1}, columns {column0} to {column1 - 1}); motion and flow do that too; compare them there"
    )
    return Observation(
        "series-differ-in-one-place",
        Severity.WARNING if found.is_of_a_copy else Severity.INFO,
        text,
        {
            "series_uid": held.series_uid,
            "other_series_uid": other.series_uid,
            "slices": list(found.slices),
            "box": list(found.box),
            "strength": round(found.strength, 1),
            "equal": round(found.equal, 3),
        },
        tuple(held.instances[index].sop_instance_uid for index in range(first, last + 1)),
    )
