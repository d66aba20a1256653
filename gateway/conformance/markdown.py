"""Tables in Markdown."""

from collections.abc import Iterable, Sequence


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table; a bar within a cell is escaped."""
    lines = [_line(heads), "|" + "---|" * len(heads)]
    lines += [_line(row) for row in rows]
    return "\n".join(lines)


def code(text: object) -> str:
    """As it is typed or sent."""
    return f"`{text}`"


def _line(cells: Sequence[object]) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"
