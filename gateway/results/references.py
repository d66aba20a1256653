"""What the report refers to: the instances that arrived, and the SEGs that show its findings (PS3.16 TID 1600)."""

from collections.abc import Iterable, Sequence
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
from gateway.results.segmentation import DrawnVolume
from gateway.results.sources import SourceInstance, Sources
from inference.findings import Finding


@dataclass(frozen=True)
class Drawing:
    """What the SEGs of this revision hold, and why others are missing."""

    volumes: Sequence[DrawnVolume]
    notes: Sequence[str] = ()

    def segment_of(self, finding: Finding) -> tuple[DrawnVolume, int] | None:
        """The SEG and the segment number that show a finding."""
        for volume in self.volumes:
            if finding.label in volume.segments:
                return volume, volume.segments[finding.label]
        return None


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


def _referred(sources: Sources, drawing: Drawing) -> list[tuple[str, str, str]]:
    """(series, class, instance) of everything that the report rests on."""
    arrived = [(item.series_uid, item.sop_class_uid, item.sop_instance_uid) for item in sources.instances]
    made = [
        (str(seg.dataset.SeriesInstanceUID), str(seg.dataset.SOPClassUID), str(seg.dataset.SOPInstanceUID))
        for seg in drawing.volumes
    ]
    return arrived + made


def evidence(sources: Sources, drawing: Drawing, study_uid: str) -> list[Dataset]:
    items = []
    for series, sop_class, instance in _referred(sources, drawing):
        item = Dataset()
        item.StudyInstanceUID = study_uid
        item.SeriesInstanceUID = series
        item.SOPClassUID = sop_class
        item.SOPInstanceUID = instance
        items.append(item)
    return items


def current_evidence(sources: Sources, drawing: Drawing, study_uid: str) -> list[Dataset]:
    """Current Requested Procedure Evidence (PS3.3 C.17.2.1), without the blank header that highdicom copied from."""
    by_series: dict[str, list[Dataset]] = {}
    for series, sop_class, instance in _referred(sources, drawing):
        item = Dataset()
        item.ReferencedSOPClassUID = sop_class
        item.ReferencedSOPInstanceUID = instance
        by_series.setdefault(series, []).append(item)
    study = Dataset()
    study.StudyInstanceUID = study_uid
    study.ReferencedSeriesSequence = []
    for series, items in by_series.items():
        group = Dataset()
        group.SeriesInstanceUID = series
        group.ReferencedSOPSequence = items
        study.ReferencedSeriesSequence.append(group)
    return [study]
