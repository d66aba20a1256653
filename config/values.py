"""The kinds of value that a setting can have: what is accepted, and the words that ask for it.

`Form` travels in the type's metadata, so that a fault's remedy and the reference say the same as the validator.
"""

import re
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

HOST_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?\.?")


@dataclass(frozen=True)
class Form:
    """How a kind of value is asked for; `unit` is empty where the number counts things."""

    words: str
    unit: str = ""


def _ae_title(value: str) -> str:
    """PS3.5 §6.2, VR AE: at most 16 characters of the default repertoire, no backslash, no control characters."""
    text = value.strip(" ")
    if not 1 <= len(text) <= 16 or not text.isascii() or not text.isprintable() or "\\" in text:
        raise ValueError("is no AE title (PS3.5 §6.2)")
    return text


def _network(value: str) -> str:
    try:
        ip_network(value, strict=False)
    except ValueError:
        raise ValueError("is neither an address nor a network") from None
    return value


def _host(value: str) -> str:
    try:
        ip_address(value)
    except ValueError:
        if not HOST_NAME.fullmatch(value):
            raise ValueError("is neither a host name nor an address") from None
    return value


def _age(value: object) -> object:
    """A bare number would be read as seconds: `90` for ninety days must not delete what is 90 seconds old."""
    if isinstance(value, int | float):
        raise ValueError("is a number without its unit")  # noqa: TRY004 - pydantic turns a ValueError into a fault
    return value


AeTitle = Annotated[
    str, AfterValidator(_ae_title), Form("an AE title: 1 to 16 printable ASCII characters without a backslash")
]
Address = Annotated[
    str, AfterValidator(_network), Form("an address or network, such as 10.1.2.3, 10.1.0.0/16 or fd00::/8")
]
Host = Annotated[
    str,
    AfterValidator(_host),
    Form("a host name or an address, without port and brackets, such as pacs.example or ::1"),
]
WebRoot = Annotated[
    str,
    Field(pattern=r"^https?://[^\s/?#@]+(/[^\s?#]*)?$"),
    Form("the root of a web service, without user, query and fragment, such as https://pacs.example/dicom-web"),
]
WebAddress = Annotated[
    str,
    Field(pattern=r"^https?://[^\s/?#@]+(/[^\s]*)?$"),
    Form("a web address without user and fragment, such as https://soc.example/scanwarden"),
]
MailAddress = Annotated[str, Field(pattern=r"^[^\s@<>]+@[^\s@<>]+$"), Form("a mail address, such as pacs@h.example")]
FilePath = Annotated[Path, Form("the path of a file")]
FolderPath = Annotated[Path, Form("the path of a folder")]
Port = Annotated[int, Field(ge=1, le=65535)]
Share = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(le=1_000_000)]
Bytes = Annotated[int, Field(le=2**60), Form("a whole number of bytes", "bytes")]
Seconds = Annotated[float, Field(ge=0, le=31_622_400), Form("a number of seconds", "s")]
PositiveSeconds = Annotated[float, Field(gt=0, le=31_622_400), Form("a number of seconds", "s")]
Age = Annotated[
    timedelta, Field(gt=timedelta(0)), BeforeValidator(_age), Form("an age with its unit, such as 90d, P90D or PT36H")
]
