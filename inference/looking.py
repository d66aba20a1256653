"""One stack of slices: decode it once, ask every model that covers it, keep what they find and let the voxels go."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from inference import calibration, linking
from inference.coverage import is_localiser
from inference.detectors import Detection, Detector, check
from inference.errors import InferenceError, TimeLimitExceeded
from inference.findings import Observation
from inference.limits import Limits
from inference.linking import Region
from inference.provenance import observe_pixels
from inference.verdict import Unanalysed
from inference.volume import SourceSlice, Stack, Volume, load_volume
from models.card import ModelCard


@dataclass(frozen=True, eq=False)
class Analysed:
    """What stays of a volume after it was looked at; its voxels do not, a study may have many."""

    series_uid: str
    sources: tuple[SourceSlice, ...]
    slice_scores: tuple[float, ...]
    regions: list[tuple[float, Region]]
    components: NDArray[np.int32]


@dataclass
class Seen:
    """What grows while volumes are looked at, one after the other."""

    scores: list[float] = field(default_factory=list)
    volumes: list[Analysed] = field(default_factory=list)
    unanalysed: list[Unanalysed] = field(default_factory=list)
    observations: list[Observation] = field(default_factory=list)


def look_at(stack: Stack, detectors: Sequence[Detector], limits: Limits, found: Seen, done: int, total: int) -> None:
    """Decode one stack, ask the detectors that cover it, and keep what they find."""
    limits.tick("read", done, total)
    coverages = [(detector, detector.covers(stack)) for detector in detectors]
    covering = [detector for detector, coverage in coverages if coverage]
    if not covering:
        reason = coverages[0][1].reasons[0] if coverages else "no model is configured"
        found.unanalysed.append(Unanalysed(of_series(stack, reason), counts=not (is_localiser(stack))))
        _observe_only(stack, limits, found, done, total)
        return
    loaded = load_volume(
        stack,
        max_voxels=limits.max_voxels,
        after_each=lambda: limits.tick("read", done, total),
        decode=limits.decode,
    )
    found.unanalysed += [Unanalysed(str(fault)) for _, fault in loaded.unreadable]
    volume = loaded.volume
    if volume is None:
        return
    found.observations += observe_pixels(volume)
    if float(np.ptp(volume.voxels)) == 0:
        raise InferenceError("every pixel has the same value; there is nothing to look at")
    answers: list[tuple[ModelCard, Detection]] = []
    strange: list[str] = []
    for detector in covering:
        # Asked again: slices that could not be decoded are gone from the stack.
        coverage = detector.covers(volume.stack) and detector.recognises(volume)
        if not coverage:
            strange += coverage.reasons
            continue
        limits.tick("detect", done, total)
        answers.append((detector.card, check(detector.detect(volume, batch=limits.batch), volume)))
        limits.tick("detect", done + len(volume.voxels), total)
    if not answers:
        found.unanalysed.append(Unanalysed(of_series(stack, "; ".join(strange[:3]))))
        return
    cards, detections = [card for card, _ in answers], [detection for _, detection in answers]
    score, analysed = _linked(volume, cards, detections)
    found.scores.append(score)
    found.volumes.append(analysed)


def _observe_only(stack: Stack, limits: Limits, found: Seen, done: int, total: int) -> None:
    """Provenance needs no model: pixels that none covers are looked at too; what cannot be decoded is no gap here."""
    try:
        volume = load_volume(
            stack,
            max_voxels=limits.max_voxels,
            after_each=lambda: limits.tick("read", done, total),
            decode=limits.decode,
        ).volume
        if volume is not None:
            found.observations += observe_pixels(volume)
    except TimeLimitExceeded:
        raise
    except (InferenceError, MemoryError):
        return


def _linked(volume: Volume, cards: Sequence[ModelCard], detections: Sequence[Detection]) -> tuple[float, Analysed]:
    logits = [detection.logits for detection in detections]
    thresholds = calibration.thresholds_of(cards)
    score = calibration.study_score(cards, logits)
    geometry = volume.geometry
    regions, components = linking.link(
        calibration.fuse(detections),
        threshold=thresholds.pixel,
        voxel_mm3=volume.voxel_mm3,
        pixel_mm2=geometry.spacing[1] * geometry.spacing[2] if geometry is not None else 0.0,
    )
    # A region is only as likely as the slices that hold it: where they say no, a few loud pixels are a false alarm.
    scored = [(calibration.run_score(cards, logits, *region.slices) * region.strength, region) for region in regions]
    likely = [(value, region) for value, region in scored if value >= thresholds.review * thresholds.pixel]
    if score < thresholds.review:
        likely = []
    return score, Analysed(
        volume.series_uid, volume.instances, calibration.slice_scores(cards, logits), likely, components
    )


def of_series(stack: Stack, reason: str) -> str:
    modality = stack.members[0][0].modality
    return f"{f'{modality} ' if modality else ''}series …{stack.series_uid[-12:]}: {reason}"
