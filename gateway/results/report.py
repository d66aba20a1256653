"""SR: the verdict and the findings as an AIR-style measurement report (PS3.16 TID 1500, PS3.3 A.35.13).

A reader finds the conclusion first; a machine finds the verdict as a TID 1501 group and each finding as a TID 1411
group that refers to its segment. UNVERIFIED and PRELIMINARY: a person has to sign, not we.
"""

from collections.abc import Sequence

from highdicom.sr import (
    AlgorithmIdentification,
    CodedConcept,
    Comprehensive3DSR,
    ContentItem,
    ContentSequence,
    DeviceObserverIdentifyingAttributes,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    QualitativeEvaluation,
    ReferencedSegment,
    RelationshipTypeValues,
    SourceSeriesForSegmentation,
    TextContentItem,
    TrackingIdentifier,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import Comprehensive3DSRStorage

from gateway.results import codes, wording
from gateway.results.evidence import MANUFACTURER, EvidenceKind, Predecessor, RevisionContext
from gateway.results.identity import Identity, device_uid
from gateway.results.imprint import MODEL_NAME, blank_source, imprint, quiet_library, software_version
from gateway.results.profiles import Profile
from gateway.results.references import Drawing, current_evidence, evidence, image_library
from gateway.results.sources import Sources
from inference.findings import Finding, Observation, SeriesAnalysis, StudyAnalysis, Verdict

MAX_FINDINGS = 100
MAX_OBSERVATIONS = 50

_Group = MeasurementsAndQualitativeEvaluations | VolumetricROIMeasurementsAndQualitativeEvaluations


def report(
    analysis: StudyAnalysis,
    *,
    drawing: Drawing,
    corrections: Sequence[Observation],
    sources: Sources,
    context: RevisionContext,
    profile: Profile,
) -> Comprehensive3DSR:
    """Make the SR of one revision; `corrections` say what had to be mended in the source headers.

    It refers to every instance that arrived, images or not, and to the SEGs of `drawing`.
    """
    identity = Identity(context, profile)
    content = _content(analysis, drawing, corrections, sources, context, identity)
    anchor = blank_source(context.study_uid)
    anchor.SOPClassUID = Comprehensive3DSRStorage
    anchor.SOPInstanceUID = "2.25.1"
    anchor.SeriesInstanceUID = "2.25.1"
    with quiet_library():
        dataset = Comprehensive3DSR(
            evidence=[anchor, *evidence(sources, drawing, context.study_uid)],
            content=content,
            series_instance_uid=identity.series(EvidenceKind.SR),
            series_number=profile.number_of(EvidenceKind.SR),
            sop_instance_uid=identity.instance(EvidenceKind.SR),
            instance_number=1,
            manufacturer=MANUFACTURER,
            manufacturer_model_name=MODEL_NAME,
            software_versions=software_version(),
            device_serial_number=context.model_set_digest[:16] or "none",
            series_description=profile.description_of(EvidenceKind.SR),
            is_complete=True,
            is_final=False,
            is_verified=False,
            transfer_syntax_uid=profile.transfer_syntax,
            previous_versions=_predecessors(context.predecessor, context.study_uid),
        )
    dataset.CurrentRequestedProcedureEvidenceSequence = current_evidence(sources, drawing, context.study_uid)
    imprint(dataset, sources.patient, context.analysed_at)
    return dataset


def _content(
    analysis: StudyAnalysis,
    drawing: Drawing,
    corrections: Sequence[Observation],
    sources: Sources,
    context: RevisionContext,
    identity: Identity,
) -> Dataset:
    algorithm = _algorithm(analysis, context)
    volumes = {finding.label: _volume_of(analysis, finding) for finding in analysis.findings}
    verdict = _verdict_group(analysis, drawing, corrections, sources, context, identity, algorithm)
    listed = _most_certain(analysis.findings)
    groups: list[_Group] = [verdict]
    groups += [
        _finding_group(finding, volumes[finding.label], drawing, sources, context, identity, algorithm)
        for finding in listed
    ]
    modalities = dict.fromkeys(instance.modality for instance in sources.instances if instance.is_image)
    procedures = list(dict.fromkeys(codes.procedure(modality) for modality in modalities)) or [codes.procedure("")]
    root: Dataset = MeasurementReport(
        observation_context=_observer(analysis, context),
        procedure_reported=procedures,
        imaging_measurements=groups,
        title=codes.REPORT_TITLE,
    )[0]
    places = [(finding, wording.place(finding, volumes[finding.label], sources)) for finding in analysis.findings]
    summary: list[ContentItem] = [
        _text(codes.CONCLUSION, wording.conclusion(analysis, places)),
        _text(codes.COMMENT, wording.DISCLAIMER),
    ]
    library = image_library(sources)
    _insert_before_measurements(root, [*summary, *([library] if library is not None else [])])
    return root


def _insert_before_measurements(root: Dataset, items: Sequence[ContentItem]) -> None:
    """TID 1500 is extensible: the sentences go where they are read first, the library where its rows stand."""
    content = root.ContentSequence
    before = [item for item in content if item.name != codes.IMAGING_MEASUREMENTS]
    measurements = [item for item in content if item.name == codes.IMAGING_MEASUREMENTS]
    root.ContentSequence = ContentSequence([*before, *items, *measurements])


def _most_certain(findings: Sequence[Finding]) -> list[Finding]:
    chosen = sorted(findings, key=lambda finding: (-finding.score, finding.label))[:MAX_FINDINGS]
    return sorted(chosen, key=lambda finding: finding.label)


def _volume_of(analysis: StudyAnalysis, finding: Finding) -> SeriesAnalysis | None:
    try:
        return analysis.series_of(finding)
    except KeyError:
        return None


def _observer(analysis: StudyAnalysis, context: RevisionContext) -> ObservationContext:
    models = ", ".join(f"{model.name} {model.version}" for model in analysis.models)
    return ObservationContext(
        observer_device_context=ObserverContext(
            observer_type=CodedConcept.from_code(codes.DEVICE),
            observer_identifying_attributes=DeviceObserverIdentifyingAttributes(
                uid=device_uid(software_version(), context.model_set_digest),
                name=f"{MANUFACTURER} {software_version()}",
                manufacturer_name=MANUFACTURER,
                model_name=models or "no model was used",
                serial_number=context.model_set_digest or None,
            ),
        )
    )


def _algorithm(analysis: StudyAnalysis, context: RevisionContext) -> AlgorithmIdentification:
    """TID 4019; the digests say which weights, to the bit."""
    names = "+".join(model.name for model in analysis.models) or MANUFACTURER
    versions = "+".join(model.version for model in analysis.models) or software_version()
    digests = [f"{model.name} {model.version}: sha256 {model.digest}" for model in analysis.models]
    return AlgorithmIdentification(
        name=wording.plain(names),
        version=wording.plain(versions),
        parameters=[*digests, f"model set: sha256 {context.model_set_digest}"],
        family=codes.ALGORITHM_FAMILY,
    )


def _verdict_group(
    analysis: StudyAnalysis,
    drawing: Drawing,
    corrections: Sequence[Observation],
    sources: Sources,
    context: RevisionContext,
    identity: Identity,
    algorithm: AlgorithmIdentification,
) -> MeasurementsAndQualitativeEvaluations:
    """TID 1501: the verdict in codes, and everything that led to it in sentences."""
    probability = []
    if analysis.verdict is not Verdict.ABSTAIN:  # its score says nothing, and would be read as half suspect
        probability = [_number(codes.MANIPULATION_PROBABILITY, 100 * analysis.score, codes.PERCENT)]
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=identity.tracking(0), identifier=f"Integrity of the study, revision {context.revision}"
        ),
        algorithm_id=algorithm,
        measurements=probability,
        qualitative_evaluations=[
            QualitativeEvaluation(name=codes.INTEGRITY_VERDICT, value=codes.VERDICTS[analysis.verdict])
        ],
    )
    texts = [(codes.REASON, wording.plain(reason)) for reason in analysis.reasons]
    texts.append((codes.STUDY_REVISION, wording.revision_sentence(context, sources)))
    if context.predecessor is not None:
        texts.append((codes.PREDECESSOR_REPORT, context.predecessor.sop_instance_uid))
    observations = [*analysis.observations, *corrections]
    texts += [
        (codes.PROVENANCE_OBSERVATION, line) for line in wording.observation_sentences(observations, MAX_OBSERVATIONS)
    ]
    notes = list(drawing.notes)
    if len(analysis.findings) > MAX_FINDINGS:
        notes.append(f"{len(analysis.findings) - MAX_FINDINGS} regions with lower scores are not listed.")
    texts += [(codes.EVIDENCE_NOTE, wording.plain(note)) for note in notes]
    group[0].ContentSequence.extend(_text(name, text) for name, text in texts if text)
    return group


def _finding_group(
    finding: Finding,
    volume: SeriesAnalysis | None,
    drawing: Drawing,
    sources: Sources,
    context: RevisionContext,
    identity: Identity,
    algorithm: AlgorithmIdentification,
) -> _Group:
    """TID 1411 with the segment that shows the finding; TID 1501 where no SEG does."""
    style = codes.REGIONS[finding.finding_class]
    tracking = TrackingIdentifier(
        uid=identity.tracking(finding.label), identifier=codes.tracking_id(finding, context.revision)
    )
    measurements = [_number(codes.FINDING_CERTAINTY, 100 * finding.score, codes.PERCENT)]
    if finding.volume_mm3 > 0:
        measurements.append(_number(codes.VOLUME, finding.volume_mm3, codes.CUBIC_MILLIMETRE))
    drawn = drawing.segment_of(finding)
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
    sentence = wording.plain(wording.finding_sentence(finding, volume, sources))
    group[0].ContentSequence.append(_text(codes.COMMENT, sentence))
    return group


def _number(name: Code, value: float, unit: Code) -> Measurement:
    return Measurement(name=name, value=round(value, 1), unit=unit)


def _text(name: Code, text: str) -> TextContentItem:
    return TextContentItem(name=name, value=text, relationship_type=RelationshipTypeValues.CONTAINS)


def _predecessors(predecessor: Predecessor | None, study_uid: str) -> list[Dataset] | None:
    if predecessor is None:
        return None
    document = Dataset()
    document.StudyInstanceUID = study_uid
    document.SeriesInstanceUID = predecessor.series_uid
    document.SOPClassUID = Comprehensive3DSRStorage
    document.SOPInstanceUID = predecessor.sop_instance_uid
    return [document]
