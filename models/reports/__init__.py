"""Reports of evaluations: tables and pictures that go to the terminal, to Markdown and to one self-contained page."""

from models.reports.html import page, write_html, write_pictures
from models.reports.plain import as_json, read_json, write_json
from models.reports.report import Cell, Measured, Picture, Report, Section, Table, text_of
from models.reports.terminal import terminal_tables

__all__ = [
    "Cell",
    "Measured",
    "Picture",
    "Report",
    "Section",
    "Table",
    "as_json",
    "page",
    "read_json",
    "terminal_tables",
    "text_of",
    "write_html",
    "write_json",
    "write_pictures",
]
