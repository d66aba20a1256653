"""One picture or volume in, one answer out: organ, synthesis, edits, verdict, and what is needed to draw them."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from inference import whole_images
from inference.detectors import Detector, used
from inference.errors import InferenceError
from inference.findings import Finding, Observation, SeriesAnalysis, SeriesSynthesis, StudyAnalysis, Verdict
from inference.labelling import labelled
from inference.limits import Limits
from inference.looking import Analysed
from inference.pictures.deciding import Decision, Signs, class_of, decide, refused
from inference.pictures.edits import Edits, NotAsked, find_edits
from inference.pictures.pixels import Pixels, Read
from inference.pictures.subjects import Subject, pixels_of
from inference.presented import Grey, chosen, stretched
from inference.saliency import Saliency, rests_on
from inference.volume import SourceSlice
from inference.whole_images import UNRECOGNISED, Look, unrecognised
from models.errors import ModelsError
from models.images.organs import Organ
from models.images.prediction import ImageModel

_LEAST_SIDE = 32  # pixels
_LEAST_GREYS = 16  # distinct values; text, masks and drawings have fewer
_SAMPLE = 1 << 20
_TISSUE = 0.1  # of the range of values; below it is air
_FLAT = 0.001  # share of tissue at the very highest value; brain-lgg and brain-cheng have a tenth of it at most
_FEW = 8  # pixels


@dataclass(frozen=True)
class Judges:
    """Who looks; `shows` is what the caller says that the pictures show, where no model recognises it."""

    detectors: Sequence[Detector]
    image_model: ImageModel | None = None
    shows: Organ | None = None


@dataclass(frozen=True, eq=False)
class PlainAnalysis:
    """What is said of one subject. `analysis` is as for a study, without UIDs; `pixels` None: nothing could be read.

    `finding_class` is one word for the whole (`deciding.class_of`). `is_judged`: whether
    `analysis.score` says anything.
    """

    file: str
    members: tuple[str, ...]
    analysis: StudyAnalysis
    is_judged: bool = False
    finding_class: str | None = None
    saliency: Saliency | None = None
    pixels: Pixels | None = field(default=None, repr=False)

    def slice_file(self, index: int) -> str:
        return self.members[index] if len(self.members) > 1 else self.members[0]

    def to_json(self) -> dict[str, Any]:
        """The keys of a study, and `file`, `class` and what the synthesis score rests on."""
        record = self.analysis.to_json()
        slices = [
            {**entry, "sop_instance_uid": "", "file": self.slice_file(entry["index"])} for entry in record["slices"]
        ]
        resting = [
            {"file": self.slice_file(each.index), "slice": each.index, "words": each.words}
            for each in ([] if self.saliency is None else [self.saliency])
        ]
        return {**record, "slices": slices, "file": self.file, "class": self.finding_class, "rests_on": resting}


def judge(subject: Subject, judges: Judges, limits: Limits, read: Read) -> PlainAnalysis:
    """Look at one subject. Whatever is wrong with it becomes the reason of an ABSTAIN; no fault of input is raised."""
    started = time.monotonic()
    models = tuple(used(detector) for detector in judges.detectors)
    if judges.image_model is not None:
        models = (*models, whole_images.used(judges.image_model))
    pixels = None
    answer = _Answer(refused("it could not be looked at"))
    try:
        total = len(subject.members)
        pixels = pixels_of(subject, read, limits.max_voxels, lambda done: limits.tick("read", done, total))
        answer = _looked_at(subject, pixels, judges, limits)
    except (InferenceError, ModelsError) as fault:
        answer = _Answer(refused(str(fault), pixels.notes if pixels is not None else ()))
    except MemoryError:
        answer = _Answer(refused("more memory is needed than there is"))
    return PlainAnalysis(
        file=subject.file,
        members=tuple(file.name for file, _ in subject.members),
        analysis=StudyAnalysis(
            study_uid="",
            verdict=answer.decision.verdict,
            score=answer.decision.score,
            reasons=answer.decision.reasons,
            findings=tuple(answer.findings),
            series=tuple(answer.series),
            observations=answer.observations,
            models=models,
            seconds=round(time.monotonic() - started, 3),
            synthesis=() if answer.synthesis is None else (answer.synthesis,),
        ),
        is_judged=bool(answer.series) or answer.decision.verdict is not Verdict.ABSTAIN,
        finding_class=answer.finding_class,
        saliency=answer.saliency,
        pixels=pixels,
    )


@dataclass
class _Answer:
    decision: Decision
    finding_class: str | None = None
    findings: list[Finding] = field(default_factory=list)
    series: list[SeriesAnalysis] = field(default_factory=list)
    synthesis: SeriesSynthesis | None = None
    saliency: Saliency | None = None
    observations: tuple[Observation, ...] = ()


def _looked_at(subject: Subject, pixels: Pixels, judges: Judges, limits: Limits) -> _Answer:
    if (reason := _no_image(pixels)) is not None:
        return _Answer(refused(reason, pixels.notes))
    synthesis, saliency = None, None
    if judges.image_model is not None:
        synthesis, saliency = _whole(pixels, _names(subject, pixels), judges.image_model, limits)
    organ, refusal = _organ(synthesis, judges)
    if organ is Organ.UNKNOWN:
        return _Answer(refused(refusal, pixels.notes), synthesis=synthesis)
    edits: Edits | NotAsked
    try:
        doubt = _unrecognised(synthesis)
        edits = find_edits(pixels, organ, judges.detectors, limits, doubt=doubt, total=len(pixels.voxels))
    except ModelsError as fault:
        edits = NotAsked(str(fault))
    findings, series = _painted(edits)
    signs = Signs(
        edits,
        synthesis,
        findings,
        slices=len(pixels.voxels),
        gaps=pixels.gaps,
        doubts=(*pixels.doubts, *_cut_off(pixels)),
        notes=(*_taken_for(organ, synthesis), *pixels.notes),
    )
    decision = decide(signs)
    observed = () if edits.beyond is None else (edits.beyond.observation,)
    return _Answer(decision, class_of(decision, signs), findings, series, synthesis, saliency, observed)


def _no_image(pixels: Pixels) -> str | None:
    """What no network need be asked about."""
    rows, columns = pixels.voxels.shape[1:]
    if min(rows, columns) < _LEAST_SIDE:
        return f"{rows}×{columns} pixels; below {_LEAST_SIDE} there is nothing to judge"
    if float(np.ptp(pixels.voxels)) == 0:
        return "every pixel has the same value; there is nothing to look at"
    flat = pixels.voxels.ravel()
    greys = len(np.unique(flat[:: max(1, flat.size // _SAMPLE)]))
    if greys < _LEAST_GREYS:
        return f"only {greys} different grey values: a mask, a drawing or text, and no image of a scanner"
    return None


def _cut_off(pixels: Pixels) -> list[str]:
    """A viewer's window flattens what is brighter than white; a flat place looks filled in."""
    values = pixels.voxels.ravel()[:: max(1, pixels.voxels.size // _SAMPLE)]
    highest, lowest = float(pixels.voxels.max()), float(pixels.voxels.min())
    tissue = int(np.count_nonzero(values > lowest + _TISSUE * (highest - lowest)))
    if np.count_nonzero(values == highest) < max(_FLAT * tissue, _FEW):
        return []
    return ["its brightest values are cut off, as by a viewer's window"]


def _whole(
    pixels: Pixels, names: Sequence[str], model: ImageModel, limits: Limits
) -> tuple[SeriesSynthesis, Saliency | None]:
    """Organ and synthesis from the slices together, and where the strongest slice's score rests."""
    places = chosen(len(pixels.voxels))
    total = len(pixels.voxels)
    shown = (shown_slice(pixels, place) for place in places)
    is_one = len(places) == 1
    answers = whole_images.look(shown, model, saliency=is_one, before_each=lambda: limits.tick("detect", 0, total))
    looked = Look("", tuple(names[place] for place in places), tuple(answers), total, model.card)
    synthesis = whole_images.judged([looked])
    if synthesis.probability is None:
        return synthesis, None
    strongest = max(
        (at for at, answer in enumerate(answers) if answer.organ is not Organ.UNKNOWN),
        key=lambda at: answers[at].synthesis_logit,
    )
    weights = answers[strongest].saliency
    if not is_one:
        again = whole_images.look([shown_slice(pixels, places[strongest])], model, saliency=True)
        weights = again[0].saliency
    if weights is None:
        return synthesis, None
    return synthesis, Saliency(weights, rests_on(weights), places[strongest])


def _names(subject: Subject, pixels: Pixels) -> list[str]:
    if len(subject.members) == len(pixels.voxels):
        return [file.name for file, _ in subject.members]
    return [f"slice {place + 1}" for place in range(len(pixels.voxels))]


def shown_slice(pixels: Pixels, place: int) -> Grey:
    """A slice as a viewer shows it: 8-bit values as they are, others between their tails."""
    image = pixels.voxels[place]
    return image.astype(np.uint8) if pixels.is_shown else stretched(image)


def _organ(synthesis: SeriesSynthesis | None, judges: Judges) -> tuple[Organ, str]:
    """What it shows, or why that is not known. The caller's word counts where no model contradicts it."""
    seen = Organ.UNKNOWN if synthesis is None else Organ(synthesis.organ)
    if seen is not Organ.UNKNOWN and judges.shows not in (None, seen):
        return Organ.UNKNOWN, f"looks like a {seen}, and not like the {judges.shows} that --shows names"
    if seen is not Organ.UNKNOWN:
        return seen, ""
    if judges.shows is not None:
        return judges.shows, ""
    if synthesis is None:
        return Organ.UNKNOWN, (
            "nothing says what it shows: it has no DICOM header, and no whole-image model is here; say it with --shows"
        )
    return Organ.UNKNOWN, _unrecognised(synthesis)


def _unrecognised(synthesis: SeriesSynthesis | None) -> str:
    """Why a whole-image model names no organ; empty where it does, or none looked."""
    return "" if synthesis is None or synthesis.organ != Organ.UNKNOWN else unrecognised(synthesis.reason)


def _taken_for(organ: Organ, synthesis: SeriesSynthesis | None) -> list[str]:
    if synthesis is not None and synthesis.organ == organ.value:
        return []
    said = f"taken for a {organ} because --shows says so"
    return [f"{said}; the whole-image model sees {UNRECOGNISED}" if synthesis is not None else said]


def _painted(edits: Edits | NotAsked) -> tuple[list[Finding], list[SeriesAnalysis]]:
    if isinstance(edits, NotAsked):
        return [], []
    slices = len(edits.slice_scores)
    sources = tuple(SourceSlice("", None, Path()) for _ in range(slices))
    findings, _, series, _ = labelled(
        [Analysed("", sources, edits.slice_scores, list(edits.regions), edits.components, edits.beyond is not None)]
    )
    return findings, [replace(each, sop_instance_uids=("",) * slices) for each in series]
