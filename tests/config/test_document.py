"""The file itself: what YAML would not say, and what is no YAML."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from config.check import check
from config.document import read_document, written
from config.faults import Report


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("dicom:\n\tport: 1\n", 2, "a tab stands where only spaces may"),
        ("dicom:\n  port: 1\n   host: x\n", 3, "a colon stands where no key may be"),
        ("dicom: {port: 1\nstore: x", 2, ""),
        ("a: 'unfinished\n", 2, "a quote or bracket is not closed"),
        ("a: *nothing\n", 1, "begins with * is an alias"),
        ("a: 1\n---\nb: 2\n", 2, "a line with --- starts a second document"),
    ],
)
def test_a_syntax_fault_has_its_line_and_plain_words(
    checked: Callable[..., Report], text: str, line: int, words: str
) -> None:
    (fault,) = checked(text).faults
    assert fault.where.startswith(f"scanwarden.yaml line {line}, column ")
    assert words in fault.problem


@pytest.mark.parametrize("text", ["- a\n- b\n", "just text", "42"])
def test_a_file_without_keys_is_a_fault(checked: Callable[..., Report], text: str) -> None:
    (fault,) = checked(text).faults
    assert fault.problem == "the configuration file does not hold keys and values"


def test_a_key_that_stands_twice_is_a_fault_with_both_lines(checked: Callable[..., Report]) -> None:
    (fault,) = checked("dicom:\n  port: 1\n  host: 127.0.0.1\n  port: 104\n").faults
    assert (fault.key, fault.where) == ("dicom.port", "scanwarden.yaml line 4")
    assert fault.problem == "the key stands twice (first in line 2)"


def test_a_group_may_be_taken_over_from_another_place(
    checked: Callable[..., Report], issue: Callable[..., Any]
) -> None:
    pair = issue("gateway")
    report = checked(
        f"""
dicom:
  tls: &ours {{certificate: {pair.certificate}, private_key: {pair.private_key}, require_client_certificate: false}}
destinations:
  - name: archive
    ae_title: PACS
    host: pacs.example
    port: 2762
    tls:
      <<: *ours
"""
    )
    settings = report.require()
    assert settings.destinations[0].tls == settings.dicom.tls


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [*a]",
        "a: &a {b: *a}",
        "a: &a {<<: *a}",
        "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n"
        "d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: [*d,*d,*d,*d,*d,*d,*d,*d,*d]",
        "a: " + "[" * 5000 + "]" * 5000,
        "a: !!python/object/apply:os.system [id]",
        "a: !!int x",
        "a: !!bool maybe",
        "a: !!timestamp 2026-99-99",
        "a: 2026-13-45",
        "? [a, b]\n: c",
        "? {a: b}\n: c",
        "?",
        "? ' '\n: c",
        "<<: 5",
        'dicom: {tls: {certificate: "\\0", private_key: "\\ud800"}}',
    ],
)
def test_hostile_yaml_is_a_fault_and_no_traceback(checked: Callable[..., Report], text: str) -> None:
    report = checked(text)
    assert report.faults
    assert all(fault.key and str(fault).encode() for fault in report.faults)


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "windows.yaml"
    path.write_bytes(b"\xef\xbb\xbfdicom:\r\n  port: 104\r\n")
    assert check(path, environment={}).require().dicom.port == 104


def test_text_that_is_not_utf8_is_a_fault_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes(b"dicom:\n  ae_title: M\xdcNCHEN\n")
    (fault,) = check(path, environment={}).faults
    assert fault.problem == "the configuration file is not UTF-8 text (line 2)"


@pytest.mark.parametrize("name", ["missing.yaml", ".", "x" * 300, "a\0b"])
def test_a_file_that_cannot_be_read_is_a_fault(tmp_path: Path, name: str) -> None:
    (fault,) = check(tmp_path / name, environment={}).faults
    assert fault.problem.startswith("the configuration file ")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_this_user_may_not_read_is_a_fault(tmp_path: Path) -> None:
    path = tmp_path / "closed.yaml"
    path.touch(mode=0o000)
    (fault,) = check(path, environment={}).faults
    assert "may not be read by this user" in fault.problem


def test_lines_are_known_for_every_key_and_entry(tmp_path: Path) -> None:
    path = tmp_path / "lines.yaml"
    path.write_text("dicom:\n  sources:\n    - ae_title: A\n\n    - ae_title: B\n", encoding="utf-8")
    lines = read_document(path).lines
    assert {written(place): line for place, line in lines.items()} == {
        "dicom": 1,
        "dicom.sources": 2,
        "dicom.sources[0]": 3,
        "dicom.sources[0].ae_title": 3,
        "dicom.sources[1]": 5,
        "dicom.sources[1].ae_title": 5,
    }
