"""A report's tables for the terminal and for Markdown pages."""

from collections.abc import Iterator

from rich.markup import escape
from rich.table import Table as RichTable

from models.reports.report import Report, Table, text_of


def terminal_tables(report: Report) -> Iterator[RichTable]:
    """Every table of the report, in its order, to be printed by rich."""
    for table in report.tables:
        shown = RichTable(title=escape(table.caption), caption=escape(table.note) or None)
        for place, column in enumerate(table.columns):
            shown.add_column(escape(column), justify="left" if place == 0 else "right", overflow="fold")
        for row in table.rows:
            shown.add_row(*(escape(text_of(cell)) for cell in row))
        yield shown


def markdown(table: Table) -> str:
    """The table as Markdown, for cards and pages."""
    lines = [table.columns, ["---"] * len(table.columns), *([text_of(cell) for cell in row] for row in table.rows)]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"
