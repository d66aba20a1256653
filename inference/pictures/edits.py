"""What the edit models say of a plain picture or volume; its images, not a header, say whether they cover it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inference import calibration, linking, tumours
from inference.beyond import Beyond, Sense, judged, to_ask
from inference.body_parts import covers_organ
from inference.detectors import Detection, Detector, check
from inference.geometry import Geometry
from inference.limits import Limits
from inference.linking import Region
from inference.looking import linked
from inference.pictures.pixels import Pixels
from inference.volume import SourceSlice, Stack, Volume
from models.card import ModelCard, Thresholds
from models.images.organs import Organ

_LEAST_SLICES = 3  # as for DICOM: below it nothing can be said about how a region goes on through slices


@dataclass(frozen=True, eq=False)
class Edits:
    """What the covering models found together.

    `score` is the calibrated probability that it was edited; `review` and `suspect` say from where on that counts, for
    one picture or for a series. `regions` come with their scores, `components` holds them by number, (slices, rows,
    columns). `beyond`: the models were not measured on such images, and this is what their answer is good for.
    """

    score: float
    slice_scores: tuple[float, ...]
    regions: tuple[tuple[float, Region], ...]
    components: NDArray[np.int32] = field(repr=False)
    thresholds: Thresholds
    cards: tuple[ModelCard, ...] = field(repr=False)
    is_series: bool
    beyond: Beyond | None = None

    @property
    def review(self) -> float:
        return self.thresholds.review if self.is_series else self.thresholds.slice


@dataclass(frozen=True)
class NotAsked:
    """Why no edit model answered; `beyond`: one did, and its answer makes no sense."""

    reason: str
    beyond: Beyond | None = None


def find_edits(
    pixels: Pixels, organ: Organ, detectors: Sequence[Detector], limits: Limits, *, doubt: str = "", total: int = 0
) -> Edits | NotAsked:
    """Ask the models that were made for this organ; fewer than three slices are judged as single pictures are.

    `doubt` says why it may be another organ. A series that no model was measured on is asked about all the same
    (`inference.beyond`), a single picture is not.

    Raises TimeLimitExceeded, and InferenceError when an answer does not fit.
    """
    fitting = [detector for detector in detectors if covers_organ(detector.card, organ)]
    if not fitting:
        return NotAsked(f"no model for added or removed lesions covers a {organ}")
    slices, rows, columns = pixels.voxels.shape
    if 1 < slices < _LEAST_SLICES:
        return NotAsked(f"{slices} slices; at least {_LEAST_SLICES} make a series")
    volume = _volume(pixels)
    cards = [detector.card for detector in fitting if not detector.card.covers(rows, columns)]
    refused = [f"matrix {rows}×{columns}; {card.name} covers {card.min_matrix} to {card.max_matrix}" for card in cards]
    asked, strange = to_ask(volume, [detector for detector in fitting if detector.card.covers(rows, columns)])
    if not asked or (strange and slices < _LEAST_SLICES):
        return NotAsked("; ".join([*refused, *strange][:3]))
    answers: list[tuple[ModelCard, Detection]] = []
    for detector in asked:
        limits.tick("detect", 0, total)
        answers.append((detector.card, check(detector.detect(volume, batch=limits.batch), volume)))
    return _together(volume, answers, [each for each in (doubt, *strange) if each])


def _together(
    volume: Volume, answers: Sequence[tuple[ModelCard, Detection]], doubts: Sequence[str]
) -> Edits | NotAsked:
    cards, detections = tuple(card for card, _ in answers), [detection for _, detection in answers]
    if not any(card.judges_edits for card in cards):
        return NotAsked(
            f"{cards[0].name} names tumours, and judges no edits; name a model that does in analysis.models"
        )
    thresholds = calibration.thresholds_of(cards)
    if len(volume.voxels) < _LEAST_SLICES:
        return _of_one(cards, detections, thresholds)
    score, found = linked(volume, cards, detections)
    doubts = [*doubts, *found.doubts]
    beyond = judged(volume, cards, doubts, score, found.regions, found.components) if doubts else None
    if beyond is not None and beyond.sense is Sense.NONE:
        return NotAsked(beyond.reason, beyond)
    regions = tuple(found.regions) if beyond is None or beyond.sense is Sense.LOCAL else ()
    return Edits(score, found.slice_scores, regions, found.components, thresholds, cards, True, beyond)


def _of_one(cards: tuple[ModelCard, ...], detections: Sequence[Detection], thresholds: Thresholds) -> Edits:
    """One picture has the calibration of one slice; a run of slices would lend it a certainty that it has not."""
    (score,) = scores = calibration.slice_scores(cards, [detection.logits for detection in detections])
    fused = calibration.fuse(detections)
    volumes, area = np.zeros(1), 0.0  # no header tells how large a pixel is
    regions, components = linking.link(fused, threshold=thresholds.pixel, voxel_mm3=volumes, pixel_mm2=area)
    kept = [(score * region.strength, region) for region in regions] if score >= thresholds.slice else []
    if fused.lesion is not None:
        kept, components = tumours.beside(
            kept, components, fused.lesion, threshold=thresholds.lesion, voxel_mm3=volumes, pixel_mm2=area
        )
    return Edits(score, scores, tuple(kept), components, thresholds, cards, False)


def _volume(pixels: Pixels) -> Volume:
    """As detectors take it: no instances, for there is no header to ask."""
    slices = len(pixels.voxels)
    geometry = None
    if pixels.spacing is not None:
        between = pixels.spacing[0]
        affine = np.diag([*pixels.spacing, 1.0])
        positions = np.zeros((slices, 3))
        positions[:, 2] = np.arange(slices) * between
        geometry = Geometry(pixels.spacing, affine, positions, np.full(slices, between), (), True)
    sources = tuple(SourceSlice("", None, Path()) for _ in range(slices))
    return Volume("", pixels.voxels, sources, Stack("", (), geometry))
