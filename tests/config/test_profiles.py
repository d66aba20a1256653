"""Profiles of a site: what contradicts itself is a fault before the first study comes."""

from collections.abc import Callable

from config.faults import Report

Checked = Callable[..., Report]
KNOWN = {"orthanc", "legacy", "weasis"}
DESTINATION = "destinations: [{name: pacs, ae_title: PACS, host: pacs.example, port: 104, profile: ours}]\n"


def checked_profiles(checked: Checked, *profiles: str) -> Report:
    return checked(
        DESTINATION + "profiles:\n" + "".join(f"  - {{{each}}}\n" for each in profiles), known_profiles=KNOWN
    )


def faults(report: Report) -> dict[str, str]:
    return {fault.key: f"{fault.problem}; {fault.remedy}" for fault in report.faults}


def test_a_profile_of_a_site_may_be_named_by_a_destination(checked: Checked) -> None:
    report = checked_profiles(checked, "name: ours, extends: legacy, only_from: REVIEW")
    assert (report.faults, report.warnings) == ((), ())
    assert report.require().profiles[0].only_from == "REVIEW"


def test_a_destination_with_an_unknown_profile_hears_the_sites_own_too(checked: Checked) -> None:
    report = checked_profiles(checked, "name: other, extends: legacy")
    assert faults(report)["destinations[0].profile"].endswith("give one of: legacy, orthanc, other, weasis")


def test_names_must_be_new_and_the_extended_one_must_come_along(checked: Checked) -> None:
    report = checked_profiles(
        checked,
        "name: ours, extends: legacy",
        "name: ours, extends: weasis",
        "name: orthanc, extends: weasis",
        "name: more, extends: ours",
    )
    found = faults(report)
    assert "names two profiles" in found["profiles[0].name"]
    assert "comes along" in found["profiles[2].name"]
    assert found["profiles[3].extends"].endswith("give one of: legacy, orthanc, weasis")


def test_what_says_something_about_an_object_that_is_not_made_is_a_fault(checked: Checked) -> None:
    report = checked_profiles(checked, "name: ours, extends: legacy, objects: [SR], summary: true, picture_syntax: rle")
    assert set(faults(report)) == {"profiles[0].summary", "profiles[0].picture_syntax"}


def test_objects_and_syntaxes_are_named_from_a_list(checked: Checked) -> None:
    report = checked_profiles(
        checked, "name: ours, extends: legacy, objects: [SEG, SRR], transfer_syntax: jpeg, only_from: MAYBE"
    )
    found = faults(report)
    assert "one of SEG, LABELMAP, SC, GSPS, TEXT, PLANAR, SR, KOS" in found["profiles[0].objects[1]"]
    assert "explicit, implicit, deflated" in found["profiles[0].transfer_syntax"]
    assert "CLEAR, ABSTAIN, REVIEW, SUSPECT" in found["profiles[0].only_from"]


def test_an_object_twice_or_none_is_a_fault(checked: Checked) -> None:
    twice = checked_profiles(checked, "name: ours, extends: legacy, objects: [SC, SC]")
    assert "twice" in faults(twice)["profiles[0].objects"]
    none = checked_profiles(checked, "name: ours, extends: legacy, objects: []")
    assert "profiles[0].objects" in faults(none)


def test_numbers_and_names_have_bounds(checked: Checked) -> None:
    report = checked_profiles(
        checked, f"name: ours, extends: legacy, series_number: 0, max_pictures: 0, series_name: {'x' * 41}"
    )
    assert set(faults(report)) == {f"profiles[0].{key}" for key in ("series_number", "max_pictures", "series_name")}


def test_a_misspelt_key_says_what_was_meant(checked: Checked) -> None:
    report = checked_profiles(checked, "name: ours, extends: legacy, empty_frame: true")
    assert "did you mean `empty_frames`?" in faults(report)["profiles[0].empty_frame"]


def test_what_nobody_uses_and_what_few_understand_is_a_warning(checked: Checked) -> None:
    report = checked_profiles(
        checked, "name: ours, extends: weasis, objects: [SEG, LABELMAP]", "name: idle, extends: legacy"
    )
    assert report.faults == ()
    assert [warning.key for warning in report.warnings] == ["profiles[0].objects", "profiles[1].name"]
