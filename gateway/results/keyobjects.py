"""KOS: the key images that a reader should open, with our objects beside them (PS3.3 A.35.4, PS3.16 TID 2010)."""

from highdicom.ko import KeyObjectSelection, KeyObjectSelectionDocument
from pydicom.dataset import Dataset
from pydicom.uid import KeyObjectSelectionDocumentStorage

from gateway.results import codes, references, statements, wording
from gateway.results.evidence import MANUFACTURER, EvidenceKind
from gateway.results.imprint import MODEL_NAME, imprint, quiet_library, software_version
from gateway.results.material import Material

_PICTURES = (EvidenceKind.SEG, EvidenceKind.SC)  # DCMTK knows no label maps
_DOCUMENTS = (EvidenceKind.TEXT, EvidenceKind.PLANAR, EvidenceKind.SR)


def key_objects(material: Material) -> list[Dataset]:
    """Make the selection of the flagged key slices and of what was made of them; nothing without such a slice."""
    keys = [key for key in material.flagged if key.is_referable]
    if not keys:
        return []
    context, profile, kind = material.context, material.profile, EvidenceKind.KOS
    slices = [key.reference for key in keys]
    pictures = references.made(material.of(*_PICTURES))
    documents = references.made(material.of(*_DOCUMENTS))
    images = references.stand_ins([*slices, *pictures], context.study_uid)
    for image in images:
        image.Rows = image.Columns = 1  # so that highdicom takes it for an image
    others = references.stand_ins(documents, context.study_uid)
    description = f"{material.analysis.verdict.value}: key slices of regions that look edited. {wording.DISCLAIMER}"
    with quiet_library():
        content = KeyObjectSelection(
            document_title=codes.KEY_OBJECTS,
            referenced_objects=[*images, *others],
            observer_device_context=statements.device(context),
            description=description,
        )
        dataset = KeyObjectSelectionDocument(
            evidence=[
                statements.anchor(context.study_uid, KeyObjectSelectionDocumentStorage),
                *images,
                *others,
            ],
            content=content,
            series_instance_uid=material.identity.series(kind),
            series_number=profile.number_of(kind),
            sop_instance_uid=material.identity.instance(kind),
            instance_number=1,
            manufacturer=MANUFACTURER,
            manufacturer_model_name=MODEL_NAME,
            software_versions=software_version(),
            device_serial_number=context.model_set_digest[:16] or "none",
            series_description=profile.description_of(kind),
        )
    shown = [item for item in dataset.ContentSequence if item.ValueType == "IMAGE"]
    for key, item in zip(keys, shown, strict=False):
        if key.frame_number is not None:
            item.ReferencedSOPSequence[0].ReferencedFrameNumber = key.frame_number
    referred = [*slices, *pictures, *documents]
    dataset.CurrentRequestedProcedureEvidenceSequence = references.current_evidence(referred, context.study_uid)
    imprint(dataset, material.sources.patient, context.analysed_at)
    return [dataset]
