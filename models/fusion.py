"""What is known of a series beside the logits of its slices, and how both become one probability that it was edited.

Evidence is read from a map of edited pixels at a fixed level, in training and inference alike; features are logits, or
logarithms of shares, that do not depend on the matrix. A region that goes on through slices in which the image logits
are high too speaks for an edit. A series that is loud everywhere is a strange source, not an edit.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models import consistency
from models.card import Calibration, Fusion, ModelCard, strongest_run

NATIVE, EIGHT_BIT = "native depth", "8 bit"  # the groups that may have a calibration of their own
RUNS = (1, 2, 3, 4)
CONSISTENCY = ("jitter", "edges", "noise", "band")  # of models.consistency
FEATURES = {  # with the sign that a coefficient may have
    **{f"run of {length}": 1 for length in RUNS},
    "persistence": 1,
    "strength": 1,
    "volume": 1,
    "agreement": 1,
    **dict.fromkeys(CONSISTENCY, 1),
    "elsewhere": -1,
    "flagged": -1,
}
FLAGGED, FLOOR = "flagged", "floor"  # what tells a series that is loud everywhere
_LEVEL = 0.7  # probability from which a pixel is flagged; fixed, for evidence is taken before thresholds are chosen
_LEAST = 8  # pixels of a region
_STRONGEST = 32  # pixels whose mean log-odds stand for a region
_SATURATED = 1e-4
_SILENT = -4.0  # logits below this all say the same
_VALUES, _SAMPLE = 256, 200_000
_NEIGHBOURS = np.ones((3, 3, 3), np.bool_)


@dataclass(frozen=True)
class Evidence:
    """What a map of edited pixels says of a series; the default: nothing is flagged.

    `strength`: mean log-odds of the strongest pixels of the strongest region. `volume`: how many slices that region
    would fill. `beside`: the mean logit of the slices that it is in. `elsewhere`: the share of the flagged pixels that
    lie outside it. `flagged`: the share of all pixels that are flagged. CONSISTENCY: of that region, 0 where there is
    none. `depth`: NATIVE or EIGHT_BIT.
    """

    strength: float = _SILENT
    volume: float = 0.0
    beside: float = _SILENT
    elsewhere: float = 0.0
    flagged: float = 0.0
    jitter: float = 0.0
    edges: float = 0.0
    noise: float = 0.0
    band: float = 0.0
    depth: str = NATIVE


def evidence(
    edit: NDArray[np.float32],
    logits: NDArray[np.float32],
    volume: NDArray[Any],
    spacing: tuple[float, float, float] | None,
    *,
    through_plane: bool = False,
) -> Evidence:
    """What the map `edit` (slices, rows, columns) says of `volume`, whose slices have these logits.

    `through_plane`: with models.consistency of the strongest region, which takes most of a second.
    """
    depth = depth_of(volume)
    flags = edit >= _LEVEL
    total = int(np.count_nonzero(flags))
    if not total:
        return Evidence(strength=_strength(_odds(edit.max(initial=0.0))), depth=depth)
    labels, count = ndimage.label(flags, structure=_NEIGHBOURS)
    places = ndimage.find_objects(labels, count)
    strengths = [_strength(_odds(edit[place][labels[place] == n])) for n, place in enumerate(places, 1)]
    strongest = int(np.argmax(strengths))
    place = places[strongest]
    size = int(np.count_nonzero(labels[place] == strongest + 1))
    found = consistency.Consistency()
    if through_plane and size >= _LEAST:
        found = consistency.evidence(volume.astype(np.float32, copy=False), labels == strongest + 1, spacing)
    return Evidence(
        strength=strengths[strongest],
        volume=size / (edit.shape[1] * edit.shape[2]),
        beside=float(logits[place[0]].mean()),
        elsewhere=1.0 - size / total,
        flagged=total / edit.size,
        **{name: float(getattr(found, name)) for name in CONSISTENCY},
        depth=depth,
    )


def _odds(probabilities: Any) -> NDArray[np.float64]:
    values = np.clip(np.asarray(probabilities, np.float64).ravel(), _SATURATED, 1 - _SATURATED)
    return np.asarray(np.log(values / (1 - values)))


def _strength(odds: NDArray[np.float64]) -> float:
    """A region of few pixels is as weak as if the others were undecided."""
    top = odds if odds.size <= _STRONGEST else np.partition(odds, -_STRONGEST)[-_STRONGEST:]
    return float(max(top.sum() / (_STRONGEST if top.min() >= 0 else top.size), _SILENT))


def depth_of(volume: NDArray[Any]) -> str:
    """Whether the images were stored in 8 bit at some time: no more than 256 values."""
    step = max(1, int(np.cbrt(volume.size / _SAMPLE)))
    return EIGHT_BIT if len(np.unique(volume[::step, ::step, ::step])) <= _VALUES else NATIVE


def features(logits: NDArray[np.float32], found: Evidence, calibration: Calibration) -> dict[str, float]:
    """The numbers that a fusion weighs, by the names in FEATURES."""
    values = np.maximum(np.asarray(logits, np.float64), _SILENT)
    even = -calibration.slice.offset / calibration.slice.slope  # a slice above it is rather edited than not
    return {
        **{f"run of {length}": strongest_run(values, length) for length in RUNS},
        "persistence": float(np.log1p(_longest(values > even))),
        "strength": found.strength,
        "volume": float(np.log(found.volume + 1e-3)),
        "agreement": max(min(found.strength, found.beside), _SILENT),
        **{name: getattr(found, name) for name in CONSISTENCY},
        "elsewhere": found.elsewhere,
        "flagged": float(np.log(found.flagged + 1e-4)),
    }


def _longest(above: NDArray[np.bool_]) -> int:
    """The length of the longest stretch of True."""
    ends = np.flatnonzero(np.diff(np.concatenate([[False], above, [False]]).astype(np.int8)))
    return int((ends[1::2] - ends[::2]).max(initial=0))


def reach(card: ModelCard) -> int:
    """The length of the longest run of slices that counts; a shorter stretch is judged with what is around it."""
    return card.calibration.run if card.fusion is None else max(card.calibration.run, *RUNS)


def probability(card: ModelCard, logits: NDArray[np.float32], found: Evidence | None) -> float:
    """The calibrated probability that any part of a series was edited: fused where the card says how.

    Without evidence, or a fusion in the card, the strongest run of slices decides alone.
    """
    if card.fusion is None or found is None or not len(logits):
        return card.study_probability(logits)
    return float(1.0 / (1.0 + np.exp(-logit(card, logits, found))))


def logit(card: ModelCard, logits: NDArray[np.float32], found: Evidence | None) -> float:
    """The log-odds of `probability`."""
    if card.fusion is None or found is None or not len(logits):
        calibrated, value = card.calibration.study, card.study_logit(logits)
    else:
        calibrated = card.fusion.groups.get(found.depth, card.fusion.pooled)
        value = weighed(card.fusion, features(logits, found, card.calibration))
    return calibrated.slope * value + calibrated.offset


def weighed(fusion: Fusion, values: dict[str, float]) -> float:
    """The logit of a series, not yet calibrated."""
    return fusion.offset + sum(weight * values[name] for name, weight in fusion.weights.items())


def loudness(logits: NDArray[np.float32], found: Evidence) -> dict[str, float]:
    """How loud a series is all over: share of flagged pixels, and the logit that three quarters of slices exceed."""
    return {FLAGGED: found.flagged, FLOOR: float(np.quantile(logits, 0.25))}


def unlike(card: ModelCard, logits: NDArray[np.float32], found: Evidence | None) -> list[str]:
    """Plain reasons why a series is louder all over than any that was calibrated on, edited ones among them."""
    if card.fusion is None or found is None or not len(logits):
        return []
    reasons, here = [], loudness(logits, found)
    flagged, floor = (card.fusion.loudest.get(name, float("inf")) for name in (FLAGGED, FLOOR))
    if here[FLAGGED] > flagged:
        reasons.append(
            f"{here[FLAGGED]:.1%} of all pixels look edited to {card.name}; of the series that it was calibrated on, "
            f"edited ones among them, at most {flagged:.1%}: unlike any of these"
        )
    if here[FLOOR] > floor:
        said = card.slice_probabilities(np.array([here[FLOOR], floor], np.float32))
        reasons.append(
            f"three quarters of its slices look edited to {card.name} with a probability above {said[0]:.2f}; of the "
            f"series that it was calibrated on, above {said[1]:.2f} at most: unlike any of these"
        )
    return reasons
