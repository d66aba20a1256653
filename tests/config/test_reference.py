"""The reference and the examples cannot fall behind the schema."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from config.check import check
from config.keys import all_keys
from config.reference import EXAMPLES, reference

REPOSITORY = Path(__file__).resolve().parents[2]


def test_the_committed_reference_is_what_the_schema_says() -> None:
    committed = (REPOSITORY / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert committed == reference(), "run: scanwarden config reference --output docs/configuration.md"


def test_every_key_has_its_row_with_variable_and_meaning() -> None:
    text = reference()
    for key in all_keys().values():
        assert key.description, f"{key.name} says nothing of itself"
        if key.variable and key.section is None:
            assert f"`{key.place[-1]}`<br>`{key.variable}`" in text


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("*.yaml")))
def test_an_example_is_sound_and_in_the_reference(name: str, tmp_path: Path, issue: Callable[..., Any]) -> None:
    """The hospital's paths are moved into a folder of the test's own, where the files that they name are made."""
    text = (EXAMPLES / name).read_text(encoding="utf-8")
    assert text in reference()
    gateway, authority = issue("gateway"), issue("hospital-ca")
    password = tmp_path / "database.password"
    password.touch(mode=0o600)
    password.write_text("made for the test", encoding="utf-8")
    moved = text.replace("/etc/scanwarden/tls", str(gateway.certificate.parent)).replace(
        "/etc/scanwarden", str(tmp_path)
    )
    moved = moved.replace("/var/lib/scanwarden", str(tmp_path / "store")).replace(
        "root: var", f"root: {tmp_path / 'var'}"
    )
    path = tmp_path / name
    path.write_text(moved, encoding="utf-8")
    report = check(path, environment={}, known_profiles={"orthanc"}, known_models={"edit-unet"})
    assert (report.faults, report.warnings) == ((), ())
    assert authority.certificate.exists()
    assert set(yaml.safe_load(text)) <= set(report.require().model_dump())
