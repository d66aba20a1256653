"""SR: the verdict and the findings as an AIR-style measurement report (PS3.16 TID 1500, PS3.3 A.35.13).

A reader finds the conclusion first; a machine finds the verdict as a TID 1501 group and each finding as a TID 1411
group that refers to its segment.
"""

from collections.abc import Sequence
from typing import Any

from highdicom.sr import (
    AlgorithmIdentification,
    Comprehensive3DSR,
    FindingSite,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    QualitativeEvaluation,
    ReferencedSegment,
    SourceSeriesForSegmentation,
    TrackingIdentifier,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from pydicom.dataset import Dataset
from pydicom.uid import Comprehensive3DSRStorage

from gateway.results import codes, references, statements, wording
from gateway.results.evidence import EvidenceKind
from gateway.results.imprint import imprint, quiet_library
from gateway.results.material import Material
from inference.findings import Finding, SeriesSynthesis, Verdict

_Group = MeasurementsAndQualitativeEvaluations | VolumetricROIMeasurementsAndQualitativeEvaluations


def report(material: Material) -> list[Dataset]:
    """Make the SR. It refers to every instance that arrived, images or not, and to the SEGs."""
    algorithm = statements.algorithm(material)
    groups: list[_Group] = [_verdict_group(material, algorithm)]
    groups += [
        _finding_group(finding, material, algorithm) for finding in statements.listed(material.analysis.findings)
    ]
    groups += [
        _series_group(series, material, algorithm) for series in statements.listed_series(material.analysis.synthesis)
    ]
    segmentations = references.made(volume.dataset for volume in material.volumes)
    return [measurement_report(material, EvidenceKind.SR, groups, segmentations)]


def measurement_report(
    material: Material,
    kind: EvidenceKind,
    groups: Sequence[Any],
    referred: Sequence[references.Reference],
    *,
    says_more: bool = False,
) -> Dataset:
    """TID 1500 with these groups, which refer to `referred`; `says_more`: with verdict and background at its root.

    Comprehensive 3D SR also for outlines in the image plane: it is the class that viewers look for.
    """
    context, sources = material.context, material.sources
    modalities = dict.fromkeys(instance.modality for instance in sources.instances if instance.is_image)
    procedures = list(dict.fromkeys(codes.procedure(modality) for modality in modalities)) or [codes.procedure("")]
    root: Dataset = MeasurementReport(
        observation_context=statements.observer(material),
        procedure_reported=procedures,
        imaging_measurements=groups,
        title=codes.REPORT_TITLE,
    )[0]
    items = statements.first_lines(material)
    if says_more:
        items += [*statements.standing(material), *statements.background(material, kind)]
    statements.insert_before(root, items, codes.IMAGING_MEASUREMENTS)
    evidence = [*references.arrived(sources), *referred]
    with quiet_library():
        dataset = Comprehensive3DSR(
            evidence=[
                statements.anchor(context.study_uid, Comprehensive3DSRStorage),
                *references.stand_ins(referred, context.study_uid),
            ],
            content=root,
            **statements.document(material, kind, Comprehensive3DSRStorage),
        )
    library = references.image_library(sources)
    if library is not None:
        *before, measurements = dataset.ContentSequence
        dataset.ContentSequence = [*before, library, measurements]
    dataset.CurrentRequestedProcedureEvidenceSequence = references.current_evidence(evidence, context.study_uid)
    imprint(dataset, sources.patient, context.analysed_at)
    return dataset


def _verdict_group(material: Material, algorithm: AlgorithmIdentification) -> MeasurementsAndQualitativeEvaluations:
    """TID 1501: the verdict in codes, and everything that led to it in sentences."""
    analysis = material.analysis
    probability = []
    if analysis.verdict is not Verdict.ABSTAIN:  # its score says nothing, and would be read as half suspect
        probability = [statements.number(codes.MANIPULATION_PROBABILITY, 100 * analysis.score, codes.PERCENT)]
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=material.identity.tracking(0),
            identifier=f"Integrity of the study, revision {material.context.revision}",
        ),
        algorithm_id=algorithm,
        measurements=probability,
        qualitative_evaluations=[
            QualitativeEvaluation(name=codes.INTEGRITY_VERDICT, value=codes.VERDICTS[analysis.verdict])
        ],
    )
    group[0].ContentSequence.extend(statements.background(material, EvidenceKind.SR))
    return group


def _series_group(
    series: SeriesSynthesis, material: Material, algorithm: AlgorithmIdentification
) -> MeasurementsAndQualitativeEvaluations:
    """TID 1501: what the whole images of a series look like, beside the organ that they show."""
    measurements = []
    if series.probability is not None:
        measurements.append(statements.number(codes.GENERATION_PROBABILITY, 100 * series.probability, codes.PERCENT))
    organ = codes.ORGANS.get(series.organ)
    if organ is not None:
        measurements.append(statements.number(codes.ORGAN_PROBABILITY, 100 * series.organ_probability, codes.PERCENT))
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=material.identity.whole_images(series.series_uid),
            identifier=wording.whole_images_name(series, material.sources, material.context.revision),
        ),
        finding_category=codes.ORIGIN_CATEGORY,
        finding_type=codes.ORIGINS[series.verdict],
        finding_sites=[FindingSite(anatomic_location=organ)] if organ is not None else None,
        algorithm_id=algorithm,
        measurements=measurements,
    )
    said = wording.plain(wording.whole_images_sentence(series, material.sources))
    group[0].ContentSequence.append(statements.text(codes.COMMENT, said))
    return group


def _finding_group(finding: Finding, material: Material, algorithm: AlgorithmIdentification) -> _Group:
    """TID 1411 with the segment that shows the finding; TID 1501 where no SEG does."""
    style = codes.REGIONS[finding.finding_class]
    tracking = TrackingIdentifier(
        uid=material.identity.tracking(finding.label),
        identifier=codes.tracking_id(finding, material.context.revision),
    )
    measurements = [statements.number(codes.FINDING_CERTAINTY, 100 * finding.score, codes.PERCENT)]
    if finding.volume_mm3 > 0:
        measurements.append(statements.number(codes.VOLUME, finding.volume_mm3, codes.CUBIC_MILLIMETRE))
    drawn = material.segment_of(finding)
    group: _Group
    if drawn is None:
        group = MeasurementsAndQualitativeEvaluations(
            tracking_identifier=tracking,
            finding_category=style.category,
            finding_type=style.kind,
            algorithm_id=algorithm,
            measurements=measurements,
        )
    else:
        seg, number = drawn
        group = VolumetricROIMeasurementsAndQualitativeEvaluations(
            tracking_identifier=tracking,
            referenced_segment=ReferencedSegment(
                sop_class_uid=seg.dataset.SOPClassUID,
                sop_instance_uid=seg.dataset.SOPInstanceUID,
                segment_number=number,
                source_series=SourceSeriesForSegmentation(seg.source_series_uid),
            ),
            finding_category=style.category,
            finding_type=style.kind,
            algorithm_id=algorithm,
            measurements=measurements,
        )
    said = wording.finding_sentence(finding, material.volume_of[finding.label], material.sources)
    group[0].ContentSequence.append(statements.text(codes.COMMENT, wording.plain(said)))
    return group
