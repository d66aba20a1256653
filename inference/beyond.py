"""What models for edits answer beyond what they were measured on: never CLEAR or SUSPECT, REVIEW where it makes sense.

Their probabilities were calibrated on other images, and prove nothing there. What would be SUSPECT at home is REVIEW
there, if it is one place or a few, as an edit is; a model that is loud all over a volume says something of its images,
and nothing of an edit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from inference import calibration
from inference.detectors import Detector
from inference.findings import Observation, Severity
from inference.linking import Region
from inference.volume import Volume
from models.card import ModelCard

MOST_REGIONS = 5
MOST_TISSUE = 0.05  # a cuboid of 32 mm, as CT-GAN's, is 1 to 3 % of a head


class Sense(StrEnum):
    """What an answer beyond the domain is good for."""

    LOCAL = "local"  # a few places: for REVIEW
    QUIET = "quiet"  # less than would be SUSPECT at home
    NONE = "none"  # loud, and nowhere or everywhere


@dataclass(frozen=True)
class Beyond:
    """One answer. `doubts` say what the models were not measured on, `share` how much of the tissue they flag.

    `series` is how reasons call the volume; empty where there is nothing else.
    """

    series: str
    series_uid: str
    models: tuple[str, ...]
    doubts: tuple[str, ...]
    score: float
    regions: int
    share: float
    sense: Sense

    @property
    def reason(self) -> str:
        """Why it was not simply analysed, and what came of asking."""
        if self.sense is Sense.LOCAL:
            outcome = "so this is for REVIEW, and no more"
        elif self.sense is Sense.QUIET:
            outcome = f"asked all the same, it finds nothing that would count there (probability {self.score:.2f})"
        else:
            found = f"{self.regions} region{'' if self.regions == 1 else 's'}, {self.share:.0%} of the tissue flagged"
            outcome = f"asked all the same, it gives answers that make no sense on these images ({found})"
        where = f"{self.series}: " if self.series else ""
        doubts, models = "; ".join(self.doubts[:3]), " and ".join(self.models)
        return f"{where}{doubts}; beyond what {models} was measured on; {outcome}"

    @property
    def observation(self) -> Observation:
        evidence = {
            "series_uid": self.series_uid,
            "models": list(self.models),
            "probability": self.score,
            "regions": self.regions,
            "share_of_tissue": self.share,
            "sense": self.sense.value,
        }
        return Observation("asked-beyond-domain", Severity.INFO, self.reason, evidence)


def to_ask(volume: Volume, covering: Sequence[Detector]) -> tuple[list[Detector], list[str]]:
    """Those that were measured on such images; where none was, all that judge edits, and why that is beyond them."""
    coverages = [(detector, detector.recognises(volume)) for detector in covering]
    if at_home := [detector for detector, coverage in coverages if coverage]:
        return at_home, []
    strange = [reason for _, coverage in coverages for reason in coverage.reasons]
    return [detector for detector in covering if detector.card.judges_edits], strange


def judged(
    volume: Volume,
    cards: Sequence[ModelCard],
    doubts: Sequence[str],
    score: float,
    regions: Sequence[tuple[float, Region]],
    components: NDArray[np.int32],
    series: str = "",
) -> Beyond:
    """What the answer of these models on one volume is good for.

    `components` (slices, rows, columns) holds all that is flagged, `regions` what is left of it where `score` asks for
    a look.
    """
    from models import inputs

    edits = sum(region.finding_class.is_edit for _, region in regions)
    share = float(np.count_nonzero(components) / max(1, inputs.tissue(volume.voxels)))
    sense = Sense.LOCAL if 1 <= edits <= MOST_REGIONS and share <= MOST_TISSUE else Sense.NONE
    if score < calibration.thresholds_of(cards).suspect:
        sense = Sense.QUIET
    names = tuple(card.name for card in cards if card.judges_edits)
    return Beyond(series, volume.series_uid, names, tuple(doubts), score, edits, share, sense)
