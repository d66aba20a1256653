"""What our documents refer to: the instances that arrived, and other objects of ours (PS3.16 TID 1600)."""

from collections.abc import Iterable
from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import UID

from gateway.results import codes
from gateway.results.sources import SourceInstance, Sources


def image_library(sources: Sources) -> Dataset | None:
    """TID 1600, a group for each series. Descriptors stay at the images: older OHIF expects a reference in every item
    of a group. Only those that every image has, since an attribute that is missing must not cost the report.

    Plain data sets, for a finished document: highdicom copies and checks each of what may be thousands of items.
    """
    groups: dict[str, list[SourceInstance]] = {}
    for instance in sources.instances:
        if instance.is_image and UID(instance.sop_class_uid).type == "SOP Class":  # DCMTK refuses private ones here
            groups.setdefault(instance.series_uid, []).append(instance)
    if not groups:
        return None
    group_name, image_name = _coded(codes.IMAGE_LIBRARY_GROUP), _coded(codes.SOURCE)
    library = _container(_coded(codes.IMAGE_LIBRARY))
    for images in groups.values():
        group = _container(group_name)
        modalities = {image.modality: _modality(image.modality) for image in images}
        group.ContentSequence = [_library_entry(image, image_name, modalities[image.modality]) for image in images]
        library.ContentSequence.append(group)
    return library


def _library_entry(image: SourceInstance, name: Dataset, modality: Dataset) -> Dataset:
    entry, reference = Dataset(), Dataset()
    reference.ReferencedSOPClassUID = image.sop_class_uid
    reference.ReferencedSOPInstanceUID = image.sop_instance_uid
    entry.RelationshipType = "CONTAINS"
    entry.ValueType = "IMAGE"
    entry.ConceptNameCodeSequence = [name]
    entry.ReferencedSOPSequence = [reference]
    entry.ContentSequence = [modality]
    return entry


def _modality(modality: str) -> Dataset:
    item = Dataset()
    item.RelationshipType = "HAS ACQ CONTEXT"
    item.ValueType = "CODE"
    item.ConceptNameCodeSequence = [_coded(codes.MODALITY)]
    item.ConceptCodeSequence = [_coded(codes.acquisition_modality(modality))]
    return item


def _container(name: Dataset) -> Dataset:
    item = Dataset()
    item.RelationshipType = "CONTAINS"
    item.ValueType = "CONTAINER"
    item.ConceptNameCodeSequence = [name]
    item.ContinuityOfContent = "SEPARATE"
    item.ContentSequence = []
    return item


def _coded(code: Code) -> Dataset:
    item = Dataset()
    item.CodeValue = code.value
    item.CodingSchemeDesignator = code.scheme_designator
    item.CodeMeaning = code.meaning
    return item


@dataclass(frozen=True)
class Reference:
    """One instance that a document rests on."""

    series_uid: str
    sop_class_uid: str
    sop_instance_uid: str


def arrived(sources: Sources) -> list[Reference]:
    """Every instance of the revision."""
    return [Reference(item.series_uid, item.sop_class_uid, item.sop_instance_uid) for item in sources.instances]


def made(datasets: Iterable[Dataset]) -> list[Reference]:
    """Objects of ours."""
    return [
        Reference(str(item.SeriesInstanceUID), str(item.SOPClassUID), str(item.SOPInstanceUID)) for item in datasets
    ]


def stand_ins(references: Iterable[Reference], study_uid: str) -> list[Dataset]:
    """Headers that highdicom takes for the evidence of a document."""
    items = []
    for reference in references:
        item = Dataset()
        item.StudyInstanceUID = study_uid
        item.SeriesInstanceUID = reference.series_uid
        item.SOPClassUID = reference.sop_class_uid
        item.SOPInstanceUID = reference.sop_instance_uid
        items.append(item)
    return items


def current_evidence(references: Iterable[Reference], study_uid: str) -> list[Dataset]:
    """Current Requested Procedure Evidence (PS3.3 C.17.2.1), without the blank header that highdicom copied from."""
    study = Dataset()
    study.StudyInstanceUID = study_uid
    study.ReferencedSeriesSequence = referenced_series(references, "ReferencedSOPSequence")
    return [study]


def referenced_series(references: Iterable[Reference], keyword: str) -> list[Dataset]:
    """An item for each series, its instances under `keyword`; each instance once."""
    by_series: dict[str, dict[str, Dataset]] = {}
    for reference in references:
        item = Dataset()
        item.ReferencedSOPClassUID = reference.sop_class_uid
        item.ReferencedSOPInstanceUID = reference.sop_instance_uid
        by_series.setdefault(reference.series_uid, {}).setdefault(reference.sop_instance_uid, item)
    groups = []
    for series, items in by_series.items():
        group = Dataset()
        group.SeriesInstanceUID = series
        setattr(group, keyword, list(items.values()))
        groups.append(group)
    return groups
