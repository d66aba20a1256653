"""Whatever stands at whatever key: settings or faults come out, never a traceback."""

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from config.check import check
from config.keys import ENTRY, all_keys

# Every key of the schema, lists' entries as the first of their list.
PLACES = st.sampled_from([tuple(0 if step == ENTRY else step for step in place) for place in all_keys()])
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.sampled_from(
        ["", " ", "\0", "~", "*x", "1e400", "0x10", "12:30", "::", "0/0", "10.0.0.0/33", "http://x@y:z", "/"]
    ),
    st.dates(),
    st.binary(max_size=8),
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)


def nested(place: tuple[str | int, ...], value: object) -> object:
    for step in reversed(place):
        value = [value] if isinstance(step, int) else {step: value}
    return value


def is_an_answer(path: Path, environment: dict[str, str] | None = None) -> None:
    report = check(path, environment=environment or {}, known_profiles={"orthanc"}, known_models={"edit-unet"})
    assert (report.settings is None) == bool(report.faults)
    for fault in (*report.faults, *report.warnings):
        assert fault.key
        assert fault.problem
        assert fault.remedy
        assert str(fault).isprintable()
    json.dumps(report.as_dict()).encode()


@settings(deadline=None)
@given(place=PLACES, value=VALUES)
def test_any_value_at_any_key_has_an_answer(
    tmp_path_factory: pytest.TempPathFactory, place: tuple[str | int, ...], value: object
) -> None:
    path = tmp_path_factory.getbasetemp() / "garbage.yaml"
    path.write_text(yaml.safe_dump(nested(place, value), allow_unicode=False), encoding="utf-8")
    is_an_answer(path)


@settings(deadline=None)
@given(place=PLACES, scalar=st.text(st.characters(codec="utf-8")))
def test_any_text_as_yaml_at_any_key_has_an_answer(
    tmp_path_factory: pytest.TempPathFactory, place: tuple[str | int, ...], scalar: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "scalar.yaml"
    text = json.dumps(nested(place, "MARK")).replace('"MARK"', scalar)
    path.write_text(text, encoding="utf-8")
    is_an_answer(path)


@settings(deadline=None)
@given(content=st.binary(max_size=200))
def test_any_bytes_as_a_file_have_an_answer(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "bytes.yaml"
    path.write_bytes(content)
    is_an_answer(path)


@settings(deadline=None)
@given(
    variables=st.dictionaries(
        st.one_of(
            st.sampled_from([key.variable for key in all_keys().values() if key.variable]),
            st.text(st.characters(codec="utf-8", exclude_characters="\0="), min_size=1).map("SCANWARDEN_".__add__),
        ),
        st.one_of(
            st.text(st.characters(codec="utf-8", exclude_characters="\0")),
            st.recursive(
                st.none() | st.booleans() | st.integers() | st.text(),
                lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
            ).map(json.dumps),
        ),
        max_size=4,
    )
)
def test_any_environment_has_an_answer(tmp_path_factory: pytest.TempPathFactory, variables: dict[str, str]) -> None:
    path = tmp_path_factory.getbasetemp() / "empty.yaml"
    path.write_text("dicom: {port: 104}", encoding="utf-8")
    is_an_answer(path, variables)
