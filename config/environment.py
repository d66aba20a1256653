"""The environment's layer: which `SCANWARDEN_…` variables set which key, and which set nothing because of their name.

The values come from pydantic-settings' own source, so that a check sees exactly what a start would.
"""

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic_settings import EnvSettingsSource

from config.faults import HIDDEN, Fault, printable
from config.keys import Key, all_keys, find_key, suggestion
from config.settings import ENVIRONMENT_PREFIX, Settings

# Read by the command line and by the tests: they name the file and the images, and are no settings.
OTHER_VARIABLES = frozenset({"SCANWARDEN_CONFIG", "SCANWARDEN_DATA"})


@dataclass
class Environment:
    """What the environment sets. `variables` has the name of the variable for each place that one sets."""

    data: dict[str, Any] = field(default_factory=dict)
    variables: dict[tuple[str, ...], str] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    warnings: list[Fault] = field(default_factory=list)


def read_environment(variables: Mapping[str, str]) -> Environment:
    """Sort the variables into settings, faults and warnings. Values of unknown ones are never shown."""
    environment = Environment()
    usable: dict[str, str | None] = {}
    for name, value in sorted(variables.items()):
        if not name.upper().startswith(ENVIRONMENT_PREFIX) or name.upper() in OTHER_VARIABLES:
            continue
        place = tuple(name[len(ENVIRONMENT_PREFIX) :].lower().split("__"))
        key = find_key(place)
        if key is None:
            _unknown(environment, name, place)
        elif problem := _json_problem(key, value):
            remedy = f"give {key.form}, as JSON; or set it in the file"
            environment.faults.append(Fault(key.name, HIDDEN, problem, remedy, printable(name)))
        else:
            usable[name.lower()] = value
            environment.variables[place] = name
    source = EnvSettingsSource(Settings)
    source.env_vars = usable
    environment.data = source()
    return environment


def _json_problem(key: Key, value: str) -> str:
    """A group or a list comes as JSON; empty when the value is fine so far."""
    expected: type | None = dict if key.section is not None else list if key.is_list else None
    if expected is None:
        return ""
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        return "the variable does not hold JSON"
    return "" if isinstance(found, expected) else "the variable holds JSON of another kind"


def _unknown(environment: Environment, name: str, place: tuple[str, ...]) -> None:
    """With two underscores it is meant for us; without, it may be an orchestrator's (`SCANWARDEN_SERVICE_HOST`)."""
    names = [key.variable.removeprefix(ENVIRONMENT_PREFIX) for key in all_keys().values() if key.variable]
    matches = difflib.get_close_matches(name.upper().removeprefix(ENVIRONMENT_PREFIX), names, n=1, cutoff=0.8)
    close = ENVIRONMENT_PREFIX + matches[0] if matches else ""
    elsewhere = find_key(tuple(suggestion(place).split("."))) if not close and len(place) > 1 else None
    meant = close or (elsewhere.variable if elsewhere else "")
    remedy = f"did you mean {meant}?" if meant else "unset it; `scanwarden config reference` lists the variables"
    fault = Fault(printable(name), HIDDEN, "no setting has this variable", remedy, "environment")
    (environment.faults if len(place) > 1 or close else environment.warnings).append(fault)
