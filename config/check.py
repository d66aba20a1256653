"""Checks a configuration as a start would see it, and says everything that is wrong with it at once."""

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from config.consistency import check_consistency
from config.dialects import check_profiles
from config.document import Document, Place, read_document
from config.draft import draft_settings
from config.environment import Environment, read_environment
from config.faults import Fault, Report
from config.keys import find_key
from config.notes import Notes
from config.receivers import check_receivers
from config.rule_checks import check_rules
from config.security import check_security
from config.settings import overlaid
from config.surroundings import check_surroundings
from config.words import fault_in_words


def check(
    path: Path | None = None,
    *,
    known_profiles: Collection[str] | None = None,
    known_models: Collection[str] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Report:
    """Read the file at `path` (none: defaults) under the environment, and report every fault and warning.

    `known_profiles`, `known_models`: the names that exist; None leaves the names unchecked. `environment` is
    `os.environ` unless given. Raises nothing for anything that file or environment may hold.
    """
    document = Document() if path is None else read_document(path)
    variables = read_environment(os.environ if environment is None else environment)
    origin = _Origin(document, variables)
    data = overlaid(document.data, variables.data)
    draft = draft_settings(data)

    # A key at which YAML itself failed holds nothing now, and that is not another fault.
    told = {fault.key for fault in document.faults}
    in_words = (
        fault_in_words(error, _at(data, error["loc"]), document.raw.get(error["loc"]), origin.of)
        for error in draft.errors
    )
    faults = [*document.faults, *variables.faults, *(fault for fault in in_words if fault.key not in told)]
    warnings = list(variables.warnings)
    if draft.settings is not None:
        notes = Notes(draft, origin.of)
        check_consistency(notes, draft.settings, known_models)
        check_profiles(notes, draft.settings, known_profiles)
        check_rules(notes, draft.settings)
        check_security(notes, draft.settings)
        check_receivers(notes, draft.settings)
        check_surroundings(notes, draft.settings, origin.in_file())
        faults += notes.faults
        warnings += notes.warnings
    return Report(
        settings=None if faults else draft.settings,
        faults=tuple(_once(faults)),
        warnings=tuple(_once(warnings)),
        origins=origin.all(data),
    )


def _once(faults: list[Fault]) -> list[Fault]:
    return list(dict.fromkeys(faults))


class _Origin:
    """Which line of the file, or which variable, set a place."""

    def __init__(self, document: Document, environment: Environment) -> None:
        self.document = document
        self.environment = environment

    def of(self, place: Place) -> str:
        for length in range(len(place), 0, -1):
            part = place[:length]
            if _holds(self.environment.data, part):
                return self._variable(part)
            if part in self.document.lines:
                return f"{self.document.name} line {self.document.lines[part]}"
        return ""

    def _variable(self, place: Place) -> str:
        names = self.environment.variables
        for length in range(len(place), 0, -1):
            name = names.get(tuple(str(step) for step in place[:length]))
            if name:
                return name
        # A group that only some variables reach into: the first of them stands for it.
        return next((name for known, name in names.items() if known[: len(place)] == place), "environment")

    def in_file(self) -> frozenset[Place]:
        return frozenset(place for place in self.document.lines if not _holds(self.environment.data, place))

    def all(self, data: Mapping[str, Any]) -> dict[str, str]:
        """The origin of every key that something sets; lists count as a whole."""
        return {key.name: self.of(place) for place in _leaves(data, ()) if (key := find_key(place)) is not None}


_NOTHING = object()


def _at(data: object, place: Place) -> object:
    """The value at a place; `_NOTHING` where there is none."""
    for step in place:
        inside = data if isinstance(data, Mapping) else dict(enumerate(data)) if isinstance(data, list) else {}
        if step not in inside:
            return _NOTHING
        data = inside[step]
    return data


def _holds(data: object, place: Place) -> bool:
    return _at(data, place) is not _NOTHING


def _leaves(data: Mapping[str, Any], place: tuple[str, ...]) -> list[tuple[str, ...]]:
    found = []
    for key, value in data.items():
        found += _leaves(value, (*place, key)) if isinstance(value, Mapping) else [(*place, key)]
    return found
