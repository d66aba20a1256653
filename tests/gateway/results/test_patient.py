"""Headers that break the standard are corrected in our objects, never refused, and their values never repeated."""

import warnings
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import config, dcmread
from pydicom.dataset import Dataset
from pydicom.valuerep import validate_value

from gateway.results.patient import KEYWORDS, patient_study
from gateway.results.sources import read_sources
from tests.gateway.results.phantoms import patient_header, write_phantom


def _source(**values: object) -> Dataset:
    dataset = patient_header("1.2.840.10008.5.1.4.1.1.4", "MR")
    dataset.SOPInstanceUID = "1.2.3"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the values are wrong is the point
        for keyword, value in values.items():
            setattr(dataset, keyword, value)
    return dataset


def test_a_sound_header_is_copied_as_it_is() -> None:
    taken = patient_study(_source(PatientID=" HF1058"), "1.2")
    assert taken.observations == ()
    assert str(taken.attributes.PatientName) == "Müster^Jürgen"
    assert taken.attributes.PatientID == " HF1058", "a PACS files by the ID as it was sent"
    assert taken.attributes.PatientSex == "M"
    assert taken.attributes.StudyTime == "101500"


@pytest.mark.parametrize(
    ("keyword", "value", "instead"),
    [
        ("PatientSex", "0000", ""),
        ("PatientSex", "f", "F"),
        ("PatientBirthDate", "00000000", ""),
        ("PatientBirthDate", "1961.04.12", "19610412"),
        ("StudyDate", "20261340", ""),
        ("StudyDate", "yesterday", ""),
        ("StudyTime", "10:15:00", "101500"),
        ("StudyTime", "991500", ""),
        ("PatientAge", "42", None),
        ("AccessionNumber", "12345678901234567", ""),
        ("StudyID", "x" * 17, ""),
        ("PatientID", "y" * 65, "y" * 64),
        ("PatientID", "a\x07b", "a b"),
        ("PatientID", ["a", "b"], "a"),
        ("PatientName", "n" * 65, "n" * 64),
        ("PatientName", "a^b^c^d^e^f", "a^b^c^d^e f"),
        ("PatientName", "a=b=c=d", "a=b=c"),
    ],
)
def test_what_cannot_be_copied_is_corrected_and_named(keyword: str, value: object, instead: str | None) -> None:
    taken = patient_study(_source(**{keyword: value}), "1.2")
    written = taken.attributes.get(keyword)
    assert (None if written is None else str(written)) == instead
    (observation,) = taken.observations
    assert observation.evidence == {"attribute": keyword}
    assert observation.text.startswith(keyword)
    assert observation.sop_instance_uids == ("1.2.3",)


@pytest.mark.parametrize("keyword", ["PatientName", "PatientID", "StudyTime", "AccessionNumber", "PatientSex"])
def test_a_missing_attribute_becomes_an_empty_one_without_a_word(keyword: str) -> None:
    source = _source()
    delattr(source, keyword)
    taken = patient_study(source, "1.2")
    assert str(taken.attributes[keyword].value or "") == ""
    assert taken.observations == ()


def test_removed_identity_is_said_only_with_its_method() -> None:
    with_method = patient_study(_source(PatientIdentityRemoved="YES", DeidentificationMethod=["CTP", "113107"]), "1.2")
    assert with_method.attributes.DeidentificationMethod == ["CTP", "113107"]
    without = patient_study(_source(PatientIdentityRemoved="YES"), "1.2")
    assert "PatientIdentityRemoved" not in without.attributes
    assert [each.evidence["attribute"] for each in without.observations] == ["PatientIdentityRemoved"]


secrets = st.text(min_size=3, max_size=90).map(lambda text: f"Q{text}Z")


@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=150)
@given(st.sampled_from([keyword for keyword in KEYWORDS if keyword != "PatientIdentityRemoved"]), secrets)
@pytest.mark.filterwarnings("ignore")
def test_any_text_gives_a_valid_header_and_stays_out_of_observations(keyword: str, text: str) -> None:
    taken = patient_study(_source(**{keyword: text}), "1.2")
    for element in taken.attributes:
        for value in element.value if element.VM > 1 else [element.value]:
            validate_value(element.VR, value, config.RAISE)
    assert not any(text in observation.text for observation in taken.observations)


def test_bytes_outside_the_character_set_cost_a_letter_and_not_the_report(tmp_path: Path) -> None:
    def change(dataset: Dataset) -> None:
        dataset.SpecificCharacterSet = "ISO_IR 192"
        dataset.PatientName = "M?ster^J"

    phantom = write_phantom(tmp_path, change=change)
    for file in phantom.files:
        file.write_bytes(file.read_bytes().replace(b"M?ster^J", b"M\xfcster^J"))
    sources = read_sources(phantom.context())
    name = str(sources.patient.attributes.PatientName)
    assert name.startswith("M")
    assert name.endswith("ster^J")
    assert [each.evidence["attribute"] for each in sources.patient.observations] == ["PatientName"]


def test_real_headers_of_a_scanner_are_corrected(scanwarden_data: Path) -> None:
    """The healthy volunteer's series was de-identified with asterisks where dates belong."""
    file = sorted((scanwarden_data / "dicom" / "t1-healthy").rglob("*.dcm"))[0]
    taken = patient_study(dcmread(file, stop_before_pixels=True), "1.2")
    corrected = {each.evidence["attribute"] for each in taken.observations}
    assert corrected == {"PatientBirthDate", "StudyDate", "PatientAge"}
    assert not any("*" in observation.text for observation in taken.observations)
