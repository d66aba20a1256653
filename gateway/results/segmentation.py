"""SEG: the findings of one volume, drawn on the matrix of its source images (PS3.3 A.51, C.8.20).

BINARY, one segment a finding, one object a volume: viewers built on cornerstone throw on other matrices and planes,
and OHIF follows the first referenced series only.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from highdicom import AlgorithmIdentificationSequence
from highdicom.color import CIELabColor
from highdicom.seg import SegmentAlgorithmTypeValues, Segmentation, SegmentationTypeValues, SegmentDescription
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import MRImageStorage
from pydicom.valuerep import format_number_as_ds

from gateway.results import codes, wording
from gateway.results.evidence import MANUFACTURER, EvidenceKind, ResultsError
from gateway.results.imprint import MODEL_NAME, blank_source, imprint, quiet_library, software_version
from gateway.results.material import DrawnVolume, Material
from gateway.results.sources import Plane, SourceInstance, Sources
from inference.findings import Finding, SeriesAnalysis

_SAME_DIRECTION = 1e-4  # direction cosines; scanners round them to six digits or so
_SAME_SPACING = 1e-3  # mm


class NotDrawable(ResultsError):
    """The findings of this volume cannot be drawn as a SEG; the message says why, and becomes a note in the report."""


@dataclass(frozen=True)
class Slice:
    """One slice of a volume with its source."""

    instance: SourceInstance
    frame_number: int | None
    plane: Plane


def segmentations(material: Material) -> list[Dataset]:
    """A BINARY SEG for each volume with findings; what cannot be drawn becomes a note."""
    return _draw_all(material, EvidenceKind.SEG)


def label_maps(material: Material) -> list[Dataset]:
    """The same as LABELMAP, for destinations that are known to take it."""
    return _draw_all(material, EvidenceKind.LABELMAP)


def _draw_all(material: Material, kind: EvidenceKind) -> list[Dataset]:
    volumes: list[DrawnVolume] = []
    seen: Counter[str] = Counter()
    findings = material.analysis.findings
    for volume in material.analysis.series:
        index = seen[volume.series_uid]
        seen[volume.series_uid] += 1
        own = [finding for finding in findings if finding.series_uid == volume.series_uid]
        if not own or not any(labels.any() for labels in volume.labels):
            continue
        try:
            volumes.append(_draw(volume, index, own, material, kind, len(volumes)))
        except NotDrawable as fault:
            name = wording.series_name(volume.series_uid, material.sources)
            material.note(f"The regions in {name} are not drawn: {fault}.")
    missing = len(findings) - len({label for volume in volumes for label in volume.segments})
    if volumes and missing:
        material.note(f"{missing} of {len(findings)} regions are listed without a drawing.")
    if not material.volumes:
        material.volumes.extend(volumes)  # what the SR refers to: the SEG where there are both
    return [volume.dataset for volume in volumes]


def _draw(
    volume: SeriesAnalysis, index: int, findings: Sequence[Finding], material: Material, kind: EvidenceKind, place: int
) -> DrawnVolume:
    """Make the object of one volume; `index` tells volumes of one source series apart, `place` counts the objects.

    Beyond `max_segments` of the profile the findings with the highest scores are drawn.

    Raises NotDrawable when the sources have no common geometry, or when no finding has a pixel.
    """
    context, profile, identity = material.context, material.profile, material.identity
    slices = _slices(volume, material.sources)
    chosen = sorted(_with_pixels(volume, findings), key=lambda finding: (-finding.score, finding.label))
    chosen = sorted(chosen[: profile.max_segments], key=lambda finding: finding.label)
    if not chosen:
        raise NotDrawable("no finding covers a pixel")
    segments = {finding.label: number for number, finding in enumerate(chosen, start=1)}
    table = np.zeros(int(volume.labels.max()) + 1, np.uint8 if len(chosen) < 256 else np.uint16)
    for label, number in segments.items():
        table[label] = number
    mask = [table[labels] for labels in volume.labels]
    kept = [k for k, frame in enumerate(mask) if profile.empty_frames or frame.any()]
    drawn = [slices[k] for k in kept]
    source = (volume.series_uid, index)
    stand_ins = _stand_ins(drawn, _slice_spacing(slices), context.study_uid)
    is_map = kind is EvidenceKind.LABELMAP
    with quiet_library():
        dataset = Segmentation(
            source_images=stand_ins,
            pixel_array=np.stack([mask[k] for k in kept]),
            segmentation_type=SegmentationTypeValues.LABELMAP if is_map else SegmentationTypeValues.BINARY,
            segment_descriptions=_descriptions(chosen, segments, material),
            series_instance_uid=identity.series(kind, *source),
            series_number=profile.number_of(kind, place),
            sop_instance_uid=identity.instance(kind, *source),
            instance_number=1,
            manufacturer=MANUFACTURER,
            manufacturer_model_name=MODEL_NAME,
            software_versions=software_version(),
            device_serial_number=context.model_set_digest[:16] or "none",
            content_label="SCANWARDEN",
            content_description="Software integrity check, not a diagnosis",
            series_description=profile.description_of(kind),
            omit_empty_frames=not profile.empty_frames,
        )
    _refer_to_sources(dataset, drawn)
    _set_dimensions(dataset, identity.dimensions(*source, *([kind.value] if is_map else [])))
    if any(piece.plane.thickness is None for piece in drawn) and _slice_spacing(slices) is None:
        del dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SliceThickness
    imprint(dataset, material.sources.patient, context.analysed_at)
    return DrawnVolume(dataset, volume.series_uid, segments)


def _slices(volume: SeriesAnalysis, sources: Sources) -> list[Slice]:
    """The sources of a volume's slices, in its order, when they share one geometry."""
    known = sources.by_uid
    slices = []
    for uid, frame in zip(volume.sop_instance_uids, volume.frame_numbers, strict=True):
        instance = known.get(uid)
        if instance is None:
            raise NotDrawable("the header of a source image cannot be read")
        number = frame or 1
        plane = instance.planes[number - 1] if 1 <= number <= len(instance.planes) else None
        if plane is None or instance.frame_of_reference_uid is None:
            raise NotDrawable("its images say no position in the patient")
        slices.append(Slice(instance, frame if len(instance.planes) > 1 else None, plane))
    _check_common_geometry(slices, volume.labels.shape[1:])
    return slices


def _check_common_geometry(slices: Sequence[Slice], matrix: tuple[int, ...]) -> None:
    if not slices:
        raise NotDrawable("it has no slice")
    first = slices[0]
    if any((piece.instance.rows, piece.instance.columns) != matrix for piece in slices):
        raise NotDrawable("its images differ in rows or columns from the analysed volume")
    if any(piece.instance.frame_of_reference_uid != first.instance.frame_of_reference_uid for piece in slices):
        raise NotDrawable("its images have different frames of reference")
    orientations = np.array([piece.plane.orientation for piece in slices])
    if np.abs(orientations - orientations[0]).max() > _SAME_DIRECTION:
        raise NotDrawable("its images are not parallel")
    spacings = np.array([piece.plane.spacing for piece in slices])
    if np.abs(spacings - spacings[0]).max() > _SAME_SPACING:
        raise NotDrawable("its images have different pixel spacings")
    if len(slices) > 1 and np.diff(np.sort(_depths(slices))).min() < _SAME_SPACING:
        raise NotDrawable("two of its images lie at one place")


def _depths(slices: Sequence[Slice]) -> NDArray[np.float64]:
    """Distance of each slice along the normal, mm."""
    row, column = np.array(slices[0].plane.orientation).reshape(2, 3)
    depths: NDArray[np.float64] = np.array([piece.plane.position for piece in slices]) @ np.cross(row, column)
    return depths


def _slice_spacing(slices: Sequence[Slice]) -> float | None:
    """Distance between neighbours, mm, when it is the same everywhere (to 1 %)."""
    if len(slices) < 2:
        return None
    steps = np.diff(np.sort(_depths(slices)))
    return float(steps.mean()) if np.ptp(steps) <= 0.01 * steps.mean() else None


def _with_pixels(volume: SeriesAnalysis, findings: Sequence[Finding]) -> list[Finding]:
    present: set[int] = set()
    for labels in volume.labels:  # slice by slice: the volume may be large
        if labels.any():
            present.update(np.flatnonzero(np.bincount(labels.ravel())).tolist())
    return [finding for finding in findings if finding.label in present]


def _descriptions(
    findings: Sequence[Finding], segments: dict[int, int], material: Material
) -> list[SegmentDescription]:
    models, context = material.analysis.models, material.context
    algorithm = AlgorithmIdentificationSequence(
        name=("+".join(model.name for model in models) or MANUFACTURER)[:64],
        family=codes.ALGORITHM_FAMILY,
        version=("+".join(model.version for model in models) or software_version())[:64],
        source=MANUFACTURER,
        parameters={"model_set": context.model_set_digest, **{model.name: model.digest for model in models}},
    )
    return [
        SegmentDescription(
            segment_number=segments[finding.label],
            segment_label=codes.region_label(finding),
            segmented_property_category=codes.REGIONS[finding.finding_class].category,
            segmented_property_type=codes.REGIONS[finding.finding_class].kind,
            algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=algorithm,
            tracking_uid=material.identity.tracking(finding.label),
            tracking_id=codes.tracking_id(finding, context.revision),
            display_color=CIELabColor.from_rgb(*codes.REGIONS[finding.finding_class].colour),
        )
        for finding in findings
    ]


def _stand_ins(slices: Sequence[Slice], spacing: float | None, study_uid: str) -> list[Dataset]:
    """Single-frame headers of exactly the geometry, one a slice, numbered by their SOP Instance UID.

    highdicom takes frames of one multi-frame image or of single-frame images of the classes that it knows; with
    stand-ins it takes every source alike, and `_refer_to_sources` puts the real references in.
    """
    first = slices[0]
    stand_ins = []
    for number, piece in enumerate(slices, start=1):
        source = blank_source(study_uid)
        source.SOPClassUID = MRImageStorage
        source.SOPInstanceUID = f"2.25.{number}"
        source.SeriesInstanceUID = first.instance.series_uid
        source.Modality = "MR"
        source.Rows, source.Columns = piece.instance.rows, piece.instance.columns
        source.FrameOfReferenceUID = first.instance.frame_of_reference_uid
        source.PositionReferenceIndicator = ""
        source.ImagePositionPatient = [_decimal(value) for value in piece.plane.position]
        source.ImageOrientationPatient = [_decimal(value) for value in first.plane.orientation]
        source.PixelSpacing = [_decimal(value) for value in first.plane.spacing]
        source.SliceThickness = _decimal(first.plane.thickness or spacing or 1.0)
        if spacing is not None:
            source.SpacingBetweenSlices = _decimal(spacing)
        if any(other.instance.is_lossy for other in slices):
            source.LossyImageCompression = "01"
        stand_ins.append(source)
    return stand_ins


def _decimal(value: float) -> str:
    return format_number_as_ds(float(value))


def _refer_to_sources(dataset: Dataset, slices: Sequence[Slice]) -> None:
    real = {f"2.25.{number}": piece for number, piece in enumerate(slices, start=1)}
    instances: dict[str, Dataset] = {}
    for piece in slices:
        reference = Dataset()
        reference.ReferencedSOPClassUID = piece.instance.sop_class_uid
        reference.ReferencedSOPInstanceUID = piece.instance.sop_instance_uid
        instances.setdefault(piece.instance.sop_instance_uid, reference)
    dataset.SourceImageSequence = list(instances.values())
    dataset.ReferencedSeriesSequence[0].ReferencedInstanceSequence = list(instances.values())
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        image = frame.DerivationImageSequence[0].SourceImageSequence[0]
        source = real.get(str(image.ReferencedSOPInstanceUID))
        if source is None:
            continue  # frames of two segments on one slice share this item: it is done
        image.ReferencedSOPClassUID = source.instance.sop_class_uid
        image.ReferencedSOPInstanceUID = source.instance.sop_instance_uid
        if source.frame_number is not None:
            image.ReferencedFrameNumber = source.frame_number


def _set_dimensions(dataset: Dataset, uid: str) -> None:
    for item in dataset.DimensionOrganizationSequence:
        item.DimensionOrganizationUID = uid
    for item in dataset.DimensionIndexSequence:
        item.DimensionOrganizationUID = uid
