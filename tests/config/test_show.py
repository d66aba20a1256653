"""What is shown is what is in effect, and can be read in again."""

from collections.abc import Callable
from pathlib import Path

import yaml

from config.check import check
from config.faults import Report
from config.show import effective, effective_yaml

TEXT = """
dicom:
  ae_title: "NO"
  sources:
    - ae_title: "0123"
      addresses: ["10.0.0.0/8", "::1"]
retention:
  instances: 90d
"""


def test_what_is_shown_can_be_read_in_again(checked: Callable[..., Report], tmp_path: Path) -> None:
    report = checked(TEXT)
    again = tmp_path / "again.yaml"
    again.write_text(effective_yaml(report), encoding="utf-8")
    assert check(again, environment={}).require() == report.require()


def test_each_value_that_is_set_says_by_what(checked: Callable[..., Report]) -> None:
    lines = effective_yaml(checked(TEXT, {"SCANWARDEN_LOG__LEVEL": "debug"})).splitlines()
    assert "  ae_title: 'NO'  # scanwarden.yaml line 3" in lines
    assert "  level: debug  # SCANWARDEN_LOG__LEVEL" in lines
    assert "  port: 11112" in lines


def test_the_two_forms_say_the_same(checked: Callable[..., Report]) -> None:
    report = checked(TEXT)
    assert yaml.safe_load(effective_yaml(report)) == effective(report.require())
