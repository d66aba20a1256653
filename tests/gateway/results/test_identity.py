"""A repeat makes the same objects; anything that changes what they say makes others."""

from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import UID

from gateway.results import EvidenceKind, RevisionContext, model_set_digest
from gateway.results.identity import Identity, derived_uid
from gateway.results.profiles import ORTHANC
from inference.findings import ModelUsed
from tests.gateway.results.phantoms import AT

CONTEXT = RevisionContext("1.2.3", 1, "d" * 64, (Path("a.dcm"),), AT)
parts = st.lists(st.one_of(st.text(), st.integers()), max_size=5)


@given(parts)
def test_a_derived_uid_is_a_uid(given_parts: list[str | int]) -> None:
    uid = UID(derived_uid(*given_parts))
    assert uid.is_valid
    assert uid.startswith("2.25.")
    assert len(uid) <= 44


@given(parts, parts)
def test_other_parts_give_another_uid(some: list[str | int], others: list[str | int]) -> None:
    assert (derived_uid(*some) == derived_uid(*others)) == (some == others)


def test_uids_stay_the_same_from_release_to_release() -> None:
    """After an upgrade in the middle of a delivery, a repeat must still be recognised."""
    assert derived_uid("instance", "1.2.3", 1, "SR") == "2.25.14198244648805102229175066425592615826"


def test_study_revision_models_profile_kind_and_source_all_count() -> None:
    identity = Identity(CONTEXT, ORTHANC)
    others = [
        Identity(replace(CONTEXT, study_uid="1.2.4"), ORTHANC),
        Identity(replace(CONTEXT, revision=2), ORTHANC),
        Identity(replace(CONTEXT, model_set_digest="e" * 64), ORTHANC),
        Identity(CONTEXT, replace(ORTHANC, name="other")),
    ]
    uids = [each.instance(EvidenceKind.SEG, "1.2.3.4", 0) for each in (identity, *others)]
    uids += [identity.instance(EvidenceKind.SEG, "1.2.3.4", 1), identity.instance(EvidenceKind.SEG, "1.2.3.5", 0)]
    uids += [identity.instance(EvidenceKind.SR), identity.series(EvidenceKind.SR)]
    assert len(set(uids)) == len(uids)


def test_a_finding_is_tracked_by_one_uid_in_every_dialect() -> None:
    other = Identity(CONTEXT, replace(ORTHANC, name="other"))
    assert Identity(CONTEXT, ORTHANC).tracking(1) == other.tracking(1)
    assert other.tracking(1) != other.tracking(2)


def test_the_order_of_models_does_not_matter_and_their_weights_do() -> None:
    first, second = ModelUsed("a", "1", "x"), ModelUsed("b", "1", "y")
    assert model_set_digest([first, second]) == model_set_digest([second, first])
    assert model_set_digest([first]) != model_set_digest([replace(first, digest="z")])
