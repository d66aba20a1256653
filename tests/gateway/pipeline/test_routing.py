"""What the rules of several series come to for their study, and what headers say of a series."""

from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

from config.rules import Conditions, Rule, Traits
from gateway.pipeline.routing import route, traits_of
from storage import Priority

MR, CT, SR = (Traits(uid, modality=modality) for uid, modality in (("1.1", "MR"), ("1.2", "CT"), ("1.3", "SR")))
KNOWN = ("pacs", "research")


def rule(modality: str, **decision: Any) -> Rule:
    return Rule(name=modality.lower(), when=Conditions(modality=(modality,)), **decision)


def test_without_rules_everything_is_analysed_for_everybody() -> None:
    found = route([], [MR, CT])
    assert not found.ignored
    assert found.priority is None
    assert found.destinations(KNOWN) == KNOWN
    assert found.models(("a", "b")) == ("a", "b")


def test_a_series_that_is_ignored_has_no_say() -> None:
    rules = [rule("SR", analyse=False), rule("MR", destinations=("research",), models=("a",))]
    found = route(rules, [MR, SR])
    assert found.ignored == {"1.3": "sr"}
    assert found.destinations(KNOWN) == ("research",)
    assert found.models(("a", "b")) == ("a",)


def test_the_wishes_of_series_are_joined_and_no_wish_is_everything() -> None:
    rules = [rule("MR", destinations=("research",)), rule("CT", destinations=())]
    assert route(rules, [MR, CT]).destinations(KNOWN) == ("research",)
    assert route(rules, [CT]).destinations(KNOWN) == ()
    assert route(rules, [MR, CT, SR]).destinations(KNOWN) == KNOWN


@pytest.mark.parametrize(
    ("asked", "priority"),
    [((None, None), None), (("routine", None), Priority.ROUTINE), (("routine", "stat"), Priority.STAT)],
)
def test_stat_of_one_series_counts_for_the_study(asked: tuple[str | None, ...], priority: Priority | None) -> None:
    rules = [rule(modality, priority=wish) for modality, wish in zip(("MR", "CT"), asked, strict=True)]
    assert route(rules, [MR, CT]).priority is priority


def test_the_rules_before_the_one_that_matches_say_why_they_do_not() -> None:
    (found,) = route([rule("MR"), rule("CT"), rule("SR")], [CT]).series
    assert found.rule is not None
    assert found.rule.name == "ct"
    assert found.passed == (("mr", "modality: CT"),)


def written(folder: Path, **elements: object) -> Path:
    dataset = Dataset()
    dataset.SOPInstanceUID = generate_uid()
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.MediaStorageSOPClassUID = UID(str(elements.get("SOPClassUID", "1.2")))
    path = folder / f"{dataset.SOPInstanceUID}.dcm"
    dataset.save_as(path, enforce_file_format=True)
    return path


def test_headers_say_what_a_series_is(tmp_path: Path) -> None:
    common = {"SeriesInstanceUID": "1.1", "Modality": "MR", "BodyPartExamined": "BRAIN", "StudyDescription": "Brain"}
    files = [
        (written(tmp_path, SOPClassUID="1.2.3", SeriesDescription="FLAIR", **common), "MR1"),
        (written(tmp_path, SOPClassUID="1.2.4", SeriesDescription="FLAIR", **common), "MR2"),
        (written(tmp_path, SOPClassUID="1.2.5", SeriesInstanceUID="1.9"), "MR1"),
    ]
    first, second = traits_of(files)
    assert first == Traits(
        "1.1", "MR", "BRAIN", frozenset({"MR1", "MR2"}), "Brain", "FLAIR", frozenset({"1.2.3", "1.2.4"})
    )
    assert second == Traits("1.9", sources=frozenset({"MR1"}), sop_classes=frozenset({"1.2.5"}))


def test_a_file_that_is_no_dicom_and_values_that_cannot_be_read_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "noise").write_bytes(b"\x08\x00\x60\x00XX\xff\xff" * 9)
    whole = written(tmp_path, SOPClassUID="1.2.3", SeriesInstanceUID="1.1", Modality="MR")
    assert dcmread(whole).Modality == "MR"
    assert [each.modality for each in traits_of([(tmp_path / "noise", ""), (whole, "")]) if each.series_uid] == ["MR"]
