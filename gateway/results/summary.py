"""TEXT: the report in plain words alone (Enhanced SR, PS3.3 A.35.2).

OHIF shows the text of reports that are no measurement reports, and many PACS show no other kind. It says the same as
the SR, without measurements and drawings.
"""

from highdicom.sr import ContainerContentItem, ContentItem, ContentSequence, EnhancedSR
from pydicom.dataset import Dataset
from pydicom.uid import EnhancedSRStorage

from gateway.results import codes, references, statements, wording
from gateway.results.evidence import EvidenceKind
from gateway.results.imprint import imprint, quiet_library
from gateway.results.material import Material


def summary(material: Material) -> list[Dataset]:
    """Make the report of words: conclusion, regions, reasons, revision, observations, models."""
    context, sources = material.context, material.sources
    # Separate: OHIF runs the sentences of a continuous report together.
    root = ContainerContentItem(name=codes.SUMMARY_TITLE, is_content_continuous=False)
    items: list[ContentItem] = [*statements.first_lines(material), *statements.standing(material)]
    for finding in statements.listed(material.analysis.findings):
        said = wording.finding_sentence(finding, material.volume_of[finding.label], sources)
        items.append(statements.text(codes.FINDING, wording.plain(said)))
    for series in statements.listed_series(material.analysis.synthesis):
        said = wording.whole_images_sentence(series, sources)
        items.append(statements.text(codes.WHOLE_IMAGES, wording.plain(said)))
    items += statements.background(material, EvidenceKind.TEXT)
    items += [statements.text(codes.ALGORITHM_NAME, line) for line in wording.model_sentences(material.analysis.models)]
    root.ContentSequence = ContentSequence(items)
    with quiet_library():
        dataset = EnhancedSR(
            evidence=[statements.anchor(context.study_uid, EnhancedSRStorage)],
            content=root,
            **statements.document(material, EvidenceKind.TEXT, EnhancedSRStorage),
        )
    dataset.CurrentRequestedProcedureEvidenceSequence = references.current_evidence(
        references.arrived(sources), context.study_uid
    )
    imprint(dataset, sources.patient, context.analysed_at)
    return [dataset]
