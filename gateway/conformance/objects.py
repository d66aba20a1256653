"""The objects that we make, attribute by attribute (PS3.2 annex A.A): what stands in them and where it comes from.

Written by hand and held by a test, which makes every kind of object and looks for each attribute: one that is missing
here or there is a fault, and so is a value where EMPTY is promised.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pydicom.datadict import dictionary_description, tag_for_keyword
from pydicom.tag import Tag
from pydicom.uid import (
    Comprehensive3DSRStorage,
    EnhancedSRStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    KeyObjectSelectionDocumentStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

from gateway.results import EvidenceKind
from gateway.results.sources import LABEL_MAP_SEGMENTATION

SOP_CLASSES: Mapping[EvidenceKind, str] = {
    EvidenceKind.SEG: SegmentationStorage,
    EvidenceKind.LABELMAP: LABEL_MAP_SEGMENTATION,
    EvidenceKind.SC: SecondaryCaptureImageStorage,
    EvidenceKind.GSPS: GrayscaleSoftcopyPresentationStateStorage,
    EvidenceKind.TEXT: EnhancedSRStorage,
    EvidenceKind.PLANAR: Comprehensive3DSRStorage,
    EvidenceKind.SR: Comprehensive3DSRStorage,
    EvidenceKind.KOS: KeyObjectSelectionDocumentStorage,
}
"""What each kind of evidence object is."""

TEMPLATES: Mapping[EvidenceKind, str] = {
    EvidenceKind.TEXT: "none: a container of sentences, title SW-307",
    EvidenceKind.PLANAR: "TID 1500, with TID 1410 for each region",
    EvidenceKind.SR: "TID 1500, with TID 1501 for the verdict and TID 1411 for each region",
    EvidenceKind.KOS: 'TID 2010, title (113000, DCM, "Of Interest")',
}
"""Root templates of the documents (PS3.16)."""

_PICTURES = (EvidenceKind.SEG, EvidenceKind.LABELMAP)
_REPORTS = (EvidenceKind.TEXT, EvidenceKind.PLANAR, EvidenceKind.SR)
_DOCUMENTS = (*_REPORTS, EvidenceKind.KOS)
_PLAIN = (EvidenceKind.SC, EvidenceKind.GSPS)
_ALL = tuple(EvidenceKind)

# Keyword, presence (ALWAYS with a value; VNAP: may be empty; ANAP: may be absent; EMPTY), source, and what it holds.
_MODULES: Sequence[tuple[str, Sequence[EvidenceKind], str]] = (
    (
        "Patient",
        _ALL,
        """
        PatientName VNAP COPY
        PatientID VNAP COPY
        PatientBirthDate VNAP COPY
        PatientSex VNAP COPY
        IssuerOfPatientID ANAP COPY
        PatientIdentityRemoved ANAP COPY YES, where an image says so and by which method
        DeidentificationMethod ANAP COPY
        """,
    ),
    (
        "General Study, Patient Study",
        _ALL,
        """
        StudyInstanceUID ALWAYS COPY
        StudyDate VNAP COPY
        StudyTime VNAP COPY
        ReferringPhysicianName VNAP COPY
        StudyID VNAP COPY
        AccessionNumber VNAP COPY
        StudyDescription ANAP COPY
        PatientAge ANAP COPY
        """,
    ),
    (
        "General Equipment",
        _ALL,
        """
        Manufacturer ALWAYS FIXED Scanwarden
        ManufacturerModelName ALWAYS FIXED Scanwarden integrity gateway
        DeviceSerialNumber ALWAYS AUTO first 16 characters of the digest of the set of models; `none` without one
        SoftwareVersions ALWAYS AUTO version of the program
        """,
    ),
    (
        "SOP Common",
        _ALL,
        """
        SOPClassUID ALWAYS FIXED
        SOPInstanceUID ALWAYS AUTO 2.25.…, derived from study, revision, set of models, profile, kind and source series
        SpecificCharacterSet ALWAYS FIXED ISO_IR 192
        InstanceCreationDate ALWAYS AUTO when the analysis ended
        InstanceCreationTime ALWAYS AUTO when the analysis ended
        InstanceNumber ALWAYS AUTO
        CodingSchemeIdentificationSequence ALWAYS FIXED 99SCANWARDEN
        MACParametersSequence ANAP CONFIG with `signatures.ours`
        DigitalSignaturesSequence ANAP CONFIG with `signatures.ours`
        """,
    ),
    (
        "SOP Common",
        (*_PICTURES, *_DOCUMENTS),
        "ContributingEquipmentSequence ALWAYS AUTO the library that encoded it (highdicom)",
    ),
    (
        "General Series",
        _ALL,
        """
        Modality ALWAYS FIXED see the head of this table
        SeriesInstanceUID ALWAYS AUTO derived as the SOP Instance UID
        SeriesNumber ALWAYS CONFIG `series_number` of the profile, and the kind's distance from it
        SeriesDescription ALWAYS CONFIG `series_name` of the profile, and the kind in words
        """,
    ),
    ("General Series", _PLAIN, "Laterality EMPTY FIXED"),
    (
        "SR Document Series, Key Object Document Series",
        _DOCUMENTS,
        "ReferencedPerformedProcedureStepSequence EMPTY FIXED",
    ),
    (
        "General Image, Segmentation Image, Bitmap",
        (*_PICTURES, EvidenceKind.SC),
        """
        ImageType ALWAYS FIXED
        ContentDate ALWAYS AUTO when the analysis ended
        ContentTime ALWAYS AUTO when the analysis ended
        SamplesPerPixel ALWAYS FIXED
        PhotometricInterpretation ALWAYS FIXED
        Rows ALWAYS AUTO of the source images; of a secondary capture: of the page
        Columns ALWAYS AUTO
        BitsAllocated ALWAYS FIXED
        BitsStored ALWAYS FIXED
        HighBit ALWAYS FIXED
        PixelRepresentation ALWAYS FIXED
        PixelData ALWAYS AUTO
        SourceImageSequence ANAP AUTO the images that it was made of
        LossyImageCompression ANAP COPY 01, where a source image was compressed with loss
        """,
    ),
    (
        "Segmentation Series, Frame of Reference, Common Instance Reference",
        _PICTURES,
        """
        ReferencedSeriesSequence ALWAYS AUTO the source series and its images
        FrameOfReferenceUID ALWAYS COPY
        PositionReferenceIndicator EMPTY FIXED
        """,
    ),
    (
        "Multi-frame Functional Groups, Multi-frame Dimension",
        _PICTURES,
        """
        NumberOfFrames ALWAYS AUTO
        SharedFunctionalGroupsSequence ALWAYS AUTO pixel measures, plane orientation
        PerFrameFunctionalGroupsSequence ALWAYS AUTO frame content, plane position, derivation image, segment
        DimensionOrganizationSequence ALWAYS AUTO
        DimensionIndexSequence ALWAYS AUTO
        DimensionOrganizationType ANAP AUTO
        """,
    ),
    (
        "Segmentation Image",
        _PICTURES,
        """
        SegmentationType ALWAYS FIXED BINARY; LABELMAP in a label map
        SegmentSequence ALWAYS AUTO one item a region: codes, AUTOMATIC, algorithm, tracking UID, colour
        SegmentsOverlap ALWAYS AUTO
        ContentLabel ALWAYS FIXED SCANWARDEN
        ContentDescription ALWAYS FIXED
        PresentationLUTShape ANAP FIXED
        PixelPaddingValue ANAP FIXED label maps
        """,
    ),
    (
        "SC Equipment, SC Image, General Image",
        (EvidenceKind.SC,),
        """
        ConversionType ALWAYS FIXED WSD
        SecondaryCaptureDeviceManufacturer ALWAYS FIXED Scanwarden
        SecondaryCaptureDeviceManufacturerModelName ALWAYS FIXED
        SecondaryCaptureDeviceSoftwareVersions ALWAYS AUTO
        DateOfSecondaryCapture ALWAYS AUTO when the analysis ended
        TimeOfSecondaryCapture ALWAYS AUTO when the analysis ended
        PatientOrientation EMPTY FIXED
        PlanarConfiguration ALWAYS FIXED 0
        BurnedInAnnotation ALWAYS FIXED YES: verdict and legend, never a patient's name
        ImageComments ALWAYS AUTO verdict and legend
        DerivationDescription ANAP AUTO of a key slice
        LossyImageCompressionRatio ANAP COPY
        LossyImageCompressionMethod ANAP COPY
        """,
    ),
    (
        "Presentation State Identification, Relationship, Graphic Annotation, Displayed Area, LUTs",
        (EvidenceKind.GSPS,),
        """
        PresentationCreationDate ALWAYS AUTO when the analysis ended
        PresentationCreationTime ALWAYS AUTO when the analysis ended
        ContentLabel ALWAYS FIXED SCANWARDEN
        ContentDescription ALWAYS FIXED
        ContentCreatorName EMPTY FIXED
        ReferencedSeriesSequence ALWAYS AUTO the key slices
        GraphicAnnotationSequence ALWAYS AUTO a POLYLINE and a text for each region, PIXEL
        GraphicLayerSequence ALWAYS FIXED one layer, SCANWARDEN
        DisplayedAreaSelectionSequence ALWAYS AUTO SCALE TO FIT
        SoftcopyVOILUTSequence ANAP COPY window of the key slice
        RescaleIntercept ANAP COPY
        RescaleSlope ANAP COPY
        RescaleType ANAP COPY
        PresentationLUTShape ALWAYS AUTO INVERSE for MONOCHROME1
        """,
    ),
    (
        "SR Document General, SR Document Content",
        _DOCUMENTS,
        """
        ContentDate ALWAYS AUTO when the analysis ended
        ContentTime ALWAYS AUTO when the analysis ended
        ValueType ALWAYS FIXED CONTAINER
        ConceptNameCodeSequence ALWAYS FIXED
        ContinuityOfContent ALWAYS FIXED SEPARATE
        ContentSequence ALWAYS AUTO annex B
        CurrentRequestedProcedureEvidenceSequence ALWAYS AUTO every instance of the revision, and objects of ours
        ContentTemplateSequence ANAP FIXED where there is a root template
        """,
    ),
    (
        "SR Document General",
        _REPORTS,
        """
        CompletionFlag ALWAYS FIXED COMPLETE
        VerificationFlag ALWAYS FIXED UNVERIFIED
        PreliminaryFlag ALWAYS FIXED PRELIMINARY
        PerformedProcedureCodeSequence EMPTY FIXED
        PredecessorDocumentsSequence ANAP AUTO the report of this kind on the revision before
        """,
    ),
)

MODALITIES: Mapping[EvidenceKind, str] = {
    EvidenceKind.SEG: "SEG",
    EvidenceKind.LABELMAP: "SEG",
    EvidenceKind.SC: "OT",
    EvidenceKind.GSPS: "PR",
    EvidenceKind.TEXT: "SR",
    EvidenceKind.PLANAR: "SR",
    EvidenceKind.SR: "SR",
    EvidenceKind.KOS: "KO",
}


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute of one kind of object."""

    module: str
    keyword: str
    presence: str
    source: str
    note: str

    @property
    def name(self) -> str:
        return dictionary_description(self._number)

    @property
    def tag(self) -> str:
        return str(Tag(self._number))

    @property
    def _number(self) -> int:
        return tag_for_keyword(self.keyword) or 0


def attributes(kind: EvidenceKind) -> Iterator[Attribute]:
    """What stands at the root of an object of this kind."""
    yield from shared()
    yield from own(kind)


def shared() -> Iterator[Attribute]:
    """What every object has."""
    for module, kinds, lines in _MODULES:
        if kinds is _ALL:
            yield from _read(module, lines)


def own(kind: EvidenceKind) -> Iterator[Attribute]:
    """What objects of this kind have, and not all others."""
    for module, kinds, lines in _MODULES:
        if kinds is not _ALL and kind in kinds:
            yield from _read(module, lines)


def _read(module: str, lines: str) -> Iterator[Attribute]:
    for line in lines.strip().splitlines():
        keyword, presence, source, *note = line.split(None, 3)
        yield Attribute(module, keyword, presence, source, note[0] if note else "")
