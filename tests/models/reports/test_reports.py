import base64
import re
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.reports import (
    Measured,
    Picture,
    Report,
    Section,
    Table,
    as_json,
    page,
    terminal_tables,
    text_of,
    write_pictures,
)
from models.reports.terminal import markdown


@pytest.fixture
def report() -> Report:
    table = Table(
        "AUC by source",
        ("source", "AUC", "why"),
        [("a < b", Measured(0.9, 0.8, 0.95, 1234), "word " * 8), ("c & d", None, "–")],
        note="95 % by patient",
    )
    png = BytesIO()
    Image.new("L", (4, 3)).save(png, format="PNG")
    pictures = [Picture("a black image", png.getvalue(), alt="nothing to see")]
    return Report("What was <measured>", [Section("First & last", "read & think", [table], pictures)], ["Two misses."])


class _Names(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_a_page_is_whole_without_scripts_and_needs_nothing_from_elsewhere(report: Report) -> None:
    html = page(report)
    names = _Names()
    names.feed(html)
    assert names.open == []
    assert not {"script", "link", "iframe"} & set(names.seen)
    assert all(source.startswith(("#", "data:image/png;base64,")) for source in names.sources)
    assert "url(" not in html
    assert "width=device-width" in html


def test_a_page_shows_every_table_and_picture_with_words_for_both(report: Report) -> None:
    html = page(report)
    assert "<caption>AUC by source</caption>" in html
    assert "<span>0.900</span> <span>(0.800 to 0.950),</span> <span>n = 1,234</span>" in html
    assert "a &lt; b" in html
    assert "What was &lt;measured&gt;" in html
    assert "Two misses." in html
    encoded = re.search(r'base64,([^"]+)" alt="nothing to see"', html)
    assert encoded is not None
    assert Image.open(BytesIO(base64.b64decode(encoded[1]))).size == (4, 3)


def test_pictures_can_be_had_as_files(report: Report, tmp_path: Path) -> None:
    (written,) = write_pictures(report, tmp_path)
    assert written.name == "first-last-1.png"
    assert written.read_bytes().startswith(b"\x89PNG")


def test_a_report_written_twice_is_equal(report: Report) -> None:
    assert page(report) == page(report)


def test_terminal_and_markdown_show_what_the_page_shows(report: Report) -> None:
    (shown,) = terminal_tables(report)
    assert shown.row_count == 2
    assert "| a < b | 0.900 (0.800 to 0.950), n = 1,234 |" in markdown(next(iter(report.tables)))


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (None, "–"),
        (float("nan"), "–"),
        (1234, "1,234"),
        (True, "yes"),
        (0.12345, "0.123"),
        (12.345, "12.3"),
        (1234.5, "1,234"),
        (Measured(0.0, high=0.0123, of=300, percent=True), "0.0 % (at most 1.2 %), n = 300"),
        (Measured(None), "–"),
        (Measured(0.5, float("nan"), float("nan")), "0.500"),
    ],
)
def test_a_figure_reads_with_its_interval_and_count(cell: object, text: str) -> None:
    assert text_of(cell) == text  # type: ignore[arg-type]


def test_a_row_that_does_not_fit_its_columns_is_refused() -> None:
    with pytest.raises(ValueError, match="has 1 cells"):
        Table("t", ("a", "b"), [("x",)])


def test_json_holds_plain_numbers_and_nothing_that_is_not_finite() -> None:
    written = as_json({"a": np.float32(0.1), "b": np.arange(2), "c": float("nan"), "d": (1, np.bool_(True))})
    assert (
        written == '{\n  "a": 0.1,\n  "b": [\n    0,\n    1\n  ],\n  "c": null,\n  "d": [\n    1,\n    true\n  ]\n}\n'
    )
