"""Every key of the schema as data: its place, its type in words, its bounds, its default, its environment variable.

The one source for the reference, for the remedies of faults and for what `did you mean` can suggest.
"""

import difflib
import types
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from config.settings import ENVIRONMENT_PREFIX, Section, Settings
from config.values import Form

ENTRY = "[]"
_NO_LIMIT = 2**40  # an upper bound from here on only keeps nonsense out, and is not worth words


@dataclass(frozen=True)
class Key:
    """One key. `place` has `[]` for a list's entry: `("dicom", "sources", "[]", "ae_title")`."""

    place: tuple[str, ...]
    form: str
    default: Any
    required: bool
    optional: bool
    description: str
    secret: bool
    section: type[BaseModel] | None
    entry: type[BaseModel] | None
    unit: str

    @property
    def name(self) -> str:
        return ".".join(self.place).replace(f".{ENTRY}", ENTRY)

    @property
    def is_list(self) -> bool:
        return self.form.startswith("a list")

    @property
    def variable(self) -> str:
        """The environment variable that sets it; empty for keys of a list's entries, which are set with their list."""
        return "" if ENTRY in self.place else ENVIRONMENT_PREFIX + "__".join(self.place).upper()


@cache
def all_keys() -> dict[tuple[str, ...], Key]:
    """Every key of the schema by its place, groups before what they hold, in the order of the schema."""
    return {key.place: key for key in _walk(Settings, ())}


def find_key(place: tuple[str | int, ...]) -> Key | None:
    """The schema's key for a place in the data; a list's entry stands for itself as `[]`."""
    return all_keys().get(tuple(ENTRY if isinstance(step, int) else step for step in place))


def siblings(place: tuple[str | int, ...]) -> list[str]:
    """The names that may stand where `place` stands."""
    parent = tuple(ENTRY if isinstance(step, int) else step for step in place[:-1])
    return [key.place[-1] for key in all_keys().values() if key.place[:-1] == parent and key.place[-1] != ENTRY]


def suggestion(place: tuple[str | int, ...]) -> str:
    """What an unknown key was probably meant to be: a name beside it, or the same name in another group; or empty."""
    name = str(place[-1])
    plain = name.lower().replace("-", "_").replace(" ", "_")
    beside = difflib.get_close_matches(plain, siblings(place), n=1, cutoff=0.6)
    if beside:
        return beside[0]
    elsewhere = [key.name for key in all_keys().values() if key.place[-1] == plain and key.entry is None]
    return " or ".join(elsewhere[:3])


def _walk(model: type[BaseModel], place: tuple[str, ...]) -> Iterator[Key]:
    for name, field in model.model_fields.items():
        key = _key(field, (*place, name))
        yield key
        if key.section is not None:
            yield from _walk(key.section, key.place)
        if key.entry is not None:
            yield from _walk(key.entry, (*key.place, ENTRY))


def _key(field: FieldInfo, place: tuple[str, ...]) -> Key:
    annotation, metadata, optional = _bare(field.annotation, list(field.metadata))
    section = annotation if isinstance(annotation, type) and issubclass(annotation, Section) else None
    entry = None
    if get_origin(annotation) is tuple:
        inner = get_args(annotation)[0]
        entry = inner if isinstance(inner, type) and issubclass(inner, Section) else None
    return Key(
        place=place,
        form=in_words(annotation, metadata),
        default=None if field.is_required() else field.get_default(call_default_factory=True),
        required=field.is_required(),
        optional=optional,
        description=field.description or "",
        secret=annotation is SecretStr,
        section=section,
        entry=entry,
        unit=next((mark.unit for mark in metadata if isinstance(mark, Form)), ""),
    )


def _bare(annotation: Any, metadata: list[Any]) -> tuple[Any, list[Any], bool]:
    """The annotation without Annotated and `| None`, all metadata, and whether None is allowed."""
    optional = False
    while True:
        if get_origin(annotation) is Annotated:
            annotation, *marks = get_args(annotation)
            metadata = [*marks, *metadata]
        elif get_origin(annotation) in (Union, types.UnionType):
            (annotation,) = (choice for choice in get_args(annotation) if choice is not type(None))
            optional = True
        else:
            return annotation, _flat(metadata), optional


def _flat(metadata: list[Any]) -> list[Any]:
    """A `Field()` inside Annotated keeps its bounds in its own metadata."""
    return [mark for item in metadata for mark in (item.metadata if isinstance(item, FieldInfo) else [item])]


def in_words(annotation: Any, metadata: list[Any]) -> str:
    """What a value of this type is, as it follows "give": `a whole number from 1 to 65535`."""
    if get_origin(annotation) is tuple:
        inner, marks, _ = _bare(get_args(annotation)[0], [])
        least = ", at least one" if any(isinstance(mark, MinLen) for mark in metadata) else ""
        what = "groups of keys" if isinstance(inner, type) and issubclass(inner, Section) else in_words(inner, marks)
        return f"a list{least}: {what}" if " " in what and what != "groups of keys" else f"a list of {what}{least}"
    if get_origin(annotation) is Literal:
        return "one of " + ", ".join(str(choice) for choice in get_args(annotation))
    words = next((mark.words for mark in metadata if isinstance(mark, Form)), None)
    pattern = next((mark.pattern for mark in metadata if getattr(mark, "pattern", None)), None)
    if pattern and words is None:
        if pattern != _NAME:
            raise TypeError(f"the schema has a pattern that config.keys has no words for; give it a Form: {pattern}")
        return "1 to 32 lower-case letters, digits, _ or -, beginning with a letter or digit"
    words = words or _plain(annotation)
    return words + (_bounds(metadata) if annotation in (int, float) else "")


_NAME = r"^[a-z0-9][a-z0-9_-]{0,31}$"


def _plain(annotation: Any) -> str:
    if isinstance(annotation, type):
        for kind, words in _PLAIN:
            if issubclass(annotation, kind):
                return words
    raise TypeError(f"the schema has a type that config.keys has no words for: {annotation}")


_PLAIN: tuple[tuple[type, str], ...] = (
    (Section, "a group of keys, indented under it"),
    (bool, "true or false"),
    (int, "a whole number"),
    (float, "a number"),
    (Enum, "one of the names"),
    (Path, "a path"),
    (SecretStr, "text, from the environment when it holds a password"),
    (str, "text"),
)


def _bounds(metadata: list[Any]) -> str:
    least = next((mark for mark in metadata if isinstance(mark, Ge | Gt)), None)
    most = next((mark for mark in metadata if isinstance(mark, Le | Lt)), None)
    match least, most:
        case Ge(low), Le(int(high)) if high >= _NO_LIMIT:
            return f", {low} or more"
        case Ge(low), Le(high):
            return f" from {low} to {high}"
        case Gt(low), Le(high):
            return f" above {low}, at most {high}"
        case Ge(low), None:
            return f", {low} or more"
        case Gt(low), None:
            return f" above {low}"
        case _:
            return ""
