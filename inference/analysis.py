"""The one entry: the files of a study in, one verdict with its reasons out."""

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from inference import calibration, verdict, whole_images
from inference.comparison import compare
from inference.decoding import Decode, decode
from inference.detectors import Detector, detectors_for, used
from inference.doubles import without_doubles
from inference.errors import GeometryError, InferenceError, NotDicom, NotOneStudy, UnreadableInstance
from inference.findings import ModelUsed, Observation, StudyAnalysis
from inference.instances import Instance, read_instance
from inference.labelling import labelled
from inference.limits import MAX_VOXELS, TIME_LIMIT, Limits, Progress
from inference.looking import Looker, Seen, look_at, of_series
from inference.provenance import Baseline, StudyFacts, Trust, observe, prove
from inference.verdict import Evidence, Unanalysed
from inference.volume import Series, Stack, group_series
from inference.whole_images import by_series, image_model_for
from models.errors import ModelsError
from models.images.prediction import ImageModel

__all__ = ["Progress", "analyse_folder", "analyse_study", "files_of"]


@dataclass(frozen=True)
class Lookers:
    """Every model of an analysis."""

    detectors: tuple[Detector, ...]
    image_model: ImageModel | None

    @property
    def used(self) -> tuple[ModelUsed, ...]:
        whole = () if self.image_model is None else (whole_images.used(self.image_model),)
        return (*(used(detector) for detector in self.detectors), *whole)


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
    image_model: str | ImageModel | None = None,
    device: str = "auto",
    batch: int = 8,
    threads: int = 0,
    max_voxels: int = MAX_VOXELS,
    time_limit: float = TIME_LIMIT,
    observations: Sequence[Observation] = (),
    trust: Trust | None = None,
    baselines: Mapping[str, Baseline] | None = None,
    study_uid: str | None = None,
    progress: Callable[[Progress], None] | None = None,
    decode: Decode = decode,
) -> StudyAnalysis:
    """Look at every image of one study.

    `models` are registry names or detectors, `image_model` says what `inference.whole_images.image_model_for` takes.
    `observations` are the caller's own, for example what the store knows
    about digests; an incident keeps the verdict from CLEAR. `trust` says whose signatures count and what came first
    from where; without it nothing is proven, and no study is VERIFIED. `baselines` say what each device always does, by
    `Origin.device`. `study_uid` names the study when no file can be read. Whatever is wrong with an instance becomes a
    reason; no fault of the input is raised. `decode` gives an instance's frames where it must not be this process that
    a broken decoder takes down.

    Raises NotOneStudy when the files belong to several studies, DeviceUnavailable when `device` is not here, and
    models.errors.ModelsError when a model is unknown or its weights are not those of its card.
    """
    started = time.monotonic()
    lookers = Lookers(
        detectors_for(models, device=device, threads=threads),
        image_model_for(image_model, device=device, threads=threads),
    )
    instances, unreadable = _read(files)
    uids = sorted({instance.study_uid for instance in instances} | ({study_uid} if study_uid else set()))
    if len(uids) > 1:
        raise NotOneStudy(f"files of {len(uids)} studies in one analysis ({', '.join(uids[:3])} …); analyse each apart")
    limits = Limits(batch, max_voxels, started + time_limit, progress, decode)
    gaps = [Unanalysed(str(fault)) for _, fault in unreadable]
    given = Given(tuple(observations), trust or Trust(), baselines=baselines or {})
    return _analyse(uids[0] if uids else "", instances, gaps, lookers, limits, given, started)


def analyse_folder(
    path: Path | Sequence[Path],
    *,
    models: Sequence[str | Detector],
    image_model: str | ImageModel | None = None,
    device: str = "auto",
    batch: int = 8,
    threads: int = 0,
    max_voxels: int = MAX_VOXELS,
    time_limit: float = TIME_LIMIT,
    trust: Trust | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> list[StudyAnalysis]:
    """Analyse every study under a folder, in one file or in some, by the order of their UIDs; `time_limit` is for each.

    Files that are not DICOM are named in reasons. A damaged instance counts for the study when there is one study;
    else it stands in a result of its own, without a UID.
    """
    lookers = Lookers(
        detectors_for(models, device=device, threads=threads),
        image_model_for(image_model, device=device, threads=threads),
    )
    instances, unreadable = _read(files_of(path) if isinstance(path, Path) else path)
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
        results.append(_analyse(uid, members, gaps, lookers, limits, given, started))
    return results


def files_of(path: Path) -> list[Path]:
    """The files under a folder that may be instances, sorted; a DICOMDIR only lists them (PS3.10 §8.6)."""
    if path.is_file():
        return [path]
    found = (Path(folder, name) for folder, _, names in os.walk(path) for name in names if name.upper() != "DICOMDIR")
    return sorted(file for file in found if file.is_file())


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
    lookers: Lookers,
    limits: Limits,
    given: Given,
    started: float,
) -> StudyAnalysis:
    found = Seen(unanalysed=list(gaps))
    unique, incidents = without_doubles(instances, limits.decode)
    stacks = _stacks(group_series(unique), found)
    facts = StudyFacts(tuple(unique), tuple(stacks), given.baselines)
    total = sum(stack.shape[0] for stack in stacks)
    done = 0
    for stack in stacks:
        try:
            look_at(stack, Looker(lookers.detectors, lookers.image_model, limits, done, total), found)
        except (InferenceError, ModelsError) as fault:
            found.unanalysed.append(Unanalysed(of_series(stack, str(fault))))
        except MemoryError:
            found.unanalysed.append(Unanalysed(of_series(stack, "more memory is needed than analysis.memory_limit")))
        done += stack.shape[0]
    compared, omitted = compare(stacks, limits)
    found.observations += compared
    found.unanalysed += [Unanalysed(reason, counts=False) for reason in omitted]
    documents = sum(not instance.is_image for instance in unique)
    if documents:
        text = f"{documents:,} object{'s' if documents > 1 else ''} without an image (reports, documents, waveforms …)"
        found.unanalysed.append(Unanalysed(text, counts=not found.scores and not stacks))
    cards = [detector.card for detector in lookers.detectors]
    synthesis = by_series(found.looks)
    found.unanalysed += [
        Unanalysed(f"series …{each.series_uid[-12:]}: {each.doubt}") for each in synthesis if each.doubt
    ]
    findings, left_out, series, sources = labelled(found.volumes)
    signatures, proof = prove(unique, given.trust)
    all_observations = (*given.observations, *incidents, *signatures, *observe(facts), *found.observations)
    decision = verdict.decide(
        Evidence(
            scores=found.scores,
            slices=sum(len(analysed.sources) for analysed in found.volumes if not analysed.is_beyond),
            findings=findings,
            left_out=left_out,
            unanalysed=found.unanalysed,
            observations=all_observations,
            notes=given.notes,
            proof=proof,
            sources=sources,
            synthesis=synthesis,
            beyond=found.beyond,
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
        models=lookers.used,
        seconds=round(time.monotonic() - started, 3),
        synthesis=synthesis,
    )


def _stacks(all_series: Sequence[Series], found: Seen) -> list[Stack]:
    stacks: list[Stack] = []
    for series in all_series:
        try:
            stacks += series.stacks()
        except GeometryError as fault:
            found.unanalysed.append(Unanalysed(str(fault)))
    return stacks


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(sorted(names)[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5:,} more"
