"""From an analysis to files: make what the profile asks for, sign it, write it so that a repeat changes nothing."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from pydicom.dataset import Dataset

from gateway.results.capture import captures
from gateway.results.evidence import EvidenceFile, EvidenceKind, RevisionContext
from gateway.results.imprint import encode, write_atomically
from gateway.results.keyobjects import key_objects
from gateway.results.material import Material
from gateway.results.planar import planar_report
from gateway.results.presentation import presentation_states
from gateway.results.profiles import Profile
from gateway.results.report import report
from gateway.results.segmentation import label_maps, segmentations
from gateway.results.signing import Signer
from gateway.results.sources import read_sources
from gateway.results.summary import summary
from inference.decoding import Decode, decode
from inference.findings import StudyAnalysis

_MAKERS: Mapping[EvidenceKind, Callable[[Material], list[Dataset]]] = MappingProxyType(
    {
        EvidenceKind.SEG: segmentations,
        EvidenceKind.LABELMAP: label_maps,
        EvidenceKind.SC: captures,
        EvidenceKind.GSPS: presentation_states,
        EvidenceKind.TEXT: summary,
        EvidenceKind.PLANAR: planar_report,
        EvidenceKind.SR: report,
        EvidenceKind.KOS: key_objects,
    }
)


def build(
    analysis: StudyAnalysis,
    context: RevisionContext,
    profile: Profile,
    folder: Path,
    signer: Signer | None = None,
    decode: Decode = decode,
) -> list[EvidenceFile]:
    """See `gateway.results.build_evidence`."""
    material = Material(analysis, read_sources(context), context, profile, decode)
    for kind in EvidenceKind:
        if kind in profile.objects:
            material.made[kind] = _MAKERS[kind](material)
    written = []
    for kind, datasets in material.made.items():
        for dataset in datasets:
            encode(dataset, profile.picture_syntax if kind is EvidenceKind.SC else profile.transfer_syntax)
            if signer is not None:
                signer.sign(dataset, context.analysed_at)
            written.append(_written(kind, dataset, folder, material))
    return written


def _written(kind: EvidenceKind, dataset: Dataset, folder: Path, material: Material) -> EvidenceFile:
    path = folder / f"{kind.value}-{dataset.SOPInstanceUID}.dcm"
    write_atomically(dataset, path)
    return EvidenceFile(
        kind=kind,
        sop_instance_uid=str(dataset.SOPInstanceUID),
        sop_class_uid=str(dataset.SOPClassUID),
        series_uid=str(dataset.SeriesInstanceUID),
        path=path,
        observations=material.sources.patient.observations,
    )
