"""What a report is made of; it holds no figure that its JSON does not."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Measured:
    """A figure with its 95 % interval and the count that it rests on; what is unknown is None or NaN.

    `bound`: only the upper end is known (`high`), as of a rate of false alarms that was seen to be 0.
    `percent`: shown times 100, with the sign.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    of: int | None = None
    digits: int = 3
    percent: bool = False

    def __str__(self) -> str:
        text = self._number(self.value)
        if _known(self.low) and _known(self.high):
            text += f" ({self._number(self.low)} to {self._number(self.high)})"
        elif _known(self.high):
            text += f" (at most {self._number(self.high)})"
        return text if self.of is None else f"{text}, n = {self.of:,}"

    def _number(self, value: float | None) -> str:
        if value is None or not _known(value):
            return "–"
        return f"{100 * value:.{max(self.digits - 2, 0)}f} %" if self.percent else f"{value:,.{self.digits}f}"


Cell = str | int | float | Measured | None


def text_of(cell: Cell) -> str:
    """A cell as it is read: three decimals, thousands with a comma, – for what was not measured."""
    if cell is None or (isinstance(cell, float) and not math.isfinite(cell)):
        return "–"
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, int):
        return f"{cell:,}"
    if isinstance(cell, float):
        size = abs(cell)
        return f"{cell:,.0f}" if size >= 1000 else f"{cell:.1f}" if size >= 10 else f"{cell:.3f}"
    return str(cell)


@dataclass(frozen=True)
class Table:
    """Rows under columns; the first column names what a row is of. `note` stands under the table."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"{self.caption}: row {row!r} has {len(row)} cells, the table {len(self.columns)}")


@dataclass(frozen=True)
class Picture:
    """A PNG with what it shows (`caption`), and what to read instead of it (`alt`; the caption by default)."""

    caption: str
    png: bytes = field(repr=False)
    alt: str = ""


@dataclass(frozen=True)
class Section:
    """A part of a report: its paragraphs, then its tables, then its pictures."""

    title: str
    text: str | Sequence[str] = ()
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()

    @property
    def paragraphs(self) -> tuple[str, ...]:
        return (self.text,) if isinstance(self.text, str) else tuple(self.text)


@dataclass(frozen=True)
class Report:
    """A whole report; `summary` are the few sentences that a tired reader needs, misses included."""

    title: str
    sections: Sequence[Section]
    summary: Sequence[str] = ()

    @property
    def tables(self) -> Iterator[Table]:
        return (table for section in self.sections for table in section.tables)


def _known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
