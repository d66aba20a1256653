"""Noise that stands twice in one scan, as an observation; the search for it is in `noise`."""

from collections.abc import Iterator

from inference.findings import Observation, Severity
from inference.provenance.noise import copied_noise
from inference.provenance.rules import pixel_rule
from inference.provenance.wording import short
from inference.volume import Volume

LEAST_RADIUS = 8.5  # pixels; the largest that was measured in genuine scans is in docs/provenance.md


@pixel_rule
def noise_is_measured_once(volume: Volume) -> Iterator[Observation]:
    """Copied noise, or tissue cloned with its noise. Lossy images repeat their codes' patterns and are left out."""
    if any(instance.lossy == "01" for instance in volume.stack.instances):
        return
    copies = copied_noise(volume.voxels, LEAST_RADIUS)
    if not copies:
        return
    slices = sorted({index for copy in copies for index in copy.slices})
    yield Observation(
        "copied-noise",
        Severity.WARNING,
        f"two places of {short(volume.series_uid)} have the same noise, which no scanner measures twice "
        f"(slice{'s' if len(slices) > 1 else ''} {', '.join(str(index + 1) for index in slices[:6])}): one of them "
        "was copied "
        "or covered with copied noise; look at both places and fetch the original",
        {
            "series_uid": volume.series_uid,
            "copies": [
                {
                    "displacement": list(copy.displacement),
                    "radius_pixels": copy.radius,
                    "correlation": copy.correlation,
                    "slices": list(copy.slices),
                    "box": list(copy.one),
                    "other_box": list(copy.other),
                }
                for copy in copies[:5]
            ],
        },
        tuple(dict.fromkeys(volume.instances[index].sop_instance_uid for index in slices)),
    )
