"""One stack of slices: decode it once, ask every model that covers it, keep what they find and let the voxels go."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from inference import calibration, linking, tumours
from inference.beyond import Beyond, Sense, judged, to_ask
from inference.choosing import Choice, by_header, by_organ, unseen
from inference.coverage import is_localiser
from inference.detectors import Detection, Detector, check
from inference.errors import InferenceError, TimeLimitExceeded
from inference.findings import Observation, Severity
from inference.limits import Limits
from inference.linking import Region
from inference.presented import MOST_SLICES, Grey, chosen, presented
from inference.provenance import observe_pixels, organ_against_header
from inference.verdict import Unanalysed
from inference.volume import SourceSlice, Stack, Volume, load_volume
from inference.whole_images import Look, look
from models.card import ModelCard
from models.images.prediction import ImageModel


@dataclass(frozen=True, eq=False)
class Analysed:
    """What stays of a volume after it was looked at; its voxels do not, a study may have many.

    `is_beyond`: who looked was not measured on such images. `doubts`: why what they answer is unlike any answer that
    they were calibrated on.
    """

    series_uid: str
    sources: tuple[SourceSlice, ...]
    slice_scores: tuple[float, ...]
    regions: list[tuple[float, Region]]
    components: NDArray[np.int32]
    is_beyond: bool = False
    doubts: tuple[str, ...] = ()


@dataclass
class Seen:
    """What grows while volumes are looked at, one after the other; `scores` leaves out what is `beyond`."""

    scores: list[float] = field(default_factory=list)
    beyond: list[Beyond] = field(default_factory=list)
    volumes: list[Analysed] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)
    unanalysed: list[Unanalysed] = field(default_factory=list)
    observations: list[Observation] = field(default_factory=list)


@dataclass(frozen=True)
class Looker:
    """Who looks at a stack of a study of `total` slices, of which `done` lie behind."""

    detectors: Sequence[Detector]
    image_model: ImageModel | None
    limits: Limits
    done: int
    total: int

    def tick(self, stage: str, more: int = 0) -> None:
        self.limits.tick(stage, self.done + more, self.total)


def look_at(stack: Stack, looker: Looker, found: Seen) -> None:
    """Decode one stack, say what it shows, ask the detectors that cover it, and keep what they find."""
    looker.tick("read")
    choice = by_header(stack, looker.detectors)
    is_covered, is_planning = bool(choice.detectors), not choice.detectors and is_localiser(stack)
    fits = int(np.prod(stack.shape)) <= looker.limits.max_voxels
    volume, fault = _decoded(stack, looker, found, is_covered=is_covered) if fits else (None, "")
    if volume is not None:
        found.observations += observe_pixels(volume)
    if looker.image_model is not None and not is_planning:
        shown = volume
        if not fits:
            shown, fault = _decoded(_sample(stack, looker.limits), looker, found, is_covered=False)
        if shown is not None:
            seen = _whole_images(shown, len(stack.members), looker.image_model, looker)
            found.looks.append(seen)
            found.observations += organ_against_header(stack, seen)
            choice = by_organ(stack, choice, looker.detectors, seen.agreement)
        elif not choice.detectors:
            choice = unseen(choice, fault)
    if not choice.detectors:
        found.unanalysed.append(Unanalysed(of_series(stack, choice.refusal), counts=not is_planning))
        return
    if not fits:
        volume, _ = _decoded(stack, looker, found, is_covered=True)  # mostly raises: how much, and what is allowed
    if volume is not None:
        _ask(volume, choice, looker, found)


def _decoded(stack: Stack, looker: Looker, found: Seen, *, is_covered: bool) -> tuple[Volume | None, str]:
    """The voxels of a stack, None where there are none, and why the first of its slices could not be decoded.

    Of a stack that a detector covers it is told what cannot be decoded; of the others the detectors' refusal says
    enough, and they are looked at for what needs no detector.
    """
    limits = looker.limits
    try:
        loaded = load_volume(
            stack, max_voxels=limits.max_voxels, after_each=lambda: looker.tick("read"), decode=limits.decode
        )
    except TimeLimitExceeded:
        raise
    except (InferenceError, MemoryError) as fault:
        if is_covered:
            raise
        return None, str(fault) or "more memory is needed than analysis.memory_limit"
    if is_covered:
        found.unanalysed += [Unanalysed(str(fault)) for _, fault in loaded.unreadable]
    return loaded.volume, str(loaded.unreadable[0][1]) if loaded.unreadable else ""


def _sample(stack: Stack, limits: Limits) -> Stack:
    """As many slices as whole images need and as may be decoded, of a stack that is too large to be a volume."""
    slices, rows, columns = stack.shape
    most = max(1, min(MOST_SLICES, limits.max_voxels // (rows * columns)))
    return replace(stack, members=tuple(stack.members[place] for place in chosen(slices, most)))


def _whole_images(volume: Volume, total: int, model: ImageModel, looker: Looker) -> Look:
    places = chosen(len(volume.voxels))
    answers = look(_presented(volume, places), model, before_each=lambda: looker.tick("detect"))
    images = tuple(volume.instances[place].sop_instance_uid for place in places)
    return Look(volume.series_uid, images, tuple(answers), total, model.card)


def _presented(volume: Volume, places: Sequence[int]) -> Iterator[Grey]:
    for place in places:
        instance, index = volume.stack.members[place]
        yield presented(volume.voxels[place], instance, instance.frames[index])


def _ask(volume: Volume, choice: Choice, looker: Looker, found: Seen) -> None:
    """Ask the chosen detectors about a decoded stack; where none was measured on such images, beyond its domain."""
    if float(np.ptp(volume.voxels)) == 0:
        raise InferenceError("every pixel has the same value; there is nothing to look at")
    # Asked again: slices that could not be decoded are gone from the stack.
    coverages = [(detector, detector.covers(choice.asked(volume.stack))) for detector in choice.detectors]
    detectors, strange = to_ask(volume, [detector for detector, coverage in coverages if coverage])
    if not detectors:
        refused = [reason for _, coverage in coverages for reason in coverage.reasons]
        found.unanalysed.append(Unanalysed(of_series(volume.stack, "; ".join([*refused, *strange][:3]))))
        return
    answers: list[tuple[ModelCard, Detection]] = []
    for detector in detectors:
        looker.tick("detect")
        answers.append((detector.card, check(detector.detect(volume, batch=looker.limits.batch), volume)))
        looker.tick("detect", len(volume.voxels))
    if choice.body_part:
        found.observations.append(_opened(volume, choice.body_part))
    cards, detections = [card for card, _ in answers], [detection for _, detection in answers]
    if not any(card.judges_edits for card in cards):
        reason = f"{cards[0].name} names tumours, and judges no edits; name a model that does in analysis.models"
        found.unanalysed.append(Unanalysed(of_series(volume.stack, reason)))
    score, analysed = linked(volume, cards, detections)
    if doubts := [doubt for doubt in (choice.doubt, *strange, *analysed.doubts) if doubt]:
        name = of_series(volume.stack)
        answer = judged(volume, cards, doubts, score, analysed.regions, analysed.components, name)
        _keep_beyond(analysed, answer, found)
        return
    found.scores.append(score)
    found.volumes.append(analysed)


def _keep_beyond(analysed: Analysed, answer: Beyond, found: Seen) -> None:
    """Keep an answer beyond the domain: its slices in any case, its regions where they make sense."""
    if answer.sense is not Sense.LOCAL:
        nothing = np.broadcast_to(np.int32(0), analysed.components.shape)  # and no memory
        analysed = replace(analysed, regions=[], components=nothing)
    found.volumes.append(replace(analysed, is_beyond=True))
    found.beyond.append(answer)
    found.observations.append(answer.observation)


def _opened(volume: Volume, body_part: str) -> Observation:
    """What no header says must not look as if one had said it."""
    text = (
        f"series …{volume.series_uid[-12:]} names no body part; it was analysed as {body_part}, which its images show"
    )
    return Observation("body-part-from-images", Severity.INFO, text, {"series_uid": volume.series_uid})


def linked(volume: Volume, cards: Sequence[ModelCard], detections: Sequence[Detection]) -> tuple[float, Analysed]:
    """The score of a volume, and its regions where that score asks for a look."""
    logits = [detection.logits for detection in detections]
    thresholds = calibration.thresholds_of(cards)
    known = calibration.known(cards, detections, volume)
    score = calibration.study_score(cards, logits, known)
    geometry = volume.geometry
    pixel_mm2 = geometry.spacing[1] * geometry.spacing[2] if geometry is not None else 0.0
    fused = calibration.fuse(detections)
    regions, components = linking.link(
        fused, threshold=thresholds.pixel, voxel_mm3=volume.voxel_mm3, pixel_mm2=pixel_mm2
    )
    # A region is only as likely as the slices that hold it: where they say no, a few loud pixels are a false alarm.
    scored = [
        (calibration.run_score(cards, logits, *region.slices, known) * region.strength, region) for region in regions
    ]
    likely = [(value, region) for value, region in scored if value >= thresholds.review * thresholds.pixel]
    if score < thresholds.review:
        likely = []
    if fused.lesion is not None:
        likely, components = tumours.beside(
            likely,
            components,
            fused.lesion,
            threshold=thresholds.lesion,
            voxel_mm3=volume.voxel_mm3,
            pixel_mm2=pixel_mm2,
        )
    return score, Analysed(
        volume.series_uid,
        volume.instances,
        calibration.slice_scores(cards, logits),
        likely,
        components,
        doubts=calibration.unlike(cards, logits, known),
    )


def of_series(stack: Stack, reason: str = "") -> str:
    modality = stack.members[0][0].modality
    name = f"{f'{modality} ' if modality else ''}series …{stack.series_uid[-12:]}"
    return f"{name}: {reason}" if reason else name
