"""From an analysis to files: draw what can be drawn, report everything, write it so that a repeat changes nothing."""

from collections import Counter
from pathlib import Path

from pydicom.dataset import Dataset

from gateway.results import wording
from gateway.results.evidence import EvidenceFile, EvidenceKind, RevisionContext
from gateway.results.imprint import write_atomically
from gateway.results.profiles import Profile
from gateway.results.references import Drawing
from gateway.results.report import report
from gateway.results.segmentation import DrawnVolume, NotDrawable, draw
from gateway.results.signing import Signer
from gateway.results.sources import Sources, read_sources
from inference.findings import Observation, StudyAnalysis


def build(
    analysis: StudyAnalysis, context: RevisionContext, profile: Profile, folder: Path, signer: Signer | None = None
) -> list[EvidenceFile]:
    """See `gateway.results.build_evidence`."""
    sources = read_sources(context)
    corrections = sources.patient.observations
    wants_seg = EvidenceKind.SEG in profile.objects
    drawing = _draw_all(analysis, sources, context, profile) if wants_seg else Drawing((), ())
    finished: list[tuple[EvidenceKind, Dataset]] = [(EvidenceKind.SEG, volume.dataset) for volume in drawing.volumes]
    if EvidenceKind.SR in profile.objects:
        document = report(
            analysis, drawing=drawing, corrections=corrections, sources=sources, context=context, profile=profile
        )
        finished.append((EvidenceKind.SR, document))
    if signer is not None:
        for _, dataset in finished:
            signer.sign(dataset, context.analysed_at)
    return [_written(kind, dataset, folder, corrections) for kind, dataset in finished]


def _draw_all(analysis: StudyAnalysis, sources: Sources, context: RevisionContext, profile: Profile) -> Drawing:
    volumes: list[DrawnVolume] = []
    notes: list[str] = []
    seen: Counter[str] = Counter()
    for volume in analysis.series:
        index = seen[volume.series_uid]
        seen[volume.series_uid] += 1
        findings = [finding for finding in analysis.findings if finding.series_uid == volume.series_uid]
        if not findings or not any(labels.any() for labels in volume.labels):
            continue
        try:
            drawn = draw(
                volume,
                index,
                findings,
                models=analysis.models,
                sources=sources,
                context=context,
                profile=profile,
                series_number=profile.number_of(EvidenceKind.SEG, len(volumes)),
            )
        except NotDrawable as fault:
            name = wording.series_name(volume.series_uid, sources)
            notes.append(f"The regions in {name} are not drawn: {fault}.")
        else:
            volumes.append(drawn)
    shown = {label for volume in volumes for label in volume.segments}
    missing = len(analysis.findings) - len(shown)
    if volumes and missing:
        notes.append(f"{missing} of {len(analysis.findings)} regions are listed without a drawing.")
    return Drawing(tuple(volumes), tuple(notes))


def _written(kind: EvidenceKind, dataset: Dataset, folder: Path, corrections: tuple[Observation, ...]) -> EvidenceFile:
    path = folder / f"{kind.value}-{dataset.SOPInstanceUID}.dcm"
    write_atomically(dataset, path)
    return EvidenceFile(
        kind=kind,
        sop_instance_uid=str(dataset.SOPInstanceUID),
        sop_class_uid=str(dataset.SOPClassUID),
        series_uid=str(dataset.SeriesInstanceUID),
        path=path,
        observations=corrections,
    )
