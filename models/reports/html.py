"""A report as one HTML file: no scripts, nothing from elsewhere, pictures inside; readable on a phone."""

import base64
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path

from models.reports.report import Cell, Measured, Picture, Report, Section, Table, text_of

_STYLE = """
:root { color-scheme: light }
body { margin: 0 auto; max-width: 60rem; padding: 1rem; background: #fff; color: #1a1a1a;
       font: 1rem/1.5 system-ui, sans-serif }
h1 { font-size: 1.6rem; line-height: 1.2 } h2 { font-size: 1.25rem; margin-top: 2.5rem }
a { color: #0b4fa0 } nav ol { columns: 16rem; padding-left: 1.4rem }
.summary { border-left: .3rem solid #0b4fa0; padding-left: 1rem }
.table { overflow-x: auto; margin: 1.2rem 0 }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums }
caption { text-align: left; font-weight: 600; padding-bottom: .3rem }
th, td { border-bottom: 1px solid #bbb; padding: .25rem .6rem; text-align: right; vertical-align: top }
th:first-child, td:first-child { text-align: left; min-width: 8rem } thead th { border-bottom: 2px solid #1a1a1a }
tbody th { font-weight: 400 } td span { white-space: nowrap } .words { text-align: left }
.note { font-size: .85rem; margin: .3rem 0 0 } figure { margin: 1.5rem 0 } img { max-width: 100%; height: auto }
figcaption { font-size: .9rem }
@media print { nav { display: none } .table { overflow: visible } }
"""


def page(report: Report) -> str:
    """The whole document; the same report gives the same text."""
    anchors = [f"{number}-{_anchor(section.title)}" for number, section in enumerate(report.sections, 1)]
    links = "\n".join(
        f'<li><a href="#{anchor}">{escape(section.title)}</a></li>'
        for anchor, section in zip(anchors, report.sections, strict=True)
    )
    summary = "\n".join(f"<p>{escape(line)}</p>" for line in report.summary)
    sections = "\n".join(_section(each, anchor) for each, anchor in zip(report.sections, anchors, strict=True))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(report.title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>{escape(report.title)}</h1>
<div class="summary">
{summary}
</div>
<nav aria-label="Sections"><ol>
{links}
</ol></nav>
{sections}
</body>
</html>
"""


def write_html(report: Report, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(report), encoding="utf-8")


def write_pictures(report: Report, folder: Path) -> list[Path]:
    """Every picture of the report as a file of its own, named after its section."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for section in report.sections:
        for number, picture in enumerate(section.pictures, 1):
            path = folder / f"{_anchor(section.title)}-{number}.png"
            path.write_bytes(picture.png)
            written.append(path)
    return written


def _section(section: Section, anchor: str) -> str:
    parts = [f'<section id="{anchor}">', f"<h2>{escape(section.title)}</h2>"]
    parts += [f"<p>{escape(paragraph)}</p>" for paragraph in section.paragraphs]
    parts += [_table(table) for table in section.tables]
    parts += [_picture(picture) for picture in section.pictures]
    return "\n".join([*parts, "</section>"])


def _table(table: Table) -> str:
    words = [place for place, cells in enumerate(zip(*table.rows, strict=True)) if _all_words(cells)]
    columns = "".join(
        f'<th scope="col"{_class(place in words)}>{escape(column)}</th>' for place, column in enumerate(table.columns)
    )
    rows = []
    for row in table.rows:
        cells = "".join(
            f"<td{_class(place in words)}>{_cell(cell)}</td>" for place, cell in enumerate(row) if place > 0
        )
        rows.append(f'<tr><th scope="row">{_cell(row[0])}</th>{cells}</tr>')
    note = f'<p class="note">{escape(table.note)}</p>' if table.note else ""
    body = "\n".join(rows)
    return (
        f'<div class="table" role="region" tabindex="0" aria-label="{escape(table.caption)}">\n<table>\n'
        f"<caption>{escape(table.caption)}</caption>\n<thead><tr>{columns}</tr></thead>\n<tbody>\n{body}\n</tbody>\n"
        f"</table>\n{note}</div>"
    )


def _all_words(cells: Sequence[Cell]) -> bool:
    return all(isinstance(cell, str) or cell is None for cell in cells) and any(cells)


def _class(words: bool) -> str:
    return ' class="words"' if words else ""


def _cell(cell: Cell) -> str:
    """A figure may break before its interval and before its count, nowhere else."""
    text = text_of(cell)
    if not isinstance(cell, Measured):
        return escape(text) if isinstance(cell, str) else f"<span>{escape(text)}</span>"
    parts = re.split(r" (?=\()|(?<=,) (?=n = )", text)
    return " ".join(f"<span>{escape(part)}</span>" for part in parts)


def _picture(picture: Picture) -> str:
    content = base64.b64encode(picture.png).decode("ascii")
    alt = escape(picture.alt or picture.caption)
    return (
        f'<figure><img src="data:image/png;base64,{content}" alt="{alt}">\n'
        f"<figcaption>{escape(picture.caption)}</figcaption></figure>"
    )


def _anchor(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
