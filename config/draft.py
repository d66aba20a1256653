"""Validates layers that may be faulty, and keeps what is sound, so that one bad key does not hide the other faults."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from config.document import Place
from config.settings import Settings, from_layers

_ROUNDS = 10


@dataclass
class Draft:
    """Settings of the sound part of the data.

    `removed` are the places that were left out (their defaults stand in `settings`); `original` maps the place of a
    list's entry in `settings` to its place in the data. `settings` is None when nothing could be made of the data.
    """

    settings: Settings | None = None
    errors: list[ErrorDetails] = field(default_factory=list)
    removed: set[Place] = field(default_factory=set)
    original: dict[Place, Place] = field(default_factory=dict)

    def stands(self, place: Place) -> bool:
        """Whether the value at this place of the data is what was written, and not a stand-in."""
        return not any(place[: len(gone)] == gone for gone in self.removed)


def draft_settings(data: Mapping[str, Any]) -> Draft:
    """Validate; leave out what is faulty; again, until the rest is sound. `errors` are those of the whole data."""
    draft = Draft()
    for attempt in range(_ROUNDS):
        draft.original = {}
        try:
            draft.settings = from_layers(_without(data, draft, (), ()))
        except ValidationError as error:
            errors = [found for found in error.errors(include_url=False) if not _follows_from_its_entries(found)]
        else:
            return draft
        places = [_in_data(draft, found["loc"]) for found in errors]
        if attempt == 0:
            draft.errors = errors
        culprits = {
            place[:-1] if found["type"] == "missing" else place for found, place in zip(errors, places, strict=True)
        }
        if culprits <= draft.removed or () in culprits:
            return draft
        draft.removed |= culprits
    return draft


def entries(draft: Draft, place: Place, items: tuple[Any, ...]) -> Iterator[tuple[Place, Any]]:
    """The entries of a list in the settings, each with its place in the data."""
    for index, item in enumerate(items):
        yield draft.original.get((*place, index), (*place, index)), item


def _without(data: Any, draft: Draft, old: Place, new: Place) -> Any:
    if isinstance(data, Mapping):
        return {
            key: _without(value, draft, (*old, key), (*new, key))
            for key, value in data.items()
            if (*old, key) not in draft.removed
        }
    if isinstance(data, list):
        kept: list[Any] = []
        for index, value in enumerate(data):
            if (*old, index) not in draft.removed:
                draft.original[(*new, len(kept))] = (*old, index)
                kept.append(_without(value, draft, (*old, index), (*new, len(kept))))
        return kept
    return data


def _follows_from_its_entries(error: ErrorDetails) -> bool:
    """pydantic counts a list's sound entries only: the list is then too short because of faults that have their own."""
    return error["type"] == "too_short" and bool(error["input"])


def _in_data(draft: Draft, place: Place) -> Place:
    """The place in the data of a place in the draft: the longest part of it that lies under a list's entry moves."""
    for length in range(len(place), 0, -1):
        if place[:length] in draft.original:
            return (*draft.original[place[:length]], *place[length:])
    return place
