"""Patient and study attributes as our objects carry them: copied where they are sound, corrected where they are not.

Strict when writing, lenient when reading: scanners send headers that break PS3.5 and PS3.6, and no such header may
cost the evidence. An observation names the attribute and what was done, never its value.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.tag import Tag
from pydicom.valuerep import DA, TM

from inference.findings import Observation, Severity

RULE = "source-header-corrected"

# PS3.3 C.7.1.1, C.7.2.1: these must be there, if need be empty (type 2).
_REQUIRED = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
)
_OPTIONAL = ("IssuerOfPatientID", "PatientAge", "StudyDescription")
_DEIDENTIFICATION = ("PatientIdentityRemoved", "DeidentificationMethod")
KEYWORDS = (*_REQUIRED, *_OPTIONAL, *_DEIDENTIFICATION)

_IDENTIFIERS = frozenset({"AccessionNumber", "StudyID"})
_SEXES = frozenset({"M", "F", "O"})
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_UNDECODED = re.compile("[\ud800-\udfff\ufffd]")


class _Wrong(Exception):
    """The value breaks the standard; holds what to write instead, and why in a few words."""

    def __init__(self, instead: str, why: str) -> None:
        super().__init__(why)
        self.instead = instead
        self.why = why


@dataclass(frozen=True)
class PatientStudy:
    """The patient and study modules of our objects, and what had to be corrected in them."""

    attributes: Dataset
    observations: tuple[Observation, ...]


def patient_study(source: Dataset, study_uid: str) -> PatientStudy:
    """Take patient and study from a source header; all text becomes Unicode (ISO_IR 192)."""
    attributes = Dataset()
    attributes.SpecificCharacterSet = "ISO_IR 192"
    attributes.StudyInstanceUID = study_uid
    observations = []
    for keyword in (*_REQUIRED, *_OPTIONAL):
        required = keyword in _REQUIRED
        try:
            value = _text(source, keyword)
        except _Wrong as wrong:
            value = wrong.instead
            observations.append(_correction(source, keyword, wrong.why, value))
        if value or required:
            setattr(attributes, keyword, value)
    observations.extend(_copy_deidentification(source, attributes))
    return PatientStudy(attributes, tuple(observations))


def _copy_deidentification(source: Dataset, attributes: Dataset) -> Iterator[Observation]:
    """Patient Identity Removed needs to say how (type 1C, PS3.3 C.7.1.1)."""
    if str(_value(source, "PatientIdentityRemoved") or "").strip() != "YES":
        return
    methods = [_shortened(method, 64) for method in _values(source, "DeidentificationMethod")]
    if any(methods):
        attributes.PatientIdentityRemoved = "YES"
        attributes.DeidentificationMethod = [method for method in methods if method]
    else:
        yield _correction(source, "PatientIdentityRemoved", "it does not say by which method", "")


def _correction(source: Dataset, keyword: str, why: str, instead: str) -> Observation:
    tag = Tag(tag_for_keyword(keyword) or 0)
    done = "a corrected value" if instead else "no value"
    uid = str(_value(source, "SOPInstanceUID") or "")
    return Observation(
        RULE,
        Severity.INFO,
        f"{keyword} {tag} of the source breaks the standard ({why}); our objects carry {done}",
        {"attribute": keyword},
        (uid,) if uid else (),
    )


def _text(source: Dataset, keyword: str) -> str:
    value = _value(source, keyword)
    if value is None:
        if keyword in source and not source.get_item(keyword).is_empty:
            raise _Wrong("", "its bytes make no value")
        return ""
    if isinstance(value, MultiValue | list | tuple):
        first = str(value[0]) if value else ""
        raise _Wrong(_forced(keyword, first), "it holds several values")
    return _checked(keyword, str(value))


def _checked(keyword: str, text: str) -> str:
    if not text.strip(" \x00"):
        return ""
    if _UNDECODED.search(text):
        raise _Wrong(_forced(keyword, _UNDECODED.sub("?", text)), "characters outside its character set")
    if _CONTROL.search(text.rstrip("\x00")):
        raise _Wrong(_forced(keyword, _CONTROL.sub(" ", text)), "control characters")
    if "\\" in text:
        raise _Wrong(_forced(keyword, text.replace("\\", " ")), "a backslash")
    text = text.rstrip("\x00").rstrip(" ")
    if keyword == "PatientSex":
        return _sex(text)
    if keyword in _IDENTIFIERS:
        return _identifier(text)
    return _CHECKS[dictionary_VR(keyword)](text)


def _forced(keyword: str, text: str) -> str:
    """A value that passes, whatever it takes: corrections of corrections."""
    for _ in range(3):
        try:
            return _checked(keyword, text)
        except _Wrong as wrong:
            text = wrong.instead
    return ""


def _sex(text: str) -> str:
    if text in _SEXES:
        return text
    letter = text.strip().upper()
    raise _Wrong(letter if letter in _SEXES else "", "none of M, F, O")


def _date(text: str) -> str:
    match = re.fullmatch(r"\s*(\d{4})[.\-/]?(\d{2})[.\-/]?(\d{2})\s*", text)
    return _rewritten(text, match, DA, "no date as YYYYMMDD")


def _time(text: str) -> str:
    match = re.fullmatch(r"\s*(\d{2})(?::?(\d{2})(?::?(\d{2})(\.\d{1,6})?)?)?\.?0*\s*", text)
    return _rewritten(text, match, TM, "no time as HHMMSS.FFFFFF")


def _rewritten(text: str, match: re.Match[str] | None, value: Callable[[str], object], fault: str) -> str:
    """The parts of a date or time without what stood between them, where that makes a `value`."""
    plain = "".join(part or "" for part in match.groups()) if match else ""
    try:
        value(plain)
    except ValueError:
        plain = ""
    if plain != text:
        raise _Wrong(plain, fault)
    return plain


def _age(text: str) -> str:
    if re.fullmatch(r"\d{3}[DWMY]", text):
        return text
    raise _Wrong("", "no age as nnnY")


def _identifier(text: str) -> str:
    """Half an accession number is a wrong one."""
    if len(text) > 16:
        raise _Wrong("", "longer than 16 characters")
    return text


def _long_string(text: str) -> str:
    """Of a patient ID, too, a part is better than nothing: a PACS needs one to file by."""
    if len(text) > 64:
        raise _Wrong(_shortened(text, 64), "longer than 64 characters")
    return text


def _person_name(text: str) -> str:
    """PS3.5 §6.2.1: up to three groups of five components, 64 characters a group."""
    groups = text.split("=")
    components = [group.split("^") for group in groups]
    if len(groups) <= 3 and all(len(parts) <= 5 for parts in components) and all(len(group) <= 64 for group in groups):
        return text
    joined = [
        "^".join([*parts[:4], " ".join(parts[4:])]) if len(parts) > 5 else "^".join(parts) for parts in components
    ]
    raise _Wrong("=".join(_shortened(group, 64) for group in joined[:3]), "no name of at most 3 × 64 characters")


_CHECKS: dict[str, Callable[[str], str]] = {
    "PN": _person_name,
    "LO": _long_string,
    "DA": _date,
    "TM": _time,
    "AS": _age,
}


def _shortened(text: str, limit: int) -> str:
    return _CONTROL.sub(" ", text)[:limit].rstrip(" ")


def _values(source: Dataset, keyword: str) -> list[str]:
    value = _value(source, keyword)
    if value is None:
        return []
    return [str(item) for item in value] if isinstance(value, MultiValue | list | tuple) else [str(value)]


def _value(source: Dataset, keyword: str) -> Any:
    """The value, or nothing where pydicom cannot make one of the bytes."""
    try:
        return source.get(keyword)
    except Exception:  # noqa: BLE001 - pydicom raises whatever the bytes make it raise
        return None
