"""What is wrong with a configuration, in words that a tired person can act on; secrets never stand in them."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from config.settings import Settings

HIDDEN = "(not shown)"
_LONGEST = 60
_SECRET_NAME = re.compile(r"pass|secret|token|credential|pwd", re.IGNORECASE)
_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?:(?P<login>.*)@)?(?P<rest>[^@]*)", re.DOTALL)
_URL_PARAMETER = re.compile(r"([?&][^=&]*(?:pass|secret|token)[^=&]*=)[^&]*", re.IGNORECASE)
_URL_REST = re.compile(r"(\[[0-9A-Fa-f:.]*\]|[^:/?#]*)(:\d+)?([/?].*)?", re.DOTALL)


@dataclass(frozen=True)
class Fault:
    """One thing to mend (or, as a warning, to look at): which key, what it says, what is wrong, what to do.

    `key` is written as in the file: `dicom.sources[0].ae_title`. `where` is the file and line, or the environment
    variable, that set it; empty where nothing did.
    """

    key: str
    value: str
    problem: str
    remedy: str
    where: str = ""

    def __str__(self) -> str:
        place = f" ({self.where})" if self.where else ""
        value = f" = {self.value}" if self.value else ""
        return f"{self.key}{value}{place}: {self.problem}; {self.remedy}"

    def as_dict(self) -> dict[str, str]:
        return {
            "key": self.key,
            "value": self.value,
            "problem": self.problem,
            "remedy": self.remedy,
            "where": self.where,
        }


class ConfigurationRefused(Exception):
    """The configuration cannot be used; `faults` says every reason at once."""

    exit_code = 1

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("the configuration cannot be used:\n" + "\n".join(f"  {fault}" for fault in self.faults))


@dataclass(frozen=True)
class Report:
    """What a check found. `settings` is None exactly when there are faults; warnings do not stop a start."""

    settings: "Settings | None"
    faults: tuple[Fault, ...] = ()
    warnings: tuple[Fault, ...] = ()
    origins: Mapping[str, str] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        return 1 if self.faults else 0

    def require(self) -> "Settings":
        """The settings; raises ConfigurationRefused when there are faults."""
        if self.settings is None:
            raise ConfigurationRefused(self.faults)
        return self.settings

    def as_dict(self) -> dict[str, object]:
        return {
            "ok": not self.faults,
            "faults": [fault.as_dict() for fault in self.faults],
            "warnings": [warning.as_dict() for warning in self.warnings],
        }


def shown(value: object, *, key: str = "", secret: bool = False) -> str:
    """A value as a fault may show it: short, on one line, without terminal control characters, without secrets."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true" if value else "false"
        case Mapping():
            return f"a group of {_count(value, 'key')}"
        case list() | tuple() | set() | frozenset():
            return f"a list of {_count(value, 'entry', 'entries')}"
    text = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
    if "-----BEGIN" in text:  # a key pasted where its path belongs
        return HIDDEN
    if _SECRET_NAME.search(key.rsplit(".", 1)[-1]):
        return HIDDEN
    if secret or "@" in text:
        text = shown_url(text)
        if text == HIDDEN:
            return HIDDEN
    text = printable(text)
    if len(text) > _LONGEST:
        text = text[: _LONGEST - 1] + "…"
    return f'"{text}"' if isinstance(value, str) else text


def shown_url(text: str) -> str:
    """A URL without its password; `HIDDEN` when it cannot be told where the password stands."""
    parts = _URL.fullmatch(text)
    if parts is None or not _URL_REST.fullmatch(parts["rest"]):
        return HIDDEN
    login = parts["login"]
    user = "" if login is None else login.split(":", 1)[0] + (":***@" if ":" in login else "@")
    rest = _URL_PARAMETER.sub(r"\1***", parts["rest"])
    return f"{parts['scheme']}://{user}{rest}"


def url_has_password(text: str) -> bool:
    parts = _URL.fullmatch(text)
    if parts is None:
        return False
    return (parts["login"] is not None and ":" in parts["login"]) or bool(_URL_PARAMETER.search(parts["rest"]))


def printable(text: str) -> str:
    """The text with control characters and lone surrogates escaped: it goes to a terminal."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )


def _count(items: Collection[object], one: str, many: str = "") -> str:
    return f"{len(items)} {one if len(items) == 1 else many or one + 's'}"
