"""Writes docs/configuration.md from the schema, so that the reference cannot say anything else than the program."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from config.keys import ENTRY, Key, all_keys

EXAMPLES = Path(__file__).resolve().parent / "examples"

_INTRODUCTION = """\
# Configuration

<!-- Written by `scanwarden config reference --output docs/configuration.md` from config/settings.py. -->

Scanwarden reads one YAML file, named with `--config FILE` or in the environment variable `SCANWARDEN_CONFIG`. Every key
has a default except those of a source, a destination or a TLS group, so a file holds only what differs; without a file,
all defaults are in effect, and only this machine itself may send.

    scanwarden config check FILE    every fault at once: the key, its value, what is wrong, what to write instead
    scanwarden config show          the settings in effect, with the line or variable that set each, without secrets
    scanwarden serve --config FILE  refuses to start while there is a fault

- **Environment.** A variable wins over the file. Its name is `SCANWARDEN_`, then the key with two underscores between
  its levels: `SCANWARDEN_DICOM__PORT=104`. Lists and groups are given as JSON, and a list replaces the file's list
  whole. A misspelt variable is a fault, as a misspelt key is.
- **Secrets** do not stand in the file. The database's password comes from the file that `database.password_file` names,
  or with the whole URL from `SCANWARDEN_DATABASE__URL`. A private key is a PEM file without a passphrase that only the
  service's user may read.
- **Units.** Times are seconds and sizes are bytes, unless the key says otherwise. Ages carry their unit: `90d`, `P90D`,
  `PT36H`.
- **Paths** that do not begin with `/` count from the folder in which the service starts.
- **Text that YAML takes for something else** is put in quotes: `ae_title: "NO"` (without them it is *false*), `"0123"`.
"""

_EXAMPLES = (
    ("One machine with Orthanc", "one-machine.yaml"),
    ("Two sources with TLS, and PostgreSQL", "hospital.yaml"),
)


def reference() -> str:
    """The whole text of docs/configuration.md."""
    parts = [_INTRODUCTION, "## Examples\n"]
    for title, name in _EXAMPLES:
        text = (EXAMPLES / name).read_text(encoding="utf-8")
        parts.append(f"### {title}\n\n`config/examples/{name}`\n\n```yaml\n{text}```\n")
    parts.append("## Every key\n")
    parts.extend(_groups())
    return "\n".join(parts)


def _groups() -> Iterator[str]:
    """A table for each group of keys, in the order of the schema."""
    places: list[tuple[str, ...]] = [()]
    for key in all_keys().values():
        if key.section is not None:
            places.append(key.place)
        if key.entry is not None:
            places.append((*key.place, ENTRY))
    for place in places:
        rows = [key for key in all_keys().values() if key.place[:-1] == place]
        if not place:
            rows = [key for key in rows if key.section is None]
        yield _table(place, rows)


def _table(place: tuple[str, ...], rows: list[Key]) -> str:
    group = all_keys().get(place)
    title = ".".join(place).replace(f".{ENTRY}", ENTRY) or "Top level"
    about = group.description if group else ""
    if place and place[-1] == ENTRY:
        listed = all_keys()[place[:-1]]
        about = (listed.entry.__doc__ or "").strip() if listed.entry else ""
    lines = [f"### {'`' + title + '`' if place else title}", ""]
    if about:
        lines += [about, ""]
    lines += ["| Key | Give | Default | What it is for |", "|---|---|---|---|"]
    lines += [_row(key) for key in rows]
    return "\n".join(lines) + "\n"


def _row(key: Key) -> str:
    name = f"`{key.place[-1]}`" + (f"<br>`{key.variable}`" if key.variable else "")
    cells = [name, key.form, default_of(key), key.description]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def default_of(key: Key) -> str:
    """The default of a key as it is written in a table."""
    if key.required:
        return "**required**"
    if key.section is not None:
        return "unset" if key.optional else ""
    return _value(key.default) + (_in_words(key.default) if key.unit == "bytes" else "")


def _value(value: object) -> str:
    if value is None:
        return "unset"
    if isinstance(value, tuple):
        return "`[" + ", ".join(str(entry) for entry in value) + "]`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, timedelta):
        return f"`{value.days}d`"
    return f"`{value}`"


def _in_words(value: object) -> str:
    """Round numbers of bytes as people say them."""
    for size, name in ((1024**3, "GiB"), (1024**2, "MiB")):
        if isinstance(value, int) and value >= size and value % size == 0:
            return f" ({value // size} {name})"
    return ""
