"""What is kept of each case that a model was tried on."""

from dataclasses import dataclass, field, fields

import numpy as np
from numpy.typing import NDArray

from models.fusion import Evidence

PIXEL_THRESHOLDS = np.round(np.arange(0.05, 1.0, 0.05), 2)
AS_STORED = "as stored"


@dataclass(frozen=True)
class SliceTrial:
    """One slice: its image logit, and pixel counts (true, false, missed) at each of PIXEL_THRESHOLDS.

    `family` None: genuine. `twin` is the logit of the genuine slice at the same place, after the same `condition`.
    `type_right`: share of the edited pixels whose most likely edit type is the true one. `shares` (types,): the edit
    types of what was flagged, weighted by its probability. `position`: 0 for the first slice of a series, 1 for the
    last. `size`: the diameter of a disc as large as the edit in this slice, as a share of the slice's width. `tumour`:
    whether the genuine slice shows a marked tumour, None where its source marks none. `tumour_said`: the model's
    probability of a real tumour, NaN of one that marks edits alone.
    """

    source: str
    patient: str
    family: str | None
    touched_up: bool
    logit: float
    twin: float
    pixels: NDArray[np.int64] = field(repr=False)
    type_right: float = float("nan")
    series: str = ""
    index: int = 0
    position: float = float("nan")
    edit_type: str | None = None
    size: float = 0.0
    tumour: bool | None = None
    tumour_said: float = float("nan")
    shares: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32), repr=False)
    condition: str = AS_STORED


@dataclass(frozen=True)
class StudyTrial:
    """One series as a study-level decision sees it: the image logits of its slices, in order, and other evidence.

    `evidence` None: none was kept. What models.fusion makes of it needs no pixel again.
    """

    source: str
    patient: str
    family: str | None
    touched_up: bool
    logits: NDArray[np.float32] = field(repr=False)
    evidence: Evidence | None = None


@dataclass(frozen=True)
class ScanTrial:
    """The regions that a model points at in one scan, or in one image that belongs to no scan (`alone`).

    Of a genuine scan (`family` None) `scores` holds every region: all are false alarms. Of an edited one it holds the
    best region that hits the edit, or nothing where the edit was missed.
    """

    source: str
    patient: str
    family: str | None
    touched_up: bool
    alone: bool
    scores: NDArray[np.float32] = field(repr=False)


@dataclass(frozen=True, eq=False)
class Shown:
    """A case for the eye, each (rows, columns) uint8: what was there, what the model was shown, what it flagged."""

    source: str
    series: str
    index: int
    family: str | None
    touched_up: bool
    logit: float
    genuine: NDArray[np.uint8] = field(repr=False)
    given: NDArray[np.uint8] = field(repr=False)
    mask: NDArray[np.bool_] = field(repr=False)
    said: NDArray[np.uint8] = field(repr=False)


@dataclass
class Trials:
    """Everything that was tried in one run. `edits` are checksums of the edited images, in order.

    `boxes` are as `scans`, but of the boxes of a density map; none of a model without one.
    """

    slices: list[SliceTrial] = field(default_factory=list)
    studies: list[StudyTrial] = field(default_factory=list)
    scans: list[ScanTrial] = field(default_factory=list)
    boxes: list[ScanTrial] = field(default_factory=list)
    conditions: list[SliceTrial] = field(default_factory=list)
    misses: list[Shown] = field(default_factory=list)
    alarms: list[Shown] = field(default_factory=list)
    edits: list[int] = field(default_factory=list)

    def add(self, other: "Trials") -> None:
        for each in fields(self):
            getattr(self, each.name).extend(getattr(other, each.name))


@dataclass(frozen=True)
class Plan:
    """How often each family is tried: edits per series (`native`: of more than 8 bit), and single slices.

    `conditions`: edits per series of which one slice goes through every condition of models.trials.conditions, with its
    genuine twin; `single_conditions` of a set of single slices. A fraction is a chance. `through_plane`: whether
    models.consistency is asked about each series, which takes a quarter of a second and more.
    """

    edits: float = 0.12
    native_edits: float = 1.0
    single_genuine: int = 120
    single_edits: int = 3
    conditions: float = 0.5
    native_conditions: float = 4.0
    single_conditions: int = 10
    through_plane: bool = True
