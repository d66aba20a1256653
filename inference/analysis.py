"""The one entry: the files of a study in, one verdict with its reasons out."""

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inference import calibration, linking, verdict
from inference.coverage import is_localiser
from inference.decoding import Decode, decode, refuse_unreadable
from inference.detectors import Detection, Detector, check, detectors_for, used
from inference.errors import GeometryError, InferenceError, NotDicom, NotOneStudy, TimeLimitExceeded, UnreadableInstance
from inference.findings import Finding, Observation, SeriesAnalysis, Severity, StudyAnalysis, classes_of
from inference.instances import Instance, read_instance
from inference.linking import Region
from inference.provenance import Baseline, StudyFacts, Trust, observe, observe_pixels, prove
from inference.verdict import Evidence, Unanalysed
from inference.volume import Series, SourceSlice, Stack, Volume, group_series, load_volume
from models.card import ModelCard
from models.errors import ModelsError

MOST_FINDINGS = 20
_MAX_VOXELS = 128 * 1024**2
_TIME_LIMIT = 900.0


@dataclass(frozen=True)
class Progress:
    """How far an analysis is: `done` of `total` slices of `stage` ('read' or 'detect')."""

    stage: str
    done: int
    total: int


@dataclass(frozen=True)
class Limits:
    """What one analysis may use."""

    batch: int
    max_voxels: int
    ends_at: float
    progress: Callable[[Progress], None] | None
    decode: Decode = decode

    def tick(self, stage: str, done: int, total: int) -> None:
        """Say how far we are; raises TimeLimitExceeded when there is no time left."""
        if self.progress is not None:
            self.progress(Progress(stage, done, total))
        if time.monotonic() > self.ends_at:
            raise TimeLimitExceeded(
                "the time limit of the study is over; raise analysis.time_limit or use a faster device"
            )


@dataclass(frozen=True)
class Given:
    """What the caller of an analysis knows beside the files."""

    observations: tuple[Observation, ...]
    trust: Trust
    notes: tuple[str, ...] = ()
    baselines: Mapping[str, Baseline] = field(default_factory=dict)


def analyse_study(
    files: Sequence[Path],
    *,
    models: Sequence[str | Detector],
    device: str = "auto",
    batch: int = 8,
    threads: int = 0,
    max_voxels: int = _MAX_VOXELS,
    time_limit: float = _TIME_LIMIT,
    observations: Sequence[Observation] = (),
    trust: Trust | None = None,
    baselines: Mapping[str, Baseline] | None = None,
    study_uid: str | None = None,
    progress: Callable[[Progress], None] | None = None,
    decode: Decode = decode,
) -> StudyAnalysis:
    """Look at every image of one study.

    `models` are registry names or detectors. `observations` are the caller's own, for example what the store knows
    about digests; an incident keeps the verdict from CLEAR. `trust` says whose signatures count and what came first
    from where; without it nothing is proven, and no study is VERIFIED. `baselines` say what each device always does, by
    `Origin.device`. `study_uid` names the study when no file can be read. Whatever is wrong with an instance becomes a
    reason; no fault of the input is raised. `decode` gives an instance's frames where it must not be this process that
    a broken decoder takes down.

    Raises NotOneStudy when the files belong to several studies, DeviceUnavailable when `device` is not here, and
    models.errors.ModelsError when a model is unknown or its weights are not those of its card.
    """
    started = time.monotonic()
    detectors = detectors_for(models, device=device, threads=threads)
    instances, unreadable = _read(files)
    uids = sorted({instance.study_uid for instance in instances} | ({study_uid} if study_uid else set()))
    if len(uids) > 1:
        raise NotOneStudy(f"files of {len(uids)} studies in one analysis ({', '.join(uids[:3])} …); analyse each apart")
    limits = Limits(batch, max_voxels, started + time_limit, progress, decode)
    gaps = [Unanalysed(str(fault)) for _, fault in unreadable]
    given = Given(tuple(observations), trust or Trust(), baselines=baselines or {})
    return _analyse(uids[0] if uids else "", instances, gaps, detectors, limits, given, started)


def analyse_folder(
    path: Path,
    *,
    models: Sequence[str | Detector],
    device: str = "auto",
    batch: int = 8,
    threads: int = 0,
    max_voxels: int = _MAX_VOXELS,
    time_limit: float = _TIME_LIMIT,
    trust: Trust | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> list[StudyAnalysis]:
    """Analyse every study under a folder (or in one file), in the order of their UIDs; `time_limit` is for each.

    Files that are not DICOM are named in reasons. A damaged instance counts for the study when there is one study;
    else it stands in a result of its own, without a UID.
    """
    detectors = detectors_for(models, device=device, threads=threads)
    instances, unreadable = _read(files_of(path))
    strangers = [file.name for file, fault in unreadable if isinstance(fault, NotDicom)]
    damaged = [Unanalysed(str(fault)) for _, fault in unreadable if not isinstance(fault, NotDicom)]
    notes = (f"not DICOM, ignored: {_listed(strangers)}",) if strangers else ()
    studies: dict[str, list[Instance]] = {}
    for instance in instances:
        studies.setdefault(instance.study_uid, []).append(instance)
    if len(studies) != 1 and (damaged or not studies):
        studies[""] = []
    results = []
    for uid, members in sorted(studies.items()):
        started = time.monotonic()
        limits = Limits(batch, max_voxels, started + time_limit, progress)
        gaps = damaged if len(studies) == 1 or not uid else []
        given = Given((), trust or Trust(), notes)
        results.append(_analyse(uid, members, gaps, detectors, limits, given, started))
    return results


def files_of(path: Path) -> list[Path]:
    """The files under a folder that may be instances, sorted; a DICOMDIR only lists them (PS3.10 §8.6)."""
    if path.is_file():
        return [path]
    found = (Path(folder, name) for folder, _, names in os.walk(path) for name in names if name.upper() != "DICOMDIR")
    return sorted(file for file in found if file.is_file())


@dataclass
class _Findings:
    """What grows while volumes are looked at, one after the other."""

    scores: list[float] = field(default_factory=list)
    volumes: list["_Analysed"] = field(default_factory=list)
    unanalysed: list[Unanalysed] = field(default_factory=list)
    observations: list[Observation] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class _Analysed:
    """What stays of a volume after it was looked at; its voxels do not, a study may have many."""

    series_uid: str
    sources: tuple[SourceSlice, ...]
    slice_scores: tuple[float, ...]
    regions: list[tuple[float, Region]]
    components: NDArray[np.int32]


def _read(files: Iterable[Path]) -> tuple[list[Instance], list[tuple[Path, UnreadableInstance]]]:
    instances: list[Instance] = []
    unreadable: list[tuple[Path, UnreadableInstance]] = []
    for file in files:
        try:
            instances.append(read_instance(file))
        except UnreadableInstance as fault:
            unreadable.append((file, fault))
        except OSError as fault:
            unreadable.append((file, UnreadableInstance(f"{file.name}: {fault.strerror or fault}")))
    return instances, unreadable


def _analyse(
    study_uid: str,
    instances: Sequence[Instance],
    gaps: Sequence[Unanalysed],
    detectors: Sequence[Detector],
    limits: Limits,
    given: Given,
    started: float,
) -> StudyAnalysis:
    found = _Findings(unanalysed=list(gaps))
    unique, incidents = _without_doubles(instances, limits.decode)
    stacks = _stacks(group_series(unique), found)
    facts = StudyFacts(tuple(unique), tuple(stacks), given.baselines)
    total = sum(stack.shape[0] for stack in stacks)
    done = 0
    for stack in stacks:
        try:
            _look_at(stack, detectors, limits, found, done, total)
        except (InferenceError, ModelsError) as fault:
            found.unanalysed.append(Unanalysed(_of_series(stack, str(fault))))
        except MemoryError:
            found.unanalysed.append(Unanalysed(_of_series(stack, "more memory is needed than analysis.memory_limit")))
        done += stack.shape[0]
    documents = sum(not instance.is_image for instance in unique)
    if documents:
        text = f"{documents:,} object{'s' if documents > 1 else ''} without an image (reports, documents, waveforms …)"
        found.unanalysed.append(Unanalysed(text, counts=not found.scores and not stacks))
    cards = [detector.card for detector in detectors]
    findings, left_out, series, sources = _labelled(found.volumes)
    signatures, proof = prove(unique, given.trust)
    all_observations = (*given.observations, *incidents, *signatures, *observe(facts), *found.observations)
    decision = verdict.decide(
        Evidence(
            scores=found.scores,
            slices=sum(len(analysed.sources) for analysed in found.volumes),
            findings=findings,
            left_out=left_out,
            unanalysed=found.unanalysed,
            observations=all_observations,
            notes=given.notes,
            proof=proof,
            sources=sources,
        ),
        calibration.thresholds_of(cards),
    )
    return StudyAnalysis(
        study_uid=study_uid,
        verdict=decision.verdict,
        score=decision.score,
        reasons=decision.reasons,
        findings=tuple(findings),
        series=tuple(series),
        observations=all_observations,
        models=tuple(used(detector) for detector in detectors),
        seconds=round(time.monotonic() - started, 3),
    )


def _without_doubles(instances: Sequence[Instance], decode: Decode) -> tuple[list[Instance], list[Observation]]:
    """One file for each SOP Instance UID: equal images are one instance, different ones an incident."""
    kept: dict[str, Instance] = {}
    contested: list[str] = []
    for instance in sorted(instances, key=lambda instance: str(instance.file)):
        first = kept.setdefault(instance.sop_instance_uid, instance)
        if first is not instance and not _same_image(first, instance, decode):
            contested.append(instance.sop_instance_uid)
    if not contested:
        return list(kept.values()), []
    uids = tuple(dict.fromkeys(contested))
    text = f"{len(uids)} SOP Instance UID{'s name' if len(uids) > 1 else ' names'} several different images"
    return list(kept.values()), [Observation("same-uid-other-file", Severity.INCIDENT, text, {}, uids)]


def _same_image(one: Instance, other: Instance, decode: Decode) -> bool:
    """Whether two files hold the same bytes, or the same pixels at the same place in another transfer syntax."""
    if one.file.read_bytes() == other.file.read_bytes():
        return True
    try:
        for instance in (one, other):
            refuse_unreadable(instance, _MAX_VOXELS)
        return one.frames == other.frames and _pixels(one, decode) == _pixels(other, decode)
    except UnreadableInstance:
        return False


def _pixels(instance: Instance, decode: Decode) -> str:
    digest = sha256()
    for frame in decode(instance):
        digest.update(str(frame.shape).encode())
        digest.update(np.ascontiguousarray(frame + 0.0).data)  # the two zeros are one value
    return digest.hexdigest()


def _stacks(all_series: Sequence[Series], found: _Findings) -> list[Stack]:
    stacks: list[Stack] = []
    for series in all_series:
        try:
            stacks += series.stacks()
        except GeometryError as fault:
            found.unanalysed.append(Unanalysed(str(fault)))
    return stacks


def _look_at(
    stack: Stack, detectors: Sequence[Detector], limits: Limits, found: _Findings, done: int, total: int
) -> None:
    """Decode one stack, ask the detectors that cover it, and keep what they find."""
    limits.tick("read", done, total)
    coverages = [(detector, detector.covers(stack)) for detector in detectors]
    covering = [detector for detector, coverage in coverages if coverage]
    if not covering:
        reason = coverages[0][1].reasons[0] if coverages else "no model is configured"
        found.unanalysed.append(Unanalysed(_of_series(stack, reason), counts=not (is_localiser(stack))))
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
        found.unanalysed.append(Unanalysed(_of_series(stack, "; ".join(strange[:3]))))
        return
    cards, detections = [card for card, _ in answers], [detection for _, detection in answers]
    score, analysed = _linked(volume, cards, detections)
    found.scores.append(score)
    found.volumes.append(analysed)


def _observe_only(stack: Stack, limits: Limits, found: _Findings, done: int, total: int) -> None:
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


def _linked(volume: Volume, cards: Sequence[ModelCard], detections: Sequence[Detection]) -> tuple[float, _Analysed]:
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
    return score, _Analysed(
        volume.series_uid, volume.instances, calibration.slice_scores(cards, logits), likely, components
    )


def _labelled(
    volumes: Sequence[_Analysed],
) -> tuple[list[Finding], int, list[SeriesAnalysis], dict[int, tuple[SourceSlice, ...]]]:
    """Number the regions of all volumes by score, the likeliest first, and paint them with their numbers.

    The findings, how many more there are, the painted volumes, and by label where the slices of a finding come from.
    """
    ranked = sorted(
        ((score, place, region) for place, analysed in enumerate(volumes) for score, region in analysed.regions),
        key=lambda entry: (-entry[0], entry[1], entry[2].component),
    )
    findings = [
        Finding(
            finding_class=region.finding_class,
            score=float(score),
            series_uid=volumes[place].series_uid,
            slices=region.slices,
            key_slice=region.key_slice,
            box=region.box,
            volume_mm3=region.volume_mm3,
            label=number,
        )
        for number, (score, place, region) in enumerate(ranked[:MOST_FINDINGS], start=1)
    ]
    tables = [np.zeros(int(analysed.components.max(initial=0)) + 1, np.uint16) for analysed in volumes]
    slices_of = {}
    for finding, (_, place, region) in zip(findings, ranked, strict=False):
        tables[place][region.component] = finding.label
        slices_of[finding.label] = volumes[place].sources
    series = []
    for analysed, table in zip(volumes, tables, strict=True):
        labels = table[analysed.components]
        sources = analysed.sources
        series.append(
            SeriesAnalysis(
                series_uid=analysed.series_uid,
                sop_instance_uids=tuple(source.sop_instance_uid for source in sources),
                frame_numbers=tuple(source.frame_number for source in sources),
                source_files=tuple(source.file for source in sources),
                slice_scores=analysed.slice_scores,
                labels=labels,
                classes=classes_of(labels, findings),
            )
        )
    return findings, max(0, len(ranked) - MOST_FINDINGS), series, slices_of


def _of_series(stack: Stack, reason: str) -> str:
    modality = stack.members[0][0].modality
    return f"{f'{modality} ' if modality else ''}series …{stack.series_uid[-12:]}: {reason}"


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(sorted(names)[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5:,} more"
