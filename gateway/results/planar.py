"""PLANAR: the outline of each finding on its key slice, as a measurement report with polylines (PS3.16 TID 1410).

OHIF draws outlines and takes no segment references; Slicer, when it sees outlines, skips the segments. So this report
has a series of its own beside the SR. Every group has an outline, and the verdict stands at the root: OHIF fails at a
measurement in a group without one. Where nothing can be outlined there is no such report.
"""

from highdicom.sr import (
    AlgorithmIdentification,
    GraphicTypeValues,
    ImageRegion,
    PlanarROIMeasurementsAndQualitativeEvaluations,
    SourceImageForRegion,
    TrackingIdentifier,
)
from pydicom.dataset import Dataset

from gateway.results import codes, statements, wording
from gateway.results.evidence import EvidenceKind
from gateway.results.keyslices import KeySlice, key_slices
from gateway.results.material import Material
from gateway.results.report import measurement_report
from inference.findings import Finding


def planar_report(material: Material) -> list[Dataset]:
    """Make the report; nothing when no finding has an outline on an image that a document may refer to."""
    outlined: dict[int, KeySlice] = {}
    for key in key_slices(material.analysis, material.sources, edits_only=False):
        if key.is_referable:
            outlined.update((finding.label, key) for finding in key.findings)
    algorithm = statements.algorithm(material)
    shown = statements.listed([finding for finding in material.analysis.findings if finding.label in outlined])
    if not shown:
        return []
    if missing := len(material.analysis.findings) - len(shown):
        material.note(f"{missing} of {len(material.analysis.findings)} regions have no outline.")
    groups = [_group(finding, outlined[finding.label], material, algorithm) for finding in shown]
    images = [outlined[finding.label].reference for finding in shown]
    return [measurement_report(material, EvidenceKind.PLANAR, groups, images, says_more=True)]


def _group(
    finding: Finding, key: KeySlice, material: Material, algorithm: AlgorithmIdentification
) -> PlanarROIMeasurementsAndQualitativeEvaluations:
    """TID 1410. A template's group has one outline: that of the largest part, and the comment counts the others."""
    style = codes.REGIONS[finding.finding_class]
    parts = key.outlines[finding.label]
    measurements = [statements.number(codes.FINDING_CERTAINTY, 100 * finding.score, codes.PERCENT)]
    if finding.volume_mm3 > 0:
        measurements.append(statements.number(codes.VOLUME, finding.volume_mm3, codes.CUBIC_MILLIMETRE))
    group = PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=material.identity.tracking(finding.label),
            identifier=codes.tracking_id(finding, material.context.revision),
        ),
        referenced_region=ImageRegion(
            graphic_type=GraphicTypeValues.POLYLINE,
            graphic_data=parts[0],
            source_image=SourceImageForRegion(
                referenced_sop_class_uid=key.instance.sop_class_uid,
                referenced_sop_instance_uid=key.instance.sop_instance_uid,
                referenced_frame_numbers=None if key.frame_number is None else [key.frame_number],
            ),
        ),
        finding_category=style.category,
        finding_type=style.kind,
        algorithm_id=algorithm,
        measurements=measurements,
    )
    said = wording.finding_sentence(finding, material.volume_of[finding.label], material.sources)
    if len(parts) > 1:
        said += f"; outline of the largest of {len(parts)} parts on this slice"
    group[0].ContentSequence.append(statements.text(codes.COMMENT, wording.plain(said)))
    return group
