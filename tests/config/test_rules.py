"""Rules: the first that matches decides, and one that never can is named before the start."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.faults import Report
from config.rules import Conditions, Rule, Traits, first_match, mismatch, never_matches

HEAD_CT = Traits(
    "1.2.3",
    modality="CT",
    body_part="HEAD",
    sources=frozenset({"CT_ER"}),
    study_description="Emergency Head CT",
    series_description="thin 1mm",
    sop_classes=frozenset({"1.2.840.10008.5.1.4.1.1.2"}),
)


def rule(name: str = "r", /, **when: Any) -> Rule:
    return Rule(name=name, when=Conditions(**when))


@pytest.mark.parametrize(
    "when",
    [
        {},
        {"modality": ("MR", "CT")},
        {"modality": ("ct",)},
        {"body_part": ("HEAD",), "source": ("CT_ER",)},
        {"study_description": ("*head*",)},
        {"study_description": ("emergency ???? ct",)},
        {"series_description": ("thin 1mm",)},
        {"sop_class": ("CTImageStorage",)},
        {"sop_class": ("1.2.840.10008.5.1.4.1.1.2",)},
    ],
)
def test_a_series_that_is_what_a_rule_asks_for_matches(when: dict[str, Any]) -> None:
    assert mismatch(rule(**when), HEAD_CT) is None


@pytest.mark.parametrize(
    ("when", "reason"),
    [
        ({"modality": ("MR",)}, "modality: CT"),
        ({"modality": ("CT",), "body_part": ("CHEST",)}, "body_part: HEAD"),
        ({"source": ("CT_2",)}, "source: CT_ER"),
        ({"study_description": ("head",)}, "study_description: none of the patterns fits"),
        ({"study_description": ("[eE]mergency*",)}, "study_description: none of the patterns fits"),
        ({"sop_class": ("MRImageStorage",)}, "sop_class: 1.2.840.10008.5.1.4.1.1.2"),
    ],
)
def test_what_does_not_match_is_told_with_what_the_series_has(when: dict[str, Any], reason: str) -> None:
    assert mismatch(rule(**when), HEAD_CT) == reason


@pytest.mark.parametrize("condition", sorted(Conditions.model_fields))
def test_a_header_that_says_nothing_matches_no_condition(condition: str) -> None:
    value = "CTImageStorage" if condition == "sop_class" else "*" if condition.endswith("description") else "CT"
    assert mismatch(rule(**{condition: (value,)}), Traits("1.2.3")) == f"{condition}: not in the header"


def test_the_first_rule_that_matches_decides() -> None:
    rules = [rule("mr", modality=("MR",)), rule("ct", modality=("CT",)), rule("all")]
    found = first_match(rules, HEAD_CT)
    assert found is not None
    assert found.name == "ct"


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ([{}], {"modality": ("CT",)}),
        ([{"modality": ("CT",)}], {"modality": ("CT",), "body_part": ("HEAD",)}),
        ([{"modality": ("CT",)}, {"modality": ("MR",)}], {"modality": ("MR", "CT")}),
        ([{"study_description": ("*head*",)}], {"study_description": ("Head CT", "*forehead*")}),
        ([{"sop_class": ("CTImageStorage",)}], {"sop_class": ("1.2.840.10008.5.1.4.1.1.2",)}),
    ],
)
def test_a_rule_that_others_take_everything_from_is_named(earlier: list[dict[str, Any]], later: dict[str, Any]) -> None:
    rules = [*(rule(f"r{index}", **when) for index, when in enumerate(earlier)), rule("late", **later)]
    reason = never_matches(rules, len(earlier), []) or ""
    assert "is taken before by" in reason
    assert all(each.name in reason for each in rules[:-1])


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ({"modality": ("CT",)}, {"modality": ("CT", "MR")}),
        ({"modality": ("CT",), "body_part": ("HEAD",)}, {"modality": ("CT",)}),
        ({"modality": ("CT",)}, {"body_part": ("HEAD",)}),
        ({"study_description": ("*head*",)}, {"study_description": ("*he?d*",)}),
        ({"study_description": ("head ?",)}, {"study_description": ("head *",)}),
        ({"sop_class": ("CTImageStorage",)}, {"sop_class": ("MRImageStorage",)}),
    ],
)
def test_a_rule_that_something_is_left_for_is_not_named(earlier: dict[str, Any], later: dict[str, Any]) -> None:
    assert never_matches([rule("one", **earlier), rule("two", **later)], 1, []) is None


MODALITIES = st.lists(st.sampled_from(["CT", "MR", "PT"]), unique=True).map(tuple)
PARTS = st.lists(st.sampled_from(["HEAD", "CHEST"]), unique=True).map(tuple)
WHENS = st.builds(lambda modality, body_part: {"modality": modality, "body_part": body_part}, MODALITIES, PARTS)


@given(st.lists(WHENS, min_size=1, max_size=4))
def test_a_rule_is_named_exactly_when_no_series_reaches_it(whens: list[dict[str, Any]]) -> None:
    rules = [rule(f"r{index}", **when) for index, when in enumerate(whens)]
    # XX stands for every code that no rule names.
    world = [Traits("1", modality=m, body_part=p) for m in ("CT", "MR", "PT", "XX") for p in ("HEAD", "CHEST", "XX")]
    reached = {found.name for each in world if (found := first_match(rules, each)) is not None}
    for index, each in enumerate(rules):
        # A rule's values may each be covered by several others together only where the values are finite.
        if never_matches(rules, index, []) is not None:
            assert each.name not in reached
        elif each.when.modality and each.when.body_part:
            assert each.name in reached


def test_an_ae_title_that_may_not_send_is_named() -> None:
    assert never_matches([rule(source=("CT9",))], 0, ["CT1"]) is not None
    assert never_matches([rule(source=("CT9",))], 0, []) is None


def test_a_modality_that_contradicts_the_sop_class_is_named() -> None:
    assert never_matches([rule(modality=("MR",), sop_class=("CTImageStorage",))], 0, []) is not None
    assert never_matches([rule(modality=("MR",), sop_class=("SecondaryCaptureImageStorage",))], 0, []) is None


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("rules: [{name: a}, {name: a}]", "rules[1].name"),
        ("rules: [{name: a, destinations: [pacs]}]", "rules[0].destinations[0]"),
        ("rules: [{name: a, models: [other]}]", "rules[0].models[0]"),
        ("rules: [{name: a, when: {sop_class: [Nonsense]}}]", "rules[0].when.sop_class[0]"),
        ("rules: [{name: a, when: {modalty: [CT]}}]", "rules[0].when.modalty"),
        ("rules: [{name: a, when: {modality: [c/t]}}]", "rules[0].when.modality[0]"),
        ("rules: [{name: a, priors: 2}]", "rules[0].priors"),
        ("priors: {archive: nowhere}", "priors.archive"),
    ],
)
def test_a_fault_in_a_rule_is_found(checked: Callable[[str], Report], text: str, key: str) -> None:
    assert key in {fault.key for fault in checked(text).faults}


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("rules: [{name: a}, {name: b, analyse: false}]", "rules[1]"),
        ("rules: [{name: a, analyse: false, models: [edit-unet]}]", "rules[0].models"),
    ],
)
def test_a_rule_without_effect_is_a_warning(checked: Callable[[str], Report], text: str, key: str) -> None:
    report = checked(text)
    assert not report.faults
    assert key in {warning.key for warning in report.warnings}
