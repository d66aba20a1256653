"""One vocabulary: standard codes mean what they say, private ones are well formed and stay what they are."""

from pathlib import Path

import pytest
from pydicom.sr.coding import Code

from gateway.results import codes
from inference.findings import FindingClass, Verdict

PRIVATE = [
    value for value in vars(codes).values() if isinstance(value, Code) and value.scheme_designator == codes.SCHEME
]
PRIVATE += [*codes.VERDICTS.values(), *codes.ORIGINS.values()]


@pytest.mark.parametrize(
    ("code", "value", "scheme"),
    [
        (codes.REPORT_TITLE, "126000", "DCM"),
        (codes.CONCLUSION, "121077", "DCM"),
        (codes.COMMENT, "121106", "DCM"),
        (codes.FINDING_CERTAINTY, "111012", "DCM"),
        (codes.ALGORITHM_FAMILY, "123110", "DCM"),
        (codes.IMAGE_LIBRARY, "111028", "DCM"),
        (codes.IMAGE_LIBRARY_GROUP, "126200", "DCM"),
        (codes.IMAGING_MEASUREMENTS, "126010", "DCM"),
        (codes.FINDING, "121071", "DCM"),
        (codes.ALGORITHM_NAME, "111001", "DCM"),
        (codes.KEY_OBJECTS, "113000", "DCM"),
        (codes.SOURCE_OF_PICTURE, "121322", "DCM"),
        (codes.VOLUME, "118565006", "SCT"),
        (codes.REGIONS[FindingClass.REAL_TUMOUR].kind, "108369006", "SCT"),
        (codes.REGIONS[FindingClass.REAL_TUMOUR].category, "49755003", "SCT"),
        (codes.REGIONS[FindingClass.ADDED_TUMOUR].category, "309825002", "SCT"),
        (codes.CUBIC_MILLIMETRE, "mm3", "UCUM"),
        (codes.ORIGIN_CATEGORY, "309825002", "SCT"),
        (codes.ORGANS["brain MR"], "12738006", "SCT"),
        (codes.ORGANS["chest X-ray"], "816094009", "SCT"),
        (codes.ORGANS["kidney CT"], "64033007", "SCT"),
        (codes.ORGANS["lung CT"], "39607008", "SCT"),
        (codes.ORGANS["knee X-ray"], "72696002", "SCT"),
        (codes.procedure("MR"), "25056-3", "LN"),
        (codes.procedure("CT"), "25045-6", "LN"),
        (codes.procedure("DOC"), "363679005", "SCT"),
        (codes.acquisition_modality("MR"), "MR", "DCM"),
        (codes.acquisition_modality("??"), "OT", "DCM"),
    ],
)
def test_standard_codes_are_those_of_the_standard(code: Code, value: str, scheme: str) -> None:
    assert (code.value, code.scheme_designator) == (value, scheme)


def test_private_codes_fit_their_attributes_and_differ() -> None:
    assert len(codes.SCHEME) <= 16
    assert codes.SCHEME.startswith("99")
    assert all(len(code.value) <= 16 and len(code.meaning) <= 64 and code.meaning.isascii() for code in PRIVATE)
    assert len({code.value for code in PRIVATE}) == len(PRIVATE)


def test_private_codes_keep_their_meaning() -> None:
    """PACS hold reports for decades: a code must never come to mean something else."""
    assert {code.value: code.meaning for code in PRIVATE} == {
        "SW-101": "Suspected added lesion",
        "SW-102": "Suspected removed lesion",
        "SW-103": "Suspected resynthesised region",
        "SW-200": "Integrity verdict",
        "SW-201": "VERIFIED: origin and content of the images are proven",
        "SW-202": "CLEAR: no sign of manipulation found",
        "SW-203": "REVIEW: possible manipulation, have a look",
        "SW-204": "SUSPECT: signs of manipulation",
        "SW-205": "ABSTAIN: no statement is made",
        "SW-301": "Probability of manipulation",
        "SW-302": "Reason for the verdict",
        "SW-303": "Provenance observation",
        "SW-304": "Study revision",
        "SW-305": "Report on the revision before",
        "SW-306": "Note on the evidence objects",
        "SW-307": "Image integrity summary",
        "SW-308": "Probability that the images were generated",
        "SW-309": "Probability of the organ",
        "SW-310": "Whole images of a series",
        "SW-401": "Suspected generated images",
        "SW-402": "Possibly generated images",
        "SW-403": "No sign of generated images",
        "SW-404": "No statement on the origin of the images",
    }


def test_every_verdict_and_every_class_has_a_code_of_its_own() -> None:
    assert set(codes.VERDICTS) == set(Verdict)
    assert set(codes.REGIONS) == set(FindingClass)
    assert len({style.kind.value for style in codes.REGIONS.values()}) == len(FindingClass)
    assert len({style.colour for style in codes.REGIONS.values()}) == len(FindingClass)


def test_every_private_code_is_documented() -> None:
    page = (Path(__file__).parents[3] / "docs" / "evidence.md").read_text(encoding="utf-8")
    for code in PRIVATE:
        assert f"| {code.value} | {code.meaning} |" in page
