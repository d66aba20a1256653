"""From a probability for each pixel to regions that go on through slices."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from inference.detectors import Detection
from inference.findings import FindingClass

_NEIGHBOURS = np.ones((3, 3, 3), bool)
_LOW = 0.5  # share of the threshold down to which a region grows
_CLAIM = 0.6  # share of a region that must be of one class; below it the region is edited, and how is not known


@dataclass(frozen=True)
class Region:
    """One connected region of a volume. `component` is its value in the array that `link` returns beside it.

    `slices` is (first, last), both inside; `box` is half-open, on `key_slice`, where the region is strongest.
    `strength` is the ninth decile of its pixel probabilities. `finding_class` is `resynthesised`, which claims nothing
    about a tumour, unless most of the region agrees on another.
    """

    component: int
    finding_class: FindingClass
    strength: float
    slices: tuple[int, int]
    key_slice: int
    box: tuple[int, int, int, int]
    volume_mm3: float

    def renumbered(self, component: int) -> "Region":
        """The same region in an array where its component has another value."""
        return replace(self, component=component)


def link(
    detection: Detection,
    *,
    threshold: float,
    voxel_mm3: NDArray[np.float64],
    pixel_mm2: float,
    least_area_mm2: float = 12.0,
    least_pixels: int = 8,
) -> tuple[list[Region], NDArray[np.int32]]:
    """Regions around pixels of at least `threshold`, grown down to half of it, and their components.

    A region counts when on its strongest slice it has `least_area_mm2` (and `least_pixels`), and when it goes on
    through two slices or is four times as large on one. `voxel_mm3` (slices,) is what a voxel of each slice holds;
    `pixel_mm2` the area of a pixel, 0 where unknown.
    """
    edit = detection.edit
    sure = edit >= threshold
    components = np.zeros(edit.shape, np.int32)
    if not sure.any():
        return [], components
    ndimage.label(edit >= _LOW * threshold, structure=_NEIGHBOURS, output=components)
    least = max(least_pixels, int(np.ceil(least_area_mm2 / pixel_mm2)) if pixel_mm2 > 0 else 0)
    sizes = np.bincount(components.ravel())
    likely = [component for component in np.unique(components[sure]) if sizes[component] >= least]
    places = ndimage.find_objects(components)
    regions = []
    for component in likely:
        place = places[component - 1]
        if place is None:
            continue
        region = _region(int(component), place, components, detection, voxel_mm3)
        area = int(np.count_nonzero(components[region.key_slice] == component))
        through = region.slices[1] > region.slices[0]
        if area >= least and (through or area >= 4 * least):
            regions.append(region)
    return regions, components


def _region(
    component: int,
    place: tuple[slice, slice, slice],
    components: NDArray[np.int32],
    detection: Detection,
    voxel_mm3: NDArray[np.float64],
) -> Region:
    mask = components[place] == component
    values = np.where(mask, detection.edit[place], 0)
    weights = np.bincount(detection.classes[place][mask], weights=values[mask], minlength=len(FindingClass) + 1)
    strongest = int(values.sum(axis=(1, 2), dtype=np.float64).argmax())
    rows = np.flatnonzero(mask[strongest].any(axis=1))
    columns = np.flatnonzero(mask[strongest].any(axis=0))
    counts = mask.sum(axis=(1, 2))
    return Region(
        component=component,
        finding_class=_class(weights[1:].astype(np.float64)),
        strength=float(np.quantile(values[mask], 0.9)),
        slices=(place[0].start, place[0].stop - 1),
        key_slice=place[0].start + strongest,
        box=(
            place[1].start + int(rows[0]),
            place[2].start + int(columns[0]),
            place[1].start + int(rows[-1]) + 1,
            place[2].start + int(columns[-1]) + 1,
        ),
        volume_mm3=float(counts @ voxel_mm3[place[0]]),
    )


def _class(weights: NDArray[np.float64]) -> FindingClass:
    """What a region is, by how much of its evidence speaks for each of FindingClass."""
    leading = int(weights.argmax())
    agreed = weights[leading] >= _CLAIM * weights.sum()
    return list(FindingClass)[leading] if agreed else FindingClass.RESYNTHESISED
