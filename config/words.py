"""Turns pydantic's errors into words: what is wrong with the value, and what to write instead.

pydantic's own messages are not used: they speak of Python's types, and some quote the input.
"""

import difflib
from collections.abc import Callable

from pydantic_core import ErrorDetails

from config.document import Place, written
from config.faults import Fault, shown
from config.keys import Key, all_keys, find_key, siblings, suggestion

_PROBLEMS = {
    "int_type": "is not a whole number",
    "int_parsing": "is not a whole number",
    "int_parsing_size": "is far too large",
    "int_from_float": "has a fraction",
    "float_type": "is not a number",
    "float_parsing": "is not a number",
    "finite_number": "is not a finite number",
    "bool_type": "is neither true nor false",
    "bool_parsing": "is neither true nor false",
    "string_type": "is not text",
    "string_too_short": "is empty",
    "string_pattern_mismatch": "is not written as it has to be",
    "path_type": "is not a path",
    "tuple_type": "is not a list",
    "model_type": "is not a group of keys",
    "model_attributes_type": "is not a group of keys",
    "dict_type": "is not a group of keys",
    "literal_error": "is not one of the names that are known",
    "too_short": "is empty",
    "greater_than": "is too small",
    "greater_than_equal": "is too small",
    "less_than": "is too large",
    "less_than_equal": "is too large",
    "time_delta_type": "is not an age",
    "time_delta_parsing": "is not an age",
}


def fault_in_words(error: ErrorDetails, given: object, raw: str | None, where: Callable[[Place], str]) -> Fault:
    """The fault for one pydantic error about the value `given`.

    `raw` is the file's text of a scalar, before YAML read it; `where` says who set a place.
    """
    place: Place = error["loc"]
    key = find_key(place)
    name = written(place)
    if error["type"] == "extra_forbidden":
        return Fault(name, shown(given, key=name), "is no key that we know", _meant(place), where(place))
    if error["type"] == "missing":
        remedy = f"add `{place[-1]}:` with {key.form}" if key else f"add `{place[-1]}:`"
        return Fault(name, "", "is missing", remedy, where(place[:-1]))
    value = shown(given, key=name, secret=key is not None and key.secret)
    problem, remedy = _wrong_value(error, given, key, raw if " line " in where(place) else None)
    return Fault(name, value, problem, remedy, where(place))


def _wrong_value(error: ErrorDetails, given: object, key: Key | None, raw: str | None) -> tuple[str, str]:
    if error["type"] == "value_error":
        problem = str(error.get("ctx", {}).get("error", "")) or "does not fit"
    else:
        problem = _PROBLEMS.get(error["type"], "does not fit")
    form = key.form if key else _entry_form(error["loc"])
    if given is None:
        ending = ", or remove the key" if key and not key.required else ""
        return "holds nothing", f"give {form}{ending}"
    if error["type"] == "tuple_type" and isinstance(given, dict) and key and key.entry is not None:
        first = siblings((*key.place, "[]", ""))[0]
        return problem, f"begin each entry with a dash, `- {first}: …`, and write its other keys under that one"
    if form.startswith("a group of keys") and key:
        return problem, f"write its keys indented under it: {', '.join(siblings((*key.place, '')))}"
    if error["type"] == "string_type" and isinstance(given, bool | int | float) and raw is not None:
        secret = key is not None and key.secret
        kind = "true or false" if isinstance(given, bool) else "a number"
        return f"is read by YAML as {kind}", "put it in quotes" if secret else f'put it in quotes: "{raw}"'
    return problem, f"give {form}{_close(form, given)}"


def _close(form: str, given: object) -> str:
    if not form.startswith("one of "):
        return ""
    close = difflib.get_close_matches(str(given).lower(), form.removeprefix("one of ").split(", "), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _meant(place: Place) -> str:
    name = str(place[-1])
    close = suggestion(place)
    if close in siblings(place):
        return f"did you mean `{close}`?"
    if "pass" in name.lower() and place[0] == "database":
        return "keep the password out of the file: name a file with it in `database.password_file`"
    if close:
        return f"`{name}` belongs elsewhere: did you mean {close}?"
    return f"remove it; here may stand: {', '.join(siblings(place)) or 'nothing'}"


def _entry_form(place: Place) -> str:
    """What an entry of a list is: the schema has keys for lists only."""
    parent = find_key(place[:-1]) if place and isinstance(place[-1], int) else None
    if parent is None:
        return "a value that the reference names"
    if parent.entry is not None:
        names = [key.place[-1] for key in all_keys().values() if key.place[:-1] == (*parent.place, "[]")]
        return "a group of keys: " + ", ".join(names)
    return parent.form.split(": ", 1)[-1].removeprefix("a list of ").removesuffix(", at least one")
