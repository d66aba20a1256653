"""A destination's dialect: what comes along, and what a site adds in a few lines of YAML."""

import re
from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from pydicom import dcmread

from config.check import check
from config.keys import find_key
from config.profiles import OwnProfile
from gateway.cli.config import known_profiles
from gateway.results import EvidenceKind, UnknownProfile, build_evidence, profile_named, profiles_of
from gateway.results.profiles import PROFILES, Profile
from inference.findings import Verdict
from tests.gateway.results.phantoms import analysis_of, write_phantom

REPOSITORY = Path(__file__).resolve().parents[3]


def test_the_profiles_that_come_along_are_those_of_the_reference() -> None:
    assert set(PROFILES) == {"ohif", "slicer", "weasis", "orthanc", "legacy", "air"}
    key = find_key(("profiles", 0, "extends"))
    assert key is not None
    assert all(name in key.form for name in PROFILES)


def test_what_one_viewer_breaks_on_is_not_in_its_profile() -> None:
    assert EvidenceKind.SR not in PROFILES["ohif"].objects, "OHIF fails at measurements without an outline"
    assert EvidenceKind.PLANAR not in PROFILES["slicer"].objects, "Slicer skips segments beside outlines"
    assert PROFILES["legacy"].objects == (EvidenceKind.SC,)
    assert PROFILES["legacy"].summary, "without it a verdict without a region would be silent"
    assert not any(profile.empty_frames for profile in PROFILES.values()), "Weasis switches long SEGs off"
    assert not any(EvidenceKind.LABELMAP in profile.objects for profile in PROFILES.values())


@pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda profile: profile.name)
@pytest.mark.parametrize("verdict", Verdict)
def test_every_profile_says_every_verdict(profile: Profile, verdict: Verdict, tmp_path: Path) -> None:
    phantom = write_phantom(tmp_path / "in")
    made = build_evidence(analysis_of(phantom, [], verdict=verdict), phantom.context(), profile, tmp_path / "out")
    assert made, "an abstention that nobody sees would pass for a clean study"


def test_the_least_verdict_lets_the_graver_ones_through() -> None:
    profile = Profile("strict", (EvidenceKind.SR,), only_from=Verdict.REVIEW)
    assert [verdict for verdict in Verdict if profile.wants(verdict)] == [Verdict.REVIEW, Verdict.SUSPECT]
    assert profile.wants("SUSPECT")
    assert not profile.wants("CLEAR")
    assert all(PROFILES["legacy"].wants(verdict) for verdict in Verdict)
    patient = Profile("patient", (EvidenceKind.SR,), only_from=Verdict.ABSTAIN)
    assert not patient.wants(Verdict.CLEAR)
    assert patient.wants(Verdict.ABSTAIN)


def test_series_numbers_of_all_kinds_differ() -> None:
    profile = Profile("all", tuple(EvidenceKind))
    numbers = [profile.number_of(kind, index) for kind in EvidenceKind for index in range(90)]
    single = {EvidenceKind.SR, EvidenceKind.SC, EvidenceKind.TEXT, EvidenceKind.PLANAR, EvidenceKind.KOS}
    used = [profile.number_of(kind) for kind in single]
    used += [profile.number_of(kind, index) for kind in EvidenceKind if kind not in single for index in range(90)]
    assert len(set(used)) == len(used) < len(numbers)


def test_a_profile_of_a_site_differs_in_what_it_says_alone() -> None:
    own = OwnProfile(
        name="ours",
        extends="legacy",
        objects=("SC", "SR"),
        picture_syntax="rle",
        series_number=700,
        series_name="Integrity",
        only_from="REVIEW",
        transport="stow",
        max_pictures=3,
    )
    profile = profiles_of([own])["ours"]
    assert (profile.name, profile.objects) == ("ours", (EvidenceKind.SC, EvidenceKind.SR))
    assert profile.summary is PROFILES["legacy"].summary
    assert profile.picture_syntax.name == "RLE Lossless"
    assert (profile.number_of(EvidenceKind.SR), profile.description_of(EvidenceKind.SR)) == (
        700,
        "Integrity integrity report",
    )
    assert (profile.only_from, profile.transport, profile.max_pictures) == (Verdict.REVIEW, "stow", 3)
    assert set(PROFILES) < set(profiles_of([own]))


def test_every_setting_of_a_profile_reaches_it() -> None:
    """A key that is accepted and then ignored would be the worst kind of setting."""
    assert {key for key in OwnProfile.model_fields if key not in ("extends",)} == {
        each.name for each in fields(Profile)
    }


def test_a_profile_cannot_extend_one_of_the_site() -> None:
    with pytest.raises(UnknownProfile, match="one of: air, legacy"):
        profile_named("b", [OwnProfile(name="b", extends="a")])


def test_objects_of_two_profiles_are_different_objects(tmp_path: Path) -> None:
    """One PACS may get both: neither overwrites the other."""
    phantom = write_phantom(tmp_path / "in")
    uids = [
        file.sop_instance_uid
        for profile in profiles_of([OwnProfile(name="again", extends="weasis")]).values()
        for file in build_evidence(analysis_of(phantom), phantom.context(), profile, tmp_path / profile.name)
    ]
    assert len(set(uids)) == len(uids)


def test_series_descriptions_and_numbers_are_in_the_objects(tmp_path: Path) -> None:
    phantom = write_phantom(tmp_path / "in")
    own = profile_named("ours", [OwnProfile(name="ours", extends="weasis", series_number=100, series_name="Flag")])
    for file in build_evidence(analysis_of(phantom), phantom.context(), own, tmp_path / "out"):
        dataset = dcmread(file.path, stop_before_pixels=True)
        assert dataset.SeriesNumber == own.number_of(file.kind)
        assert dataset.SeriesDescription == own.description_of(file.kind)
        assert str(dataset.SeriesDescription).startswith("Flag ")


def test_the_pages_destination_takes_eight_lines_and_passes_the_check(tmp_path: Path) -> None:
    page = (REPOSITORY / "docs" / "evidence.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    small, large = blocks
    assert len(small.splitlines()) <= 8
    for block in (small, large):
        path = tmp_path / "site.yaml"
        path.write_text(block + f"\nstore: {{root: {tmp_path / 'store'}}}\n", encoding="utf-8")
        report = check(path, environment={}, known_profiles=known_profiles())
        assert report.faults == ()
        settings = report.require()
        for destination in settings.destinations:
            assert profile_named(destination.profile, settings.profiles).name == destination.profile
        assert yaml.safe_load(block)["destinations"]
