"""Dialects of destinations: which objects a PACS gets, and how they are labelled."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from pydicom.uid import ExplicitVRLittleEndian

from gateway.results.evidence import EvidenceKind, UnknownProfile


@dataclass(frozen=True)
class Profile:
    """What one kind of PACS gets.

    `series_numbers` are the first of each kind; further SEGs of a study count on from there. `empty_frames` writes a
    SEG frame for every slice, also without finding: 4.6.0 of Weasis switches such SEGs off above 400 frames.
    """

    name: str
    objects: tuple[EvidenceKind, ...]
    series_numbers: Mapping[EvidenceKind, int]
    series_descriptions: Mapping[EvidenceKind, str]
    empty_frames: bool = False
    max_segments: int = 20
    transfer_syntax: str = ExplicitVRLittleEndian


ORTHANC = Profile(
    name="orthanc",
    objects=(EvidenceKind.SEG, EvidenceKind.SR),
    series_numbers=MappingProxyType({EvidenceKind.SR: 9900, EvidenceKind.SEG: 9901}),
    series_descriptions=MappingProxyType(
        {EvidenceKind.SEG: "Scanwarden regions", EvidenceKind.SR: "Scanwarden integrity report"}
    ),
)

PROFILES: Mapping[str, Profile] = MappingProxyType({profile.name: profile for profile in (ORTHANC,)})
"""Every dialect that a destination may name."""


def profile_named(name: str) -> Profile:
    """The dialect with this name. Raises UnknownProfile when there is none."""
    try:
        return PROFILES[name]
    except KeyError:
        known = ", ".join(sorted(PROFILES))
        raise UnknownProfile(f"profile {name!r} is unknown; destinations may name one of: {known}") from None
