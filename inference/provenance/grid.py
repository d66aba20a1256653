"""The 8×8 grid of JPEG in pixels that claim to be as measured (Fan and de Queiroz 2003).

Steps across every eighth column and row are larger than across the others; the grid stays when the file is saved
again without compression. Scanners leave no such grid.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from inference.findings import Observation, Severity
from inference.provenance.rules import pixel_rule
from inference.provenance.wording import count, short
from inference.volume import Volume

_PERIOD = 8
_OF_A_SLICE = 0.06  # excess of the grid's steps over their neighbours, as a share of the usual step
_OF_A_STACK = 0.025  # the same, averaged over the slices of a stack
_CLIP = 4.0  # of the usual step; beyond it a step is an edge of the anatomy
_LEAST_SLICES = 8


@pixel_rule
def pixels_have_no_jpeg_grid(volume: Volume) -> Iterator[Observation]:
    """Slices that are flagged lossy may have a grid; the others may not."""
    quiet = [index for index, (instance, _) in enumerate(volume.stack.members) if instance.lossy != "01"]
    if min(volume.voxels.shape[1:]) < 8 * _PERIOD or not quiet:
        return
    excess = np.stack([grid_excess(volume.voxels[index]) for index in quiet])
    gridded = [index for index, each in zip(quiet, excess, strict=True) if _strength(each) >= _OF_A_SLICE]
    if len(quiet) >= _LEAST_SLICES and _strength(excess.mean(axis=0)) >= _OF_A_STACK:
        gridded = quiet
    if len(gridded) >= max(1, len(quiet) // 4):
        uids = tuple(dict.fromkeys(volume.instances[index].sop_instance_uid for index in gridded))
        yield Observation(
            "jpeg-grid",
            Severity.WARNING,
            f"{count(len(uids))} of {short(volume.series_uid)} show the 8×8 grid of JPEG but are not flagged as "
            "compressed "
            "lossily: the flag was removed or the pixels come from a JPEG; fetch the originals",
            {"series_uid": volume.series_uid, "slices": len(quiet), "with_grid": len(gridded)},
            uids,
        )


def grid_excess(plane: NDArray[np.float32]) -> NDArray[np.float64]:
    """(axis, phase): how much larger the steps at each phase of the grid are than those beside them."""
    return np.stack([_excess(plane, axis) for axis in (0, 1)])


def _excess(plane: NDArray[np.float32], axis: int) -> NDArray[np.float64]:
    steps = np.abs(np.diff(plane, axis=axis))
    moving = steps[steps > 0]
    if moving.size < 1024:
        return np.zeros(_PERIOD)
    means = np.minimum(steps, _CLIP * float(np.median(moving[:: max(1, moving.size // 16384)]))).mean(axis=1 - axis)
    beside = (np.roll(means, 1) + np.roll(means, -1)) / 2
    share = ((means - beside) / max(float(means.mean()), 1e-9))[2:-2]
    phase = np.arange(2, len(means) - 2) % _PERIOD
    return np.array([share[phase == each].mean() for each in range(_PERIOD)])


def _strength(excess: NDArray[np.float64]) -> float:
    """Of the weaker axis: rulers, wrapped edges and interpolation repeat along one axis, a grid along both."""
    found = []
    for phases in excess:
        top = int(phases.argmax())
        beside = [(top + step) % _PERIOD for step in range(2, _PERIOD - 1)]
        found.append(float(phases[top] - np.median(phases[beside])))
    return min(found)
