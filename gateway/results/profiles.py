"""Dialects of destinations: which objects a PACS gets, how they are encoded and labelled, and from which verdict on."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
)

from config.profiles import OwnProfile
from gateway.results.evidence import EvidenceKind, UnknownProfile
from inference.findings import Verdict

# The offset of each kind's Series Number from the profile's first; further volumes of a kind count on from theirs.
_OFFSETS: Mapping[EvidenceKind, int] = MappingProxyType(
    {
        EvidenceKind.SR: 0,
        EvidenceKind.SEG: 1,
        EvidenceKind.TEXT: 400,
        EvidenceKind.PLANAR: 401,
        EvidenceKind.SC: 402,
        EvidenceKind.KOS: 403,
        EvidenceKind.GSPS: 500,
        EvidenceKind.LABELMAP: 800,
    }
)
_DESCRIPTIONS: Mapping[EvidenceKind, str] = MappingProxyType(
    {
        EvidenceKind.SEG: "regions",
        EvidenceKind.LABELMAP: "regions (label map)",
        EvidenceKind.SC: "key images",
        EvidenceKind.GSPS: "outlines",
        EvidenceKind.TEXT: "integrity summary",
        EvidenceKind.PLANAR: "outlines report",
        EvidenceKind.SR: "integrity report",
        EvidenceKind.KOS: "key image list",
    }
)
SYNTAXES: Mapping[str, UID] = MappingProxyType(
    {
        "explicit": ExplicitVRLittleEndian,
        "implicit": ImplicitVRLittleEndian,
        "deflated": DeflatedExplicitVRLittleEndian,
        "rle": RLELossless,
        "jpeg-ls": JPEGLSLossless,
    }
)
# How much a verdict asks to be looked at.
_URGENCY = (Verdict.VERIFIED, Verdict.CLEAR, Verdict.ABSTAIN, Verdict.REVIEW, Verdict.SUSPECT)


@dataclass(frozen=True)
class Profile:
    """What one kind of PACS gets.

    `series_number` is that of the SR; other kinds lie at fixed distances. `empty_frames` writes a SEG frame for every
    slice, also without finding: 4.6.0 of Weasis switches such SEGs off above 400 frames. `summary`: the secondary
    captures begin with a page of words. `only_from`: verdicts below it are kept and not delivered.
    """

    name: str
    objects: tuple[EvidenceKind, ...]
    series_number: int = 9900
    series_name: str = "Scanwarden"
    empty_frames: bool = False
    max_segments: int = 20
    max_pictures: int = 12
    summary: bool = False
    transfer_syntax: UID = ExplicitVRLittleEndian
    picture_syntax: UID = ExplicitVRLittleEndian
    only_from: Verdict | None = None
    transport: Literal["dimse", "stow"] = "dimse"

    def number_of(self, kind: EvidenceKind, index: int = 0) -> int:
        """Series Number of the series with this index among those of one kind."""
        return self.series_number + _OFFSETS[kind] + index

    def description_of(self, kind: EvidenceKind) -> str:
        """Series Description."""
        return f"{self.series_name} {_DESCRIPTIONS[kind]}"

    def wants(self, verdict: Verdict | str) -> bool:
        """Whether a study with this verdict is delivered at all."""
        return self.only_from is None or _URGENCY.index(Verdict(verdict)) >= _URGENCY.index(self.only_from)


_SEG, _SR, _SC, _KOS = EvidenceKind.SEG, EvidenceKind.SR, EvidenceKind.SC, EvidenceKind.KOS

ORTHANC = Profile("orthanc", (_SEG, _SR))
# OHIF shows the text of reports that are no measurement reports, and of those the outlines; SEGs above the images.
OHIF = Profile("ohif", (_SEG, _SC, EvidenceKind.TEXT, EvidenceKind.PLANAR))
# Slicer's measurement plugin takes segments from a report without planar annotations.
SLICER = Profile("slicer", (_SEG, _SR))
WEASIS = Profile("weasis", (_SEG, _SC, EvidenceKind.GSPS, _SR, _KOS))
LEGACY = Profile("legacy", (_SC,), summary=True)
AIR = Profile("air", (_SEG, _SR, _KOS))

PROFILES: Mapping[str, Profile] = MappingProxyType(
    {profile.name: profile for profile in (OHIF, SLICER, WEASIS, ORTHANC, LEGACY, AIR)}
)
"""The dialects that come along."""


def profiles_of(own: Iterable[OwnProfile] = ()) -> Mapping[str, Profile]:
    """Every dialect that a destination may name: those that come along, and those of the settings' `profiles`.

    Raises UnknownProfile when one extends a profile that does not come along.
    """
    return MappingProxyType({**PROFILES, **{each.name: _extended(each) for each in own}})


def profile_named(name: str, own: Iterable[OwnProfile] = ()) -> Profile:
    """The dialect with this name. Raises UnknownProfile when there is none."""
    known = profiles_of(own)
    try:
        return known[name]
    except KeyError:
        names = ", ".join(sorted(known))
        raise UnknownProfile(f"profile {name!r} is unknown; destinations may name one of: {names}") from None


def _extended(own: OwnProfile) -> Profile:
    said = {key: value for key, value in own if value is not None and key not in ("name", "extends")}
    if own.objects is not None:
        said["objects"] = tuple(EvidenceKind(name) for name in own.objects)
    for key in ("transfer_syntax", "picture_syntax"):
        if key in said:
            said[key] = SYNTAXES[said[key]]
    if own.only_from is not None:
        said["only_from"] = Verdict(own.only_from)
    return replace(profile_named(own.extends), name=own.name, **said)
