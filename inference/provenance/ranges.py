"""Smallest and Largest Image Pixel Value (PS3.3 C.7.6.3) against the pixels: an editor of pixels forgets them."""

from collections.abc import Iterator

import numpy as np

from inference.findings import Observation, Severity
from inference.provenance.rules import pixel_rule
from inference.provenance.wording import count, short
from inference.volume import Volume


@pixel_rule
def stored_range_is_that_of_the_pixels(volume: Volume) -> Iterator[Observation]:
    """Only where the values are stored ones: no padding, no look-up table, one frame a file."""
    wrong: list[str] = []
    outside = 0
    for (instance, index), voxels in zip(volume.stack.members, volume.voxels, strict=True):
        origin, frame = instance.origin, instance.frames[index]
        if (
            origin.smallest is None
            or origin.largest is None
            or not origin.plain_pixels
            or len(instance.frames) > 1
            or instance.photometric != "MONOCHROME2"
        ):
            continue
        ends = np.rint((np.array([voxels.min(), voxels.max()], np.float64) - frame.intercept) / frame.slope)
        low, high = sorted(int(end) for end in ends)
        signed = instance.bits[3]
        said = [_as_signed(value, signed) for value in (origin.smallest, origin.largest)]
        if [low, high] != said:
            wrong.append(instance.sop_instance_uid)
            outside += low < said[0] or high > said[1]
    if wrong:
        yield Observation(
            "pixel-range-differs",
            Severity.WARNING,
            f"in {count(len(wrong))} of {short(volume.series_uid)} the pixels do not have the smallest and largest "
            "value that "
            "the header gives: pixels were changed after the header was written; compare with the scanner's copy",
            {"series_uid": volume.series_uid, "slices": len(volume.voxels), "outside": outside},
            tuple(wrong),
        )


def _as_signed(value: int, signed: bool) -> int:
    """The element is US or SS as Pixel Representation says; some writers store signed values as US."""
    return value - 65536 if signed and value >= 32768 else value
