"""Reads the YAML file into plain data, remembers the line of each key, and says what YAML itself would not say.

PyYAML takes the last of two equal keys without a word, and follows aliases without end; both are faults here.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from config.faults import Fault, printable, shown

Place = tuple[str | int, ...]

_LARGEST = 1024 * 1024
_MOST_NODES = 20_000
_DEEPEST = 32
_DECIMAL = re.compile(r"[-+]?[0-9]+")
_MERGE = "tag:yaml.org,2002:merge"
# PyYAML quotes the file's own text in some of its messages, and that text may be a password: these words are ours.
_SYNTAX = {
    "found undefined alias": "text that begins with * is an alias in YAML, and none of this name is defined",
    "found duplicate anchor": "the same anchor is defined twice",
    "found character '\\t'": "a tab stands where only spaces may",
    "mapping values are not allowed": "a colon stands where no key may be: the indentation is uneven, or text with a "
    "colon is not quoted",
    "could not find expected ':'": "a key lacks its colon",
    "unexpected end of stream": "a quote or bracket is not closed",
    "expected <block end>": "the indentation does not fit the lines above",
    "found unknown escape character": "a backslash in double quotes is not an escape that YAML knows",
    "found character": "a character cannot start a value here",
    "expected ',' or": "a bracket is not closed or a comma is missing",
}


@dataclass
class Document:
    """The file's data; `lines` has the line (1-based) of every key and list entry, `raw` the text of each scalar."""

    name: str = ""
    data: dict[str, Any] = field(default_factory=dict)
    lines: dict[Place, int] = field(default_factory=dict)
    raw: dict[Place, str] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)


def read_document(path: Path) -> Document:
    """The YAML file at `path`; what is wrong with it is in `faults`, and no exception comes out."""
    document = Document(path.name)
    text = _text(path, document)
    if text is None:
        return document
    try:
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
    except yaml.YAMLError as error:
        document.faults.append(_syntax_fault(document, error))
        return document
    except RecursionError:
        document.faults.append(_whole(path, "is nested too deeply", "write it after the examples"))
        return document
    if root is None or (isinstance(root, yaml.ScalarNode) and root.tag == "tag:yaml.org,2002:null"):
        return document
    if not isinstance(root, yaml.MappingNode):
        document.faults.append(
            _whole(path, "does not hold keys and values", "begin with a key, such as `dicom:`; see the examples")
        )
        return document
    try:
        document.data = _Reader(document, loader).mapping(root, ())
    except _TooMuch as error:
        document.faults.append(_whole(path, str(error), "write the values out, without aliases in aliases"))
    return document


def written(place: Place) -> str:
    """A place as a person writes it: `dicom.sources[0].ae_title`."""
    text = ""
    for step in place:
        text += f"[{step}]" if isinstance(step, int) else f".{printable(step)}" if text else printable(step)
    return text


def _text(path: Path, document: Document) -> str | None:
    remedy = "name an existing file with --config or SCANWARDEN_CONFIG"
    try:
        if path.is_dir():
            document.faults.append(_whole(path, "is a folder", remedy))
            return None
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
    except FileNotFoundError:
        document.faults.append(_whole(path, "does not exist", remedy))
        return None
    except PermissionError:
        document.faults.append(
            _whole(path, "may not be read by this user", "give the service's user the right to read it")
        )
        return None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "its name is no file name"
        document.faults.append(_whole(path, f"cannot be read: {reason}", remedy))
        return None
    if len(content) > _LARGEST:
        document.faults.append(_whole(path, "is larger than 1 MiB", "name the configuration file, not another one"))
        return None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        document.faults.append(_whole(path, f"is not UTF-8 text (line {line})", "save it as UTF-8"))
        return None


def _whole(path: Path, problem: str, remedy: str) -> Fault:
    return Fault(printable(str(path)), "", f"the configuration file {problem}", remedy)


def _syntax_fault(document: Document, error: yaml.YAMLError) -> Fault:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    place = f"{document.name} line {mark.line + 1}, column {mark.column + 1}" if mark else document.name
    told = str(getattr(error, "problem", None) or getattr(error, "reason", None) or "")
    if "special characters" in told:
        words = "a control character stands in the file"
    elif "single document" in str(getattr(error, "context", "")):
        words = "a line with --- starts a second document"
    else:
        words = next((ours for theirs, ours in _SYNTAX.items() if theirs in told), "the text is not valid YAML")
    remedy = "mend the line; put text with special characters in quotes and indent with spaces"
    return Fault(document.name, "", words, remedy, place)


class _TooMuch(Exception):
    """More nodes than a configuration has: aliases of aliases, or one that holds itself."""


class _Reader:
    """Builds plain data from YAML nodes, one scalar at a time, so that a bad one is a fault with its line."""

    def __init__(self, document: Document, loader: yaml.SafeLoader) -> None:
        self.document = document
        self.loader = loader
        self.nodes = 0

    def mapping(self, node: yaml.MappingNode, place: Place) -> dict[str, Any]:
        self._duplicates(node, place)
        try:
            self.loader.flatten_mapping(node)
        except (yaml.YAMLError, RecursionError):
            self._fault(place, node, "<< merges something that is no group of keys", "write the keys out")
            return {}
        data: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = self._key(key_node, place)
            if key is not None:
                inner = (*place, key)
                self.document.lines[inner] = key_node.start_mark.line + 1
                data[key] = self.value(value_node, inner)
        return data

    def value(self, node: yaml.Node, place: Place) -> Any:
        self.nodes += 1
        if self.nodes > _MOST_NODES or len(place) > _DEEPEST:
            raise _TooMuch("holds far more than a configuration has")
        self.document.lines.setdefault(place, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, place)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(entry, (*place, index)) for index, entry in enumerate(node.value)]
        return self._scalar(node, place)

    def _scalar(self, node: yaml.Node, place: Place) -> Any:
        self.document.raw[place] = str(node.value)
        try:
            value = self.loader.construct_object(node, deep=True)
        except (yaml.YAMLError, ValueError, LookupError, TypeError, ArithmeticError, AttributeError):
            self._fault(place, node, "is no value that YAML can read", "put it in quotes, without a tag")
            return None
        if type(value) is int and _DECIMAL.fullmatch(str(node.value)):
            return int(str(node.value))  # YAML 1.1 takes 0104 for 68; nobody who writes a port does
        # Dates and binary data are YAML's idea of the text, never ours.
        return value if isinstance(value, bool | int | float | str | None) else str(node.value)

    def _key(self, node: yaml.Node, place: Place) -> str | None:
        if isinstance(node, yaml.ScalarNode):
            if str(node.value).strip():
                return str(node.value)
            self._fault(place, node, "a key without a name", "write the key's name, or delete the line", value="")
            return None
        self._fault(place, node, "a group or list stands where a key's name belongs", "write the key as plain text")
        return None

    def _duplicates(self, node: yaml.MappingNode, place: Place) -> None:
        first: dict[str, int] = {}
        for name, key_node in self._names(node):
            line = key_node.start_mark.line + 1
            if name in first:
                self._fault(
                    (*place, name),
                    key_node,
                    f"the key stands twice (first in line {first[name]})",
                    "keep one of them: only the last would count",
                    value="",
                )
            first.setdefault(name, line)

    def _names(self, node: yaml.MappingNode) -> Iterator[tuple[str, yaml.Node]]:
        for key_node, _ in node.value:
            if isinstance(key_node, yaml.ScalarNode) and key_node.tag != _MERGE:
                yield str(key_node.value), key_node

    def _fault(self, place: Place, node: yaml.Node, problem: str, remedy: str, value: str | None = None) -> None:
        key = written(place) or self.document.name
        if value is None:
            value = shown(node.value, key=key) if isinstance(node, yaml.ScalarNode) else ""
        where = f"{self.document.name} line {node.start_mark.line + 1}"
        self.document.faults.append(Fault(key, value, problem, remedy, where))
