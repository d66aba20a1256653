"""What our documents refer to: the instances that arrived, and other objects of ours (PS3.16 TID 1600)."""

from collections.abc import Iterable
from dataclasses import dataclass

from highdicom.sr import (
    CodeContentItem,
    ContainerContentItem,
    ContentSequence,
    ImageContentItem,
    RelationshipTypeValues,
)
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import UID

from gateway.results import codes
from gateway.results.sources import SourceInstance, Sources


def image_library(sources: Sources) -> ContainerContentItem | None:
    """TID 1600, a group for each series. Descriptors stay at the images: older OHIF expects a reference in every item
    of a group. Only those that every image has, since an attribute that is missing must not cost the report."""
    groups: dict[str, list[SourceInstance]] = {}
    for instance in sources.instances:
        if instance.is_image and UID(instance.sop_class_uid).type == "SOP Class":  # DCMTK refuses private ones here
            groups.setdefault(instance.series_uid, []).append(instance)
    if not groups:
        return None
    library = _container(codes.IMAGE_LIBRARY)
    library.ContentSequence = ContentSequence([_library_group(images) for images in groups.values()])
    return library


def _library_group(images: Iterable[SourceInstance]) -> ContainerContentItem:
    group = _container(codes.IMAGE_LIBRARY_GROUP)
    group.ContentSequence = ContentSequence([_library_entry(image) for image in images])
    return group


def _library_entry(image: SourceInstance) -> ImageContentItem:
    entry = ImageContentItem(
        name=codes.SOURCE,
        referenced_sop_class_uid=image.sop_class_uid,
        referenced_sop_instance_uid=image.sop_instance_uid,
        relationship_type=RelationshipTypeValues.CONTAINS,
    )
    entry.ContentSequence = ContentSequence(
        [
            CodeContentItem(
                name=codes.MODALITY,
                value=codes.acquisition_modality(image.modality),
                relationship_type=RelationshipTypeValues.HAS_ACQ_CONTEXT,
            )
        ]
    )
    return entry


def _container(name: Code) -> ContainerContentItem:
    return ContainerContentItem(name=name, relationship_type=RelationshipTypeValues.CONTAINS)


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
