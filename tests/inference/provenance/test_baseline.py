"""A device's habits: learnt, compared, stored as JSON and read back."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from inference.instances import Instance, read_instance
from inference.origins import Origin
from inference.provenance import Baseline, StudyFacts, by_device, observe
from inference.provenance.baseline import BaselineUnreadable


@pytest.fixture
def instance(write_series: Any, brain: NDArray[np.uint16]) -> Instance:
    return read_instance(write_series(brain[:1], Manufacturer="MAKER", DeviceSerialNumber="1")[0])


def of(instance: Instance, *creators: str) -> Instance:
    return replace(instance, origin=replace(instance.origin, private_creators=frozenset(creators)))


def learnt(instance: Instance, studies: int, *creators: str) -> Baseline:
    baseline = Baseline()
    for _ in range(studies):
        baseline = baseline.update([of(instance, *creators)])
    return baseline


def test_a_block_that_was_always_there_is_missed(instance: Instance) -> None:
    baseline = learnt(instance, 8, "MAKER HEADER", "MAKER PROTOCOL")
    assert baseline.compare([of(instance, "MAKER HEADER", "MAKER PROTOCOL", "NEW")]) == ()
    (departure,) = baseline.compare([of(instance, "MAKER HEADER")])
    assert departure.trait == "private block MAKER PROTOCOL"
    assert departure.sop_instance_uids == (instance.sop_instance_uid,)


def test_a_few_studies_are_no_habit_and_nor_is_what_comes_and_goes(instance: Instance) -> None:
    assert learnt(instance, 7, "MAKER HEADER").compare([of(instance)]) == ()
    assert learnt(instance, 8, "MAKER HEADER").update([of(instance)]).compare([of(instance)]) == ()


def test_another_kind_of_image_has_habits_of_its_own(instance: Instance) -> None:
    localiser = replace(of(instance), image_type=("ORIGINAL", "PRIMARY", "LOCALIZER"))
    assert learnt(instance, 9, "MAKER HEADER").compare([localiser]) == ()


def test_the_observation_names_the_device_by_digest_only(instance: Instance) -> None:
    device = instance.origin.device
    stripped = of(instance)
    facts = StudyFacts((stripped,), (), {device: learnt(instance, 8, "MAKER HEADER")})
    (seen,) = [each for each in observe(facts) if each.rule == "private-block-missing"]
    assert seen.evidence["device"] == device
    assert "private-block-missing" not in {each.rule for each in observe(replace(facts, baselines={}))}
    assert list(by_device([stripped])) == [device]


def test_a_header_without_a_device_teaches_nothing(instance: Instance) -> None:
    assert by_device([replace(instance, origin=Origin())]) == {}


@given(
    studies=st.dictionaries(st.text(max_size=8), st.integers(0, 9), max_size=4),
    traits=st.dictionaries(
        st.text(max_size=8), st.dictionaries(st.text(max_size=8), st.integers(0, 9), max_size=4), max_size=4
    ),
)
def test_a_baseline_survives_its_json(studies: dict[str, int], traits: dict[str, dict[str, int]]) -> None:
    baseline = Baseline(studies, traits)
    assert Baseline.from_json(baseline.to_json()) == baseline


@pytest.mark.parametrize("stored", [{}, {"version": 9}, {"version": 1, "studies": 3, "traits": {}}])
def test_rubbish_is_refused(stored: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(BaselineUnreadable):
        Baseline.from_json(stored)
