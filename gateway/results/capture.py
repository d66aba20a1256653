"""SC: key slices as RGB pictures, for the many PACS that show nothing else (Secondary Capture, PS3.3 A.8.1).

Single-frame images in one series, because that is what every PACS shows. Outlines, arrows and a legend are burned in;
patient's data is not. What has no key slice has no picture; the page of words is for profiles that want it, and for
images that look generated as a whole.
"""

from collections.abc import Sequence

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import SecondaryCaptureImageStorage

from gateway.results import codes, pages, wording
from gateway.results.evidence import MANUFACTURER, EvidenceKind
from gateway.results.imprint import MODEL_NAME, add_file_meta, imprint, software_version
from gateway.results.keyslices import Appearance, KeySlice, NoPicture, appearance, grey, pixels_of
from gateway.results.material import Material
from gateway.results.pages import Line, Mark, Page
from inference.findings import Finding, SeriesSynthesis, Verdict

_MOST_REASONS = 6
_MOST_REGIONS = 8


def captures(material: Material) -> list[Dataset]:
    """Make the pictures: the page of words where it is wanted, then the key slices, the surest first."""
    made: list[Dataset] = []
    if material.profile.summary or _generated(material):
        made.append(_object(material, _words(material), 1, None, None))
    images = pixels_of(material.flagged, material.decode)
    for at, key in enumerate(material.flagged):
        image = images[at]
        if isinstance(image, NoPicture):
            material.note(f"There is no picture of {_where(key, material)}: {image}")
            continue
        shown = appearance(key)
        spacing = (key.plane.spacing[0], key.plane.spacing[1]) if key.plane is not None else (1.0, 1.0)
        page = pages.picture_page(grey(image, shown), spacing, _marks(key), _above(material), _below(key, material))
        made.append(_object(material, page, len(made) + 1, key, shown))
    return made


def _where(key: KeySlice, material: Material) -> str:
    """`series 3, image 24`."""
    name = wording.series_name(key.volume.series_uid, material.sources)
    if key.frame_number is not None:
        return f"{name}, frame {key.frame_number}"
    number = key.instance.instance_number
    return f"{name}, image {number}" if number is not None else f"{name}, slice {key.index + 1}"


def _marks(key: KeySlice) -> list[Mark]:
    return [
        Mark(str(finding.label), codes.REGIONS[finding.finding_class].colour, key.outlines[finding.label])
        for finding in key.findings
    ]


def _generated(material: Material) -> list[SeriesSynthesis]:
    """The series whose images look generated as a whole: nothing in them can be pointed at, so words have to say it."""
    alarming = (Verdict.SUSPECT, Verdict.REVIEW)
    return [series for series in material.analysis.synthesis if series.verdict in alarming]


def _above(material: Material) -> list[Line]:
    verdict = material.analysis.verdict
    return [
        Line(verdict.value, 30, pages.VERDICT_COLOURS[verdict], is_bold=True),
        Line(wording.LEGEND, 19, is_bold=True),
    ]


def _below(key: KeySlice, material: Material) -> list[Line]:
    where = _where(key, material)
    lines = [_region(finding, material, with_place=False) for finding in key.findings[:_MOST_REGIONS]]
    return [
        *lines,
        *_series_lines(material),
        pages.dim(
            f"{where[0].upper()}{where[1:]}. Revision {material.context.revision} of the study. {_maker(material)}"
        ),
    ]


def _series_lines(material: Material) -> list[Line]:
    return [
        Line(wording.whole_images_sentence(series, material.sources), 18, pages.VERDICT_COLOURS[series.verdict])
        for series in _generated(material)[:_MOST_REGIONS]
    ]


def _region(finding: Finding, material: Material, *, with_place: bool) -> Line:
    where = ""
    if with_place:
        where = f": {wording.place(finding, material.volume_of[finding.label], material.sources)}"
    words = f"Region {finding.label} {wording.looks(finding)}{where}, {wording.percent(finding.score)}"
    return Line(words, 18, codes.REGIONS[finding.finding_class].colour)


def _maker(material: Material) -> str:
    models = ", ".join(f"{model.name} {model.version}" for model in material.analysis.models) or "no model was used"
    when = material.context.analysed_at.strftime("%Y-%m-%d %H:%M")
    return f"{MANUFACTURER} {software_version()}, {models}, {when}."


def _words(material: Material) -> Page:
    """The page of words: the conclusion, the regions, the reasons, what it is about."""
    analysis = material.analysis
    places = [
        (finding, wording.place(finding, material.volume_of[finding.label], material.sources))
        for finding in analysis.findings
    ]
    said = wording.conclusion(analysis, places, wording.generated(analysis, material.sources))
    lines = [*_above(material), Line(""), Line(said, 20), Line("")]
    surest = sorted(analysis.findings, key=lambda finding: -finding.score)
    lines += [_region(finding, material, with_place=True) for finding in surest[:_MOST_REGIONS]]
    if len(surest) > _MOST_REGIONS:
        lines.append(Line(f"and {len(surest) - _MOST_REGIONS} more regions"))
    lines += _series_lines(material)
    lines += [Line(f"\N{BULLET} {wording.plain(reason)}") for reason in analysis.reasons[:_MOST_REASONS]]
    if len(analysis.reasons) > _MOST_REASONS:
        lines.append(Line(f"and {len(analysis.reasons) - _MOST_REASONS} more reasons"))
    about = wording.revision_sentence(material.context, material.sources)
    if material.context.revision > 1:
        about += " This replaces what was sent for earlier revisions."
    return pages.word_page([*lines, Line(""), Line(about), pages.dim(_maker(material))])


def _object(material: Material, page: Page, number: int, key: KeySlice | None, shown: Appearance | None) -> Dataset:
    context, profile, kind = material.context, material.profile, EvidenceKind.SC
    dataset = Dataset()
    dataset.SOPClassUID = SecondaryCaptureImageStorage
    dataset.SOPInstanceUID = material.identity.instance(kind, number)
    dataset.SeriesInstanceUID = material.identity.series(kind)
    dataset.SeriesNumber = profile.number_of(kind)
    dataset.SeriesDescription = profile.description_of(kind)
    dataset.InstanceNumber = number
    dataset.Modality = "OT"
    dataset.ConversionType = "WSD"
    dataset.SecondaryCaptureDeviceManufacturer = MANUFACTURER
    dataset.SecondaryCaptureDeviceManufacturerModelName = MODEL_NAME
    dataset.SecondaryCaptureDeviceSoftwareVersions = software_version()
    dataset.ManufacturerModelName = MODEL_NAME
    dataset.SoftwareVersions = software_version()
    dataset.DeviceSerialNumber = context.model_set_digest[:16] or "none"
    dataset.DateOfSecondaryCapture = context.analysed_at.strftime("%Y%m%d")
    dataset.TimeOfSecondaryCapture = context.analysed_at.strftime("%H%M%S")
    dataset.ImageType = ["DERIVED", "SECONDARY"]
    dataset.BurnedInAnnotation = "YES"
    dataset.PatientOrientation = dataset.Laterality = ""
    dataset.ImageComments = f"{material.analysis.verdict.value}. {wording.LEGEND}"
    _pixels(dataset, page)
    if key is not None and shown is not None:
        dataset.DerivationDescription = "Key slice, windowed and enlarged, with outlines, arrows and a legend"
        dataset.SourceImageSequence = [_source(key)]
        _copy_loss(dataset, shown.header)
    imprint(dataset, material.sources.patient, context.analysed_at)
    add_file_meta(dataset)
    return dataset


def _pixels(dataset: Dataset, page: Page) -> None:
    dataset.Rows, dataset.Columns = page.shape[:2]
    dataset.SamplesPerPixel = 3
    dataset.PhotometricInterpretation = "RGB"
    dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit = 7
    dataset.PixelRepresentation = 0
    data = np.ascontiguousarray(page).tobytes()
    dataset.PixelData = data + b"\0" * (len(data) % 2)
    dataset["PixelData"].VR = "OB"


def _source(key: KeySlice) -> Dataset:
    item, purpose = Dataset(), Dataset()
    item.ReferencedSOPClassUID = key.instance.sop_class_uid
    item.ReferencedSOPInstanceUID = key.instance.sop_instance_uid
    if key.frame_number is not None:
        item.ReferencedFrameNumber = key.frame_number
    purpose.CodeValue = codes.SOURCE_OF_PICTURE.value
    purpose.CodingSchemeDesignator = codes.SOURCE_OF_PICTURE.scheme_designator
    purpose.CodeMeaning = codes.SOURCE_OF_PICTURE.meaning
    item.PurposeOfReferenceCodeSequence = [purpose]
    return item


def _copy_loss(dataset: Dataset, header: Dataset) -> None:
    """A picture of an image that was compressed with loss has lost as much (PS3.3 C.7.6.1.1.5)."""
    if str(header.get("LossyImageCompression") or "") != "01":
        return
    ratios, methods = _texts(header, "LossyImageCompressionRatio"), _texts(header, "LossyImageCompressionMethod")
    if ratios and len(ratios) == len(methods):
        dataset.LossyImageCompression = "01"
        dataset.LossyImageCompressionRatio = ratios
        dataset.LossyImageCompressionMethod = methods
    else:
        dataset.DerivationDescription += "; of an image that was compressed with loss"


def _texts(header: Dataset, keyword: str) -> Sequence[str]:
    value = header.get(keyword)
    if value in (None, ""):
        return []
    return [str(value)] if isinstance(value, str | float | int) else [str(item) for item in value]
