"""Digests of attributes: one for each group, the same in every encoding, another one for every other value."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset, FileDataset, dcmread, dcmwrite
from pydicom.datadict import dictionary_VR
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from storage.attributes import CONTENT, GROUPS, attribute_digests

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "integrity.md"


def image(**elements: object) -> FileDataset:
    dataset = FileDataset("", Dataset(), file_meta=FileMetaDataset())
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4", "1.2.3"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2", "1.2.1"
    dataset.PatientName, dataset.PatientID = "Doe^Jane", "P1"
    dataset.Rows = dataset.Columns = 4
    dataset.PixelSpacing, dataset.EchoTime, dataset.ImageType = [0.5, 0.5], 80, ["ORIGINAL", "PRIMARY"]
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_another_transfer_syntax_changes_no_group(tmp_path: Path, syntax: UID) -> None:
    dataset = image()
    before = attribute_digests(dataset)
    dataset.file_meta.TransferSyntaxUID = syntax
    dcmwrite(
        tmp_path / "1.dcm",
        dataset,
        implicit_vr=syntax == ImplicitVRLittleEndian,
        little_endian=syntax != ExplicitVRBigEndian,
        enforce_file_format=False,
    )
    assert attribute_digests(dcmread(tmp_path / "1.dcm", force=True)) == before


def test_an_empty_element_says_what_an_absent_one_says() -> None:
    assert attribute_digests(image(SoftwareVersions="", StationName=None)) == attribute_digests(image())


@pytest.mark.parametrize(("group", "keyword"), [(group, each) for group, of in GROUPS.items() for each in of])
def test_every_listed_attribute_counts_in_its_group_and_only_there(group: str, keyword: str) -> None:
    dataset = image()
    value: object
    if dictionary_VR(keyword) == "SQ":
        inner = Dataset()
        inner.StackID = "1"
        value = [inner]
    else:
        of_its_kind = {"DA": "20010203", "TM": "010203", "DT": "20010203", "US": 7, "FD": 7.0, "CS": "O"}
        value = of_its_kind.get(dictionary_VR(keyword), "7")
    setattr(dataset, keyword, value)
    before, after = attribute_digests(image()), attribute_digests(dataset)
    expected = {group} | ({"patient"} if keyword == "StudyInstanceUID" else set())
    assert {each for each in GROUPS if before[each] != after[each]} == expected


def test_one_patient_has_another_digest_in_every_study() -> None:
    one, two = attribute_digests(image()), attribute_digests(image(StudyInstanceUID="1.9"))
    assert one["patient"] != two["patient"]


def test_a_report_is_covered_as_a_whole_but_for_private_elements() -> None:
    report = Dataset()
    report.SOPInstanceUID, report.ValueType, report.TextValue = "1.2.3", "TEXT", "no tumour "
    before = attribute_digests(report)
    assert set(before) == {CONTENT}
    report.private_block(0x0011, "MAKER", create=True).add_new(1, "LO", "x")
    report.TextValue = "no tumour"
    assert attribute_digests(report) == before
    report.TextValue = "a tumour"
    assert attribute_digests(report) != before


@given(st.floats(-1e4, 1e4, allow_nan=False).map(lambda value: round(value, 4)))
def test_a_number_counts_and_not_its_spelling(value: float) -> None:
    spellings = [f"{value:.4f}", f"{value:.6f}", f"{value:.8e}"]
    found = {attribute_digests(image(SliceLocation=each))["geometry"] for each in spellings if len(each) <= 16}
    assert len(found) == 1
    assert attribute_digests(image(SliceLocation=f"{value + 0.01:.4f}"))["geometry"] not in found


def test_the_document_lists_exactly_what_the_digests_cover() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    for group, keywords in GROUPS.items():
        (row,) = re.findall(rf"^\| `{group}` \| (.*) \|$", text, re.MULTILINE)
        assert tuple(re.findall(r"\w+", row)) == keywords, group
