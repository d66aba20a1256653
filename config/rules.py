"""Routing rules: which series are analysed, how soon, by which models, and where their evidence goes.

The first rule that matches a series decides about it; a series that none matches is analysed as the other settings say.
Matching stands here, without files or network, so that the service, `scanwarden rules test` and the check agree.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from itertools import islice, product
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from config.section import Section
from config.values import AeTitle, Form

_UID = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))+")  # PS3.5 §9.1
_MOST_CASES = 4096  # combinations of a rule's values that the search for rules that never match looks at


def _code(value: str) -> str:
    text = value.strip(" ").upper()
    if not 1 <= len(text) <= 16 or not all(c.isascii() and (c.isalnum() or c in " _") for c in text):
        raise ValueError("is no code string (PS3.5 §6.2)")
    return text


def _sop_class(value: str) -> str:
    text = value.strip()
    if _uid_of(text) is None:
        raise ValueError("is neither a UID nor the keyword of a SOP class")
    return text


Code = Annotated[
    str, AfterValidator(_code), Form("a code as in the header, such as MR or BRAIN: at most 16 letters, digits, _")
]
SopClass = Annotated[
    str, AfterValidator(_sop_class), Form("a SOP class by keyword or UID, such as CTImageStorage or 1.2.840.10008.…")
]
Pattern = Annotated[
    str,
    Field(min_length=1, max_length=64),
    Form("text of at most 64 characters in which * stands for any characters and ? for one; case does not count"),
]


class Conditions(Section):
    """What a series must be: one of the values of each list that is given. A header without a value matches none."""

    modality: tuple[Code, ...] = Field((), description="Modality (0008,0060).")
    body_part: tuple[Code, ...] = Field((), description="Body Part Examined (0018,0015).")
    source: tuple[AeTitle, ...] = Field((), description="AE title that an instance of it came from.")
    study_description: tuple[Pattern, ...] = Field((), description="Study Description (0008,1030).")
    series_description: tuple[Pattern, ...] = Field((), description="Series Description (0008,103E).")
    sop_class: tuple[SopClass, ...] = Field((), description="SOP class of one of its instances.")


class Rule(Section):
    """One rule. What it leaves out stays as the other settings say."""

    name: str = Field(
        pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$", description="Our name for it, in logs, reports and the ledger."
    )
    when: Conditions = Field(
        default_factory=lambda: Conditions(),
        description="What a series must be; without a condition the rule takes every series.",
    )
    analyse: bool = Field(
        True,
        description="Whether such series are looked at. One that is not is received, indexed and digested all the "
        "same; the report names it, and a study of such series alone gets none.",
    )
    priority: Literal["stat", "routine"] | None = Field(
        None, description="Priority of the study; stat of one series counts for all. Unset: as it was received."
    )
    models: tuple[str, ...] | None = Field(
        None, min_length=1, description="Model set, out of `analysis.models`. Unset: all of them."
    )
    destinations: tuple[str, ...] | None = Field(
        None, description="Destinations of the study's evidence, by name; an empty list: none. Unset: all of them."
    )
    priors: int = Field(
        0,
        ge=0,
        le=10,
        description="Earlier studies of the patient that are fetched from `priors.archive` when a revision of such a "
        "study is closed; the most of one series counts. The analysis does not wait for them.",
    )


@dataclass(frozen=True)
class Traits:
    """What rules know of a series; empty text and empty sets where its headers say nothing."""

    series_uid: str
    modality: str = ""
    body_part: str = ""
    sources: frozenset[str] = frozenset()
    study_description: str = ""
    series_description: str = ""
    sop_classes: frozenset[str] = frozenset()
    """UIDs."""


def first_match(rules: Sequence[Rule], traits: Traits) -> Rule | None:
    """The rule that decides about a series; None when no rule does."""
    return next((rule for rule in rules if mismatch(rule, traits) is None), None)


def mismatch(rule: Rule, traits: Traits) -> str | None:
    """Why a rule does not match, as `condition: what the series has`; None when it does."""
    when = rule.when
    for name, wanted, found in (
        ("modality", when.modality, {traits.modality.strip().upper()}),
        ("body_part", when.body_part, {traits.body_part.strip().upper()}),
        ("source", when.source, set(traits.sources)),
        ("sop_class", {_uid_of(each) for each in when.sop_class}, set(traits.sop_classes)),
    ):
        if wanted and not set(wanted) & found:
            return f"{name}: {', '.join(sorted(found - {''})) or 'not in the header'}"
    for name, patterns, text in (
        ("study_description", when.study_description, traits.study_description),
        ("series_description", when.series_description, traits.series_description),
    ):
        if patterns and not (text and any(_fits(text, pattern) for pattern in patterns)):
            return f"{name}: {'none of the patterns fits' if text else 'not in the header'}"
    return None


def never_matches(rules: Sequence[Rule], index: int, sources: Sequence[str]) -> str | None:
    """Why the rule at `index` can never decide about anything; None when it can, or when nobody can tell.

    `sources`: AE titles that may send; none are known when it is empty.
    """
    rule = rules[index]
    if sources and rule.when.source and not set(rule.when.source) & set(sources):
        return "no source in `dicom.sources` has one of its AE titles"
    fixed = [_MODALITIES.get(_uid_of(each) or "") for each in rule.when.sop_class]
    if fixed and rule.when.modality and None not in fixed and not set(fixed) & set(rule.when.modality):
        return "instances of its SOP classes have other modalities"
    cases = list(islice(_cases(rule.when), _MOST_CASES + 1))
    if len(cases) > _MOST_CASES:
        return None
    earlier = rules[:index]
    takers = [next((other.name for other in earlier if _takes(other.when, case)), None) for case in cases]
    names = list(dict.fromkeys(name for name in takers if name is not None))
    return f"what it matches is taken before by {', '.join(names)}" if None not in takers else None


def _cases(when: Conditions) -> Iterator[Mapping[str, str]]:
    """Every combination of one value for each condition that is given."""
    given = {name: getattr(when, name) for name in Conditions.model_fields if getattr(when, name)}
    for values in product(*given.values()):
        yield dict(zip(given, values, strict=True))


def _takes(when: Conditions, case: Mapping[str, str]) -> bool:
    """Whether everything that is like `case` matches `when`."""
    for name in Conditions.model_fields:
        wanted = getattr(when, name)
        if wanted and not (name in case and any(_covers(name, each, case[name]) for each in wanted)):
            return False
    return True


def _covers(condition: str, wider: str, value: str) -> bool:
    if condition == "sop_class":
        return _uid_of(wider) == _uid_of(value)
    if not condition.endswith("_description"):
        return wider == value
    if wider.casefold() == value.casefold():
        return True
    # A `?` of the wider pattern could take the `*` of the other for one letter.
    return not ("*" in value and "?" in wider) and _fits(value, wider)


def _fits(text: str, pattern: str) -> bool:
    # fnmatch gives brackets a meaning that we do not promise.
    return fnmatchcase(text.strip().casefold(), pattern.casefold().replace("[", "[[]"))


@cache
def _uid_of(sop_class: str) -> str | None:
    """The UID of a SOP class given by UID or keyword; None when it is neither."""
    from pydicom._uid_dict import UID_dictionary

    if sop_class[:1].isdigit():
        return sop_class if _UID.fullmatch(sop_class) and len(sop_class) <= 64 else None
    return next((uid for uid, entry in UID_dictionary.items() if entry[4] == sop_class), None)


# The information object definitions fix Modality (PS3.3 A.3, A.4, A.38, A.36 and others).
_MODALITIES = {
    "1.2.840.10008.5.1.4.1.1.1": "CR",
    "1.2.840.10008.5.1.4.1.1.2": "CT",
    "1.2.840.10008.5.1.4.1.1.2.1": "CT",
    "1.2.840.10008.5.1.4.1.1.2.2": "CT",
    "1.2.840.10008.5.1.4.1.1.4": "MR",
    "1.2.840.10008.5.1.4.1.1.4.1": "MR",
    "1.2.840.10008.5.1.4.1.1.4.3": "MR",
    "1.2.840.10008.5.1.4.1.1.4.4": "MR",
    "1.2.840.10008.5.1.4.1.1.1.1": "DX",
    "1.2.840.10008.5.1.4.1.1.1.2": "MG",
    "1.2.840.10008.5.1.4.1.1.6.1": "US",
    "1.2.840.10008.5.1.4.1.1.12.1": "XA",
    "1.2.840.10008.5.1.4.1.1.128": "PT",
    "1.2.840.10008.5.1.4.1.1.20": "NM",
}
