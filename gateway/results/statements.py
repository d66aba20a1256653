"""What all our reports say alike: who looked, with which weights, what the verdict rests on (PS3.16 TID 1001, 4019)."""

from collections.abc import Sequence
from typing import Any

from highdicom.sr import (
    AlgorithmIdentification,
    CodeContentItem,
    CodedConcept,
    ContentItem,
    ContentSequence,
    DeviceObserverIdentifyingAttributes,
    Measurement,
    ObservationContext,
    ObserverContext,
    RelationshipTypeValues,
    TextContentItem,
)
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from gateway.results import codes, wording
from gateway.results.evidence import MANUFACTURER, EvidenceKind, Predecessor, RevisionContext
from gateway.results.identity import device_uid
from gateway.results.imprint import MODEL_NAME, blank_source, software_version
from gateway.results.material import Material
from inference.findings import Finding, SeriesSynthesis, Verdict

MAX_FINDINGS = 100
MAX_OBSERVATIONS = 50
MAX_SERIES = 100


def listed(findings: Sequence[Finding]) -> list[Finding]:
    """The findings that a report lists: those with the highest scores, in the order of their labels."""
    chosen = sorted(findings, key=lambda finding: (-finding.score, finding.label))[:MAX_FINDINGS]
    return sorted(chosen, key=lambda finding: finding.label)


def listed_series(synthesis: Sequence[SeriesSynthesis]) -> list[SeriesSynthesis]:
    """The series whose whole images a report lists: the likeliest to be generated, in the order of the analysis."""
    chosen = sorted(synthesis, key=lambda series: -(series.probability or 0.0))[:MAX_SERIES]
    return [series for series in synthesis if series in chosen]


def first_lines(material: Material) -> list[ContentItem]:
    """The verdict in a sentence, and that it is no diagnosis: what is read in five seconds."""
    places = [
        (finding, wording.place(finding, material.volume_of[finding.label], material.sources))
        for finding in material.analysis.findings
    ]
    return [
        text(
            codes.CONCLUSION,
            wording.conclusion(material.analysis, places, wording.generated(material.analysis, material.sources)),
        ),
        text(codes.COMMENT, wording.DISCLAIMER),
    ]


def background(material: Material, kind: EvidenceKind) -> list[ContentItem]:
    """Reasons, revision and predecessor, observations, notes on the evidence: in sentences."""
    predecessor = material.context.predecessor_of(kind)
    texts = [(codes.REASON, wording.plain(reason)) for reason in material.analysis.reasons]
    texts.append((codes.STUDY_REVISION, wording.revision_sentence(material.context, material.sources, predecessor)))
    if predecessor is not None:
        texts.append((codes.PREDECESSOR_REPORT, predecessor.sop_instance_uid))
    observations = [*material.analysis.observations, *material.sources.patient.observations]
    texts += [
        (codes.PROVENANCE_OBSERVATION, line) for line in wording.observation_sentences(observations, MAX_OBSERVATIONS)
    ]
    notes = list(material.notes)
    if len(material.analysis.findings) > MAX_FINDINGS:
        notes.append(f"{len(material.analysis.findings) - MAX_FINDINGS} regions with lower scores are not listed.")
    if len(material.analysis.synthesis) > MAX_SERIES:
        notes.append(f"{len(material.analysis.synthesis) - MAX_SERIES} series with lower scores are not listed.")
    texts += [(codes.EVIDENCE_NOTE, wording.plain(note)) for note in notes]
    return [text(name, said) for name, said in texts if said]


def standing(material: Material) -> list[ContentItem]:
    """The verdict as a code, and the probability behind it in words; an abstention has none."""
    items: list[ContentItem] = [
        CodeContentItem(
            name=codes.INTEGRITY_VERDICT,
            value=codes.VERDICTS[material.analysis.verdict],
            relationship_type=RelationshipTypeValues.CONTAINS,
        )
    ]
    if material.analysis.verdict is not Verdict.ABSTAIN:  # its score says nothing, and would be read as half suspect
        items.append(text(codes.MANIPULATION_PROBABILITY, wording.percent(material.analysis.score)))
    return items


def observer(material: Material) -> ObservationContext:
    models = ", ".join(f"{model.name} {model.version}" for model in material.analysis.models)
    return ObservationContext(observer_device_context=device(material.context, models or "no model was used"))


def device(context: RevisionContext, models: str | None = None) -> ObserverContext:
    """TID 1004: this software with this set of models."""
    return ObserverContext(
        observer_type=CodedConcept.from_code(codes.DEVICE),
        observer_identifying_attributes=DeviceObserverIdentifyingAttributes(
            uid=device_uid(software_version(), context.model_set_digest),
            name=f"{MANUFACTURER} {software_version()}",
            manufacturer_name=MANUFACTURER,
            model_name=models,
            serial_number=context.model_set_digest or None,
        ),
    )


def algorithm(material: Material) -> AlgorithmIdentification:
    """TID 4019; the digests say which weights, to the bit."""
    models = material.analysis.models
    digests = [f"{model.name} {model.version}: sha256 {model.digest}" for model in models]
    return AlgorithmIdentification(
        name=wording.plain("+".join(model.name for model in models) or MANUFACTURER),
        version=wording.plain("+".join(model.version for model in models) or software_version()),
        parameters=[*digests, f"model set: sha256 {material.context.model_set_digest}"],
        family=codes.ALGORITHM_FAMILY,
    )


def number(name: Code, value: float, unit: Code) -> Measurement:
    return Measurement(name=name, value=round(value, 1), unit=unit)


def text(name: Code, said: str) -> TextContentItem:
    return TextContentItem(name=name, value=said, relationship_type=RelationshipTypeValues.CONTAINS)


def insert_before(root: Dataset, items: Sequence[ContentItem], name: Code) -> None:
    """TID 1500 is extensible: the sentences go where they are read first, the library where its rows stand."""
    content = root.ContentSequence
    before = [item for item in content if item.name != name]
    after = [item for item in content if item.name == name]
    root.ContentSequence = ContentSequence([*before, *items, *after])


def document(material: Material, kind: EvidenceKind, sop_class_uid: str) -> dict[str, Any]:
    """What the constructor of every report takes. UNVERIFIED and PRELIMINARY: a person has to sign, not we."""
    context, profile, identity = material.context, material.profile, material.identity
    return {
        "series_instance_uid": identity.series(kind),
        "series_number": profile.number_of(kind),
        "sop_instance_uid": identity.instance(kind),
        "instance_number": 1,
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": MODEL_NAME,
        "software_versions": software_version(),
        "device_serial_number": context.model_set_digest[:16] or "none",
        "series_description": profile.description_of(kind),
        "is_complete": True,
        "is_final": False,
        "is_verified": False,
        "previous_versions": _previous(context.predecessor_of(kind), context.study_uid, sop_class_uid),
    }


def anchor(study_uid: str, sop_class_uid: str) -> Dataset:
    """The blank header that highdicom copies patient and study from."""
    header = blank_source(study_uid)
    header.SOPClassUID = sop_class_uid
    header.SOPInstanceUID = "2.25.1"
    header.SeriesInstanceUID = "2.25.1"
    return header


def _previous(predecessor: Predecessor | None, study_uid: str, sop_class_uid: str) -> list[Dataset] | None:
    if predecessor is None:
        return None
    before = Dataset()
    before.StudyInstanceUID = study_uid
    before.SeriesInstanceUID = predecessor.series_uid
    before.SOPClassUID = sop_class_uid
    before.SOPInstanceUID = predecessor.sop_instance_uid
    return [before]
