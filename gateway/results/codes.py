"""The one vocabulary of our evidence objects: SNOMED CT, DCM, UCUM, LOINC where a code exists, else a private scheme.

The private scheme is 99SCANWARDEN (PS3.16 §8.2: private designators begin with "99"). Its codes never change their
meaning; a new meaning gets a new code. Code meanings are plain words, because viewers show them as they stand:

    SW-1xx  what a region is claimed to be    SW-2xx  the study's verdict    SW-3xx  names of values in the report
    SW-4xx  what the whole images of a series are claimed to be
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from inference.findings import Finding, FindingClass, Verdict
from models.images.organs import Organ

SCHEME = "99SCANWARDEN"
SCHEME_NAME = "Scanwarden integrity findings"
SCHEME_VERSION = "1"


def _private(value: str, meaning: str) -> Code:
    return Code(value, SCHEME, meaning)


# What a region is. A region that was put there or painted over is no morphology of the patient: its category is the
# neutral one of CID 7150, so that nobody counts it among the lesions.
ADDED_LESION = _private("SW-101", "Suspected added lesion")
REMOVED_LESION = _private("SW-102", "Suspected removed lesion")
RESYNTHESISED_REGION = _private("SW-103", "Suspected resynthesised region")

INTEGRITY_VERDICT = _private("SW-200", "Integrity verdict")
VERDICTS: Mapping[Verdict, Code] = MappingProxyType(
    {
        Verdict.VERIFIED: _private("SW-201", "VERIFIED: origin and content of the images are proven"),
        Verdict.CLEAR: _private("SW-202", "CLEAR: no sign of manipulation found"),
        Verdict.REVIEW: _private("SW-203", "REVIEW: possible manipulation, have a look"),
        Verdict.SUSPECT: _private("SW-204", "SUSPECT: signs of manipulation"),
        Verdict.ABSTAIN: _private("SW-205", "ABSTAIN: no statement is made"),
    }
)

MANIPULATION_PROBABILITY = _private("SW-301", "Probability of manipulation")
REASON = _private("SW-302", "Reason for the verdict")
PROVENANCE_OBSERVATION = _private("SW-303", "Provenance observation")
STUDY_REVISION = _private("SW-304", "Study revision")
PREDECESSOR_REPORT = _private("SW-305", "Report on the revision before")
EVIDENCE_NOTE = _private("SW-306", "Note on the evidence objects")
SUMMARY_TITLE = _private("SW-307", "Image integrity summary")
GENERATION_PROBABILITY = _private("SW-308", "Probability that the images were generated")
ORGAN_PROBABILITY = _private("SW-309", "Probability of the organ")
WHOLE_IMAGES = _private("SW-310", "Whole images of a series")

# What the images of a series are, as a whole: by what the series alone would be called. Never a morphology.
ORIGINS: Mapping[Verdict, Code] = MappingProxyType(
    {
        Verdict.SUSPECT: _private("SW-401", "Suspected generated images"),
        Verdict.REVIEW: _private("SW-402", "Possibly generated images"),
        Verdict.CLEAR: _private("SW-403", "No sign of generated images"),
        Verdict.ABSTAIN: _private("SW-404", "No statement on the origin of the images"),
    }
)
ORIGIN_CATEGORY: Code = codes.SCT.SpatialAndRelationalConcept
ORGANS: Mapping[str, Code] = MappingProxyType(
    {
        Organ.BRAIN_MR.value: codes.SCT.Brain,
        Organ.CHEST_XRAY.value: codes.SCT.Chest,
        Organ.KIDNEY_CT.value: codes.SCT.Kidney,
        Organ.LUNG_CT.value: codes.SCT.Lung,
        Organ.KNEE_XRAY.value: codes.SCT.Knee,
    }
)

REPORT_TITLE: Code = codes.DCM.ImagingMeasurementReport
CONCLUSION: Code = codes.DCM.Conclusion
COMMENT: Code = codes.DCM.Comment
FINDING_CERTAINTY: Code = codes.DCM.CertaintyOfFinding
VOLUME: Code = codes.SCT.Volume
SOURCE = Code("260753009", "SCT", "Source")  # highdicom's wording; pydicom calls it "Source (attribute)"
ALGORITHM_FAMILY: Code = codes.DCM.ArtificialIntelligence
PERCENT: Code = codes.UCUM.Percent
CUBIC_MILLIMETRE: Code = codes.UCUM.CubicMillimeter
DEVICE: Code = codes.DCM.Device
IMAGE_LIBRARY: Code = codes.DCM.ImageLibrary
IMAGE_LIBRARY_GROUP: Code = codes.DCM.ImageLibraryGroup
IMAGING_MEASUREMENTS: Code = codes.DCM.ImagingMeasurements
MODALITY: Code = codes.DCM.Modality
FINDING: Code = codes.DCM.Finding
ALGORITHM_NAME: Code = codes.DCM.AlgorithmName
KEY_OBJECTS: Code = codes.DCM.OfInterest
SOURCE_OF_PICTURE: Code = codes.DCM.SourceImageForImageProcessingOperation


@dataclass(frozen=True)
class RegionStyle:
    """How a class of finding is coded, named in a few letters, and coloured (red, green, blue; 0 to 255)."""

    category: Code
    kind: Code
    label: str
    colour: tuple[int, int, int]


REGIONS: Mapping[FindingClass, RegionStyle] = MappingProxyType(
    {
        FindingClass.REAL_TUMOUR: RegionStyle(
            codes.SCT.MorphologicallyAbnormalStructure, codes.SCT.Neoplasm, "Tumour-like", (255, 200, 0)
        ),
        FindingClass.ADDED_TUMOUR: RegionStyle(
            codes.SCT.SpatialAndRelationalConcept, ADDED_LESION, "Added", (255, 40, 40)
        ),
        FindingClass.REMOVED_TUMOUR: RegionStyle(
            codes.SCT.SpatialAndRelationalConcept, REMOVED_LESION, "Removed", (60, 140, 255)
        ),
        FindingClass.RESYNTHESISED: RegionStyle(
            codes.SCT.SpatialAndRelationalConcept, RESYNTHESISED_REGION, "Resynthesised", (220, 80, 255)
        ),
    }
)


def region_label(finding: Finding) -> str:
    """The name of a finding in viewers: short, because segment lists are narrow."""
    return f"{REGIONS[finding.finding_class].label} {finding.label}"


def tracking_id(finding: Finding, revision: int) -> str:
    """Tracking identifier of a finding, shared by its segment and its measurements."""
    return f"{region_label(finding)}, revision {revision}"


_PROCEDURES: Mapping[str, Code] = MappingProxyType(
    {
        "MR": codes.cid100.MRIUnspecifiedBodyRegion,
        "CT": codes.cid100.CTUnspecifiedBodyRegion,
        "PT": codes.cid100.PETUnspecifiedBodyRegion,
        "NM": codes.cid100.NMUnspecifiedBodyRegion,
        "CR": codes.cid100.XRUnspecifiedBodyRegion,
        "DX": codes.cid100.XRUnspecifiedBodyRegion,
    }
)


def procedure(modality: str) -> Code:
    """Procedure reported (CID 100) for images of a modality, (0008,0060)."""
    return _PROCEDURES.get(modality, codes.cid100.ImagingProcedure)


def _modalities() -> dict[str, Code]:
    known = (getattr(codes.cid29, name) for name in codes.cid29.dir())
    return {code.value: code for code in known}


_MODALITIES: Mapping[str, Code] = MappingProxyType(_modalities())
_OTHER_MODALITY = Code("OT", "DCM", "Other")


def acquisition_modality(modality: str) -> Code:
    """Acquisition modality (CID 29) for (0008,0060): DCM uses its terms as code values."""
    return _MODALITIES.get(modality, _OTHER_MODALITY)
