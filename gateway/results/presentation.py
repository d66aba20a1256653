"""GSPS: the outlines as graphic annotations over the source images themselves (PS3.3 A.33.1, C.10.5).

One presentation state for the key slices of a volume that are shown alike; a viewer that knows them can switch them
off, which burned-in outlines cannot be.
"""

from collections.abc import Iterable

from highdicom.color import CIELabColor
from pydicom.dataset import Dataset
from pydicom.uid import GrayscaleSoftcopyPresentationStateStorage

from gateway.results import codes, wording
from gateway.results.evidence import EvidenceKind
from gateway.results.imprint import MODEL_NAME, add_file_meta, imprint, software_version
from gateway.results.keyslices import Appearance, KeySlice, appearance
from gateway.results.material import Material
from gateway.results.references import referenced_series

_LAYER = "SCANWARDEN"
_LIGHT = (255, 255, 255)


def presentation_states(material: Material) -> list[Dataset]:
    """Make the presentation states of the flagged key slices, in the order of the surest in each."""
    groups: dict[object, list[tuple[KeySlice, Appearance]]] = {}
    for key in material.flagged:
        if not key.is_referable:
            continue
        shown = appearance(key)
        alike = (id(key.volume), shown.rescale, shown.is_inverted)
        groups.setdefault(alike, []).append((key, shown))
    return [_state(material, members, index) for index, members in enumerate(groups.values())]


def _state(material: Material, members: list[tuple[KeySlice, Appearance]], index: int) -> Dataset:
    context, profile, kind = material.context, material.profile, EvidenceKind.GSPS
    first, shown = members[0]
    dataset = Dataset()
    dataset.SOPClassUID = GrayscaleSoftcopyPresentationStateStorage
    dataset.SOPInstanceUID = material.identity.instance(kind, index)
    dataset.SeriesInstanceUID = material.identity.series(kind, index)
    dataset.SeriesNumber = profile.number_of(kind, index)
    dataset.SeriesDescription = profile.description_of(kind)
    dataset.InstanceNumber = 1
    dataset.Modality = "PR"
    dataset.Laterality = ""
    dataset.ManufacturerModelName = MODEL_NAME
    dataset.SoftwareVersions = software_version()
    dataset.DeviceSerialNumber = context.model_set_digest[:16] or "none"
    dataset.ContentLabel = _LAYER
    dataset.ContentDescription = wording.DISCLAIMER
    dataset.ContentCreatorName = ""
    dataset.PresentationCreationDate = context.analysed_at.strftime("%Y%m%d")
    dataset.PresentationCreationTime = context.analysed_at.strftime("%H%M%S")
    dataset.ReferencedSeriesSequence = _series([key for key, _ in members])
    dataset.DisplayedAreaSelectionSequence = [_area(first)]
    dataset.GraphicAnnotationSequence = [_annotation(key, material) for key, _ in members]
    dataset.GraphicLayerSequence = [_layer()]
    if shown.rescale is not None:
        dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = shown.rescale
    if windows := [_window(key, each) for key, each in members if each.window is not None]:
        dataset.SoftcopyVOILUTSequence = windows
    dataset.PresentationLUTShape = "INVERSE" if shown.is_inverted else "IDENTITY"
    imprint(dataset, material.sources.patient, context.analysed_at)
    del dataset.ContentDate, dataset.ContentTime  # Presentation Creation Date and Time stand for them
    add_file_meta(dataset)
    return dataset


def _image(key: KeySlice) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = key.instance.sop_class_uid
    item.ReferencedSOPInstanceUID = key.instance.sop_instance_uid
    if key.frame_number is not None:
        item.ReferencedFrameNumber = key.frame_number
    return item


def _series(keys: Iterable[KeySlice]) -> list[Dataset]:
    """Every image once; of a multi-frame image the frames that carry an annotation."""
    keys = list(keys)
    series = referenced_series((key.reference for key in keys), "ReferencedImageSequence")
    frames: dict[str, list[int]] = {}
    for key in keys:
        if key.frame_number is not None:
            frames.setdefault(key.instance.sop_instance_uid, []).append(key.frame_number)
    for group in series:
        for item in group.ReferencedImageSequence:
            if item.ReferencedSOPInstanceUID in frames:
                item.ReferencedFrameNumber = sorted(frames[item.ReferencedSOPInstanceUID])
    return series


def _area(key: KeySlice) -> Dataset:
    item = Dataset()
    item.DisplayedAreaTopLeftHandCorner = [1, 1]
    item.DisplayedAreaBottomRightHandCorner = [key.instance.columns, key.instance.rows]
    item.PresentationSizeMode = "SCALE TO FIT"
    if key.plane is not None:
        item.PresentationPixelSpacing = [f"{value:.10g}" for value in key.plane.spacing]
    else:
        item.PresentationPixelAspectRatio = [1, 1]
    return item


def _annotation(key: KeySlice, material: Material) -> Dataset:
    item = Dataset()
    item.ReferencedImageSequence = [_image(key)]
    item.GraphicLayer = _LAYER
    item.GraphicObjectSequence = [
        _polyline(outline.ravel().tolist()) for finding in key.findings for outline in key.outlines[finding.label]
    ]
    item.TextObjectSequence = []
    for finding in key.findings:
        text = Dataset()
        text.AnchorPointAnnotationUnits = "PIXEL"
        corner = key.outlines[finding.label][0].max(axis=0)
        text.AnchorPoint = [float(corner[0]), float(corner[1])]
        text.AnchorPointVisibility = "N"
        words = f"{codes.region_label(finding)}, {wording.percent(finding.score)}"
        text.UnformattedTextValue = f"{material.analysis.verdict.value}: {words}\r\n{wording.DISCLAIMER}"
        item.TextObjectSequence.append(text)
    return item


def _polyline(data: list[float]) -> Dataset:
    item = Dataset()
    item.GraphicAnnotationUnits = "PIXEL"
    item.GraphicDimensions = 2
    item.NumberOfGraphicPoints = len(data) // 2
    item.GraphicData = data
    item.GraphicType = "POLYLINE"
    item.GraphicFilled = "N"
    return item


def _layer() -> Dataset:
    item = Dataset()
    item.GraphicLayer = _LAYER
    item.GraphicLayerOrder = 1
    item.GraphicLayerRecommendedDisplayCIELabValue = list(CIELabColor.from_rgb(*_LIGHT).value)
    item.GraphicLayerRecommendedDisplayGrayscaleValue = 65535
    item.GraphicLayerDescription = "Outlines of regions that look edited"
    return item


def _window(key: KeySlice, shown: Appearance) -> Dataset:
    item = Dataset()
    item.ReferencedImageSequence = [_image(key)]
    assert shown.window is not None  # noqa: S101 - the caller has looked
    item.WindowCenter, item.WindowWidth = (f"{value:.10g}" for value in shown.window)
    return item
