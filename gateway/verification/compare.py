"""One instance, one study, against what was first seen.

Equal bytes end the matter without decoding. Where they differ, decoded pixels, geometry and the groups of attributes
decide between a re-encoding without loss and an alteration; our own copy, when it is still there and has the digest
that it was stored with, shows where.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

import pydicom
from pydicom import Dataset, dcmread
from pydicom.filereader import read_file_meta_info

from gateway.dicom.part10 import file_meta
from gateway.verification.region import Region, difference, picture
from storage import InstanceState, InstanceStore, PixelsUnreadable
from storage.attributes import CONTENT, attribute_digests
from storage.digests import file_digest, pixel_digest
from storage.firstseen import FirstSeenStudy, Seen, Standing

# What shows no patient and is added to studies every day: presentation states, reports, segmentations, plans, …
_DOCUMENTS = tuple(
    f"1.2.840.10008.5.1.4.1.1.{each}."
    for each in ("11", "88", "104", "66", "481.3", "481.5")  # PS3.6 A
)
_SEGMENTATIONS = "1.2.840.10008.5.1.4.1.1.66."
_ENCODING = frozenset({0x00080001, 0x00080005, 0x7FE00010, 0x7FE00008, 0x7FE00009, 0x7FE00001, 0x7FE00002, 0xFFFCFFFC})
_LOSSY = ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.81", "1.2.840.10008.1.2.4.91")
PIXELS = "pixels"


class State(StrEnum):
    """What an instance is found to be."""

    AS_FIRST_SEEN = "as-first-seen"  # the same bytes
    REENCODED = "re-encoded"  # other bytes, the same decoded pixels, geometry and attributes
    ALTERED = "altered"
    MISSING = "missing"
    EXTRA = "extra"  # in a study that we know, and never received by us
    UNKNOWN = "unknown"  # of a study that we never received, or no readable instance at all
    NOT_SENT = "not-sent"  # the archive lists it and does not give it
    UNDECIDED = "undecided"  # other bytes; only decoding tells


@dataclass(frozen=True, slots=True)
class Comparison:
    """What was found about one instance."""

    sop_instance_uid: str
    series_uid: str
    state: State
    changed: tuple[str, ...] = ()
    """`pixels`, and the groups of attributes (storage.attributes) that differ."""
    region: Region | None = None
    note: str = ""
    elements: tuple[str, ...] = ()
    """Keywords of elements outside the digests that differ from our copy; their values are told to nobody."""
    document: bool = False
    """A report or the like, without pixels of the patient."""
    file: Path | None = None

    @property
    def incident(self) -> bool:
        """Altered, missing, or an image that we never received."""
        if self.state is State.EXTRA:
            return not self.document
        return self.state in (State.ALTERED, State.MISSING)

    def to_json(self) -> dict[str, Any]:
        """The same facts for a script."""
        facts: dict[str, Any] = {
            "sop_instance_uid": self.sop_instance_uid,
            "series_uid": self.series_uid,
            "state": self.state.value,
            "incident": self.incident,
            "changed": list(self.changed),
            "region": None,
            "note": self.note,
            "elements": list(self.elements),
            "file": str(self.file) if self.file else None,
        }
        if self.region is not None:
            facts["region"] = {
                "box": list(self.region.box),
                "frames": list(self.region.frames),
                "pixels": self.region.pixels,
                "largest_difference": self.region.largest,
            }
        return facts


@dataclass(frozen=True, slots=True)
class StudyComparison:
    """What was found about a study; `instances` in the order of series and UID."""

    study_uid: str
    standing: Standing | None
    """Whether the ledger confirms the digests that were compared with; None: a study that we do not know."""
    contradictions: tuple[str, ...]
    instances: tuple[Comparison, ...]

    @property
    def differs(self) -> bool:
        """Whether this is an incident."""
        return self.standing is Standing.CONTRADICTED or any(each.incident for each in self.instances)

    @property
    def undecided(self) -> bool:
        return any(each.state is State.UNDECIDED for each in self.instances)

    @property
    def incomplete(self) -> bool:
        """Whether the archive kept something back, so that nothing good can be said."""
        return any(each.state is State.NOT_SENT for each in self.instances)

    @property
    def counts(self) -> dict[str, int]:
        """Instances by state."""
        return {state.value: count for state in State if (count := sum(each.state is state for each in self.instances))}

    @property
    def named(self) -> dict[str, list[str]]:
        """UIDs in each state that somebody has to look at."""
        wanted = (State.ALTERED, State.MISSING, State.EXTRA, State.UNKNOWN, State.NOT_SENT)
        return {
            state.value: [each.sop_instance_uid for each in self.instances if each.state is state] for state in wanted
        }

    @property
    def notes(self) -> list[str]:
        """What differs, in words for the ledger."""
        found = list(self.contradictions)
        for each in self.instances:
            if each.state is State.ALTERED:
                where = f" in {list(each.region.box)}" if each.region else ""
                found.append(f"{each.sop_instance_uid}: {', '.join(each.changed) or each.note}{where}")
        return found

    def to_json(self) -> dict[str, Any]:
        """The same facts for a script."""
        return {
            "study_uid": self.study_uid,
            "differs": self.differs,
            "ledger": self.standing.value if self.standing else None,
            "contradictions": list(self.contradictions),
            "counts": self.counts,
            "instances": [each.to_json() for each in self.instances],
        }


@dataclass(frozen=True, slots=True)
class Found:
    """What there is of a study now."""

    files: Mapping[str, Sequence[Path]]
    """By SOP Instance UID; several when a folder holds copies."""
    listed: Mapping[str, str] = field(default_factory=dict)
    """SOP class of what an archive lists, by UID."""


@dataclass(frozen=True, slots=True)
class Known:
    """What there should be."""

    first_seen: FirstSeenStudy
    evidence: Mapping[str, Seen] = field(default_factory=dict)
    """Our own evidence objects, as they were made."""
    delivered: frozenset[str] = frozenset()
    """UIDs of those that have to be there."""


class Elsewhere(Protocol):
    """Who decodes in place of this process (gateway.decoding)."""

    def compare(self, seen: Seen, file: Path, root: Path) -> Comparison:
        """`compare_instance` with the store at `root`. Never raises for a fault of the input."""

    def picture(self, file: Path) -> str | None: ...


def compare_study(
    known: Known, found: Found, store: InstanceStore, *, decode: bool = True, elsewhere: Elsewhere | None = None
) -> StudyComparison:
    """Every instance that is there or should be. Without `decode`, other bytes stay undecided.

    A service gives `elsewhere`, so that a decoder that crashes is not in its own process.
    """
    expected = {**known.evidence, **known.first_seen.instances}
    required = {*known.first_seen.instances, *known.delivered}
    comparisons = []
    for uid, files in found.files.items():
        seen = expected.get(uid)
        for file in files:
            if seen is None:
                comparisons.append(_extra(uid, file, found.listed.get(uid)))
            else:
                comparison = compare_instance(seen, file, store, decode=decode and elsewhere is None)
                if decode and elsewhere is not None and comparison.state is State.UNDECIDED:
                    comparison = elsewhere.compare(seen, file, store.root)
                comparisons.append(comparison)
    for uid in {*found.listed, *required} - set(found.files):
        seen = expected.get(uid)
        series = seen.series_uid if seen is not None else ""
        if uid in found.listed:
            note = "the archive lists it and did not send it"
            document = found.listed[uid].startswith(_DOCUMENTS)
            comparisons.append(Comparison(uid, series, State.NOT_SENT, note=note, document=document))
        else:
            comparisons.append(Comparison(uid, series, State.MISSING))
    if decode:
        comparisons = _name_swaps(comparisons, expected, store, elsewhere.picture if elsewhere else _picture)
    ordered = sorted(comparisons, key=lambda each: (each.series_uid, each.sop_instance_uid, str(each.file)))
    first = known.first_seen
    return StudyComparison(first.study_uid, first.standing, first.contradictions, tuple(ordered))


def compare_instance(seen: Seen, file: Path, store: InstanceStore, *, decode: bool = True) -> Comparison:
    """One file against what its instance was."""
    uid, series = seen.sop_instance_uid, seen.series_uid
    digest = file_digest(file)
    if digest != seen.file_sha256:
        digest = received_digest(file) or digest
    if digest == seen.file_sha256:
        return Comparison(uid, series, State.AS_FIRST_SEEN, file=file)
    if not decode:
        return Comparison(uid, series, State.UNDECIDED, file=file)
    note = ""
    if seen.others.get(digest) is InstanceState.QUARANTINED:
        note = "these are the bytes that we hold in quarantine"
    try:
        other = dcmread(file, force=True)
        attributes = attribute_digests(other)
        pixels = pixel_digest(other) if seen.pixel_sha256 is not None else _pixels_or_none(other)
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - whatever it is: it cannot be shown to be what it was
        return Comparison(uid, series, State.ALTERED, (), None, note or "it cannot be read or decoded", file=file)
    return replace(_decide(seen, other, attributes, pixels, store, note), file=file)


def received_digest(file: Path) -> str | None:
    """The digest that our receiver would have given this file's data set: without the header that a writer chose."""
    try:
        meta = read_file_meta_info(file)
        begin = 132 + 12 + int(meta.FileMetaInformationGroupLength)
        header = file_meta(
            str(meta.MediaStorageSOPClassUID), str(meta.MediaStorageSOPInstanceUID), str(meta.TransferSyntaxUID)
        )
    except Exception:  # noqa: BLE001 - no Part 10 file, or a damaged one: the comparison of its content says more
        return None
    digest = sha256(header)
    with file.open("rb") as stream:
        stream.seek(begin)
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def own_copy(seen: Seen, store: InstanceStore) -> Dataset | None:
    """Our copy, if it is there and has the digest that it was stored with."""
    try:
        path = _own_file(seen, store)
        return dcmread(path, force=True) if path is not None else None
    except (OSError, pydicom.errors.InvalidDicomError, ValueError):
        return None


def _own_file(seen: Seen, store: InstanceStore) -> Path | None:
    if seen.path is None:
        return None
    path = store.locate(seen.path)
    return path if seen.file_sha256 in (file_digest(path), received_digest(path)) else None


def is_document(sop_class_uid: str) -> bool:
    """Whether a SOP class is a report, a presentation state or an encapsulated document."""
    return sop_class_uid.startswith(_DOCUMENTS)


def _decide(
    seen: Seen, other: Dataset, attributes: Mapping[str, str], pixels: str | None, store: InstanceStore, note: str
) -> Comparison:
    own = own_copy(seen, store)
    expected, first_pixels = dict(seen.attributes), seen.pixel_sha256
    notes = [note] if note else []
    if own is not None:
        expected = expected or attribute_digests(own)
        first_pixels = first_pixels or _pixels_or_none(own)
    if not expected:
        notes.append("no digest of its attributes was recorded, and our copy is gone")
    groups = {**expected, **attributes} if expected else {}
    changed = [group for group in groups if expected.get(group) != attributes.get(group)]
    region: Region | None = None
    elements: tuple[str, ...] = ()
    if first_pixels != pixels:
        shown, region, more = _pixels(own, other, changed)
        changed = ([PIXELS] if shown else []) + changed
        notes += more
        if not changed:  # the pixel digest covers placement that the groups have in common with it
            changed = ["geometry"]
    elif first_pixels is None and CONTENT not in expected and not (own is not None and _same_raw_pixels(own, other)):
        changed = changed or [PIXELS]
        notes.append("its pixels could not be decoded when it was first seen, and its bytes are others now")
    if not changed and own is not None:
        elements = _other_elements(own, other)
    syntax = str(getattr(getattr(other, "file_meta", None), "TransferSyntaxUID", ""))
    if PIXELS in changed and syntax in _LOSSY and syntax != seen.transfer_syntax:
        notes.append("it is compressed with loss now")
    state = State.ALTERED if changed else State.REENCODED
    return Comparison(seen.sop_instance_uid, seen.series_uid, state, tuple(changed), region, "; ".join(notes), elements)


def _pixels(own: Dataset | None, other: Dataset, changed: Sequence[str]) -> tuple[bool, Region | None, list[str]]:
    """Whether the pixels themselves differ, where, and what to say about it."""
    if own is None:
        sure = not {"geometry", "image"} & set(changed)
        more = ["our copy is gone, so the region is not known"]
        return True, None, more if sure else [*more, "it may be the geometry alone"]
    try:
        found = difference(own, other)
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - our own copy may be what cannot be decoded
        return True, None, ["one of the copies cannot be decoded, so the region is not known"]
    return not found.same, found.region, [found.note] if found.note else []


def _pixels_or_none(dataset: Dataset) -> str | None:
    try:
        return pixel_digest(dataset)
    except PixelsUnreadable:
        return None


def _same_raw_pixels(own: Dataset, other: Dataset) -> bool:
    syntaxes = {str(each.file_meta.get("TransferSyntaxUID")) for each in (own, other)}
    return len(syntaxes) == 1 and own.get("PixelData") == other.get("PixelData")


def _other_elements(own: Dataset, other: Dataset) -> tuple[str, ...]:
    """What differs outside the digests; `re-encoded` must not hide that a window or a private element changed."""
    differing = []
    for tag in sorted({*own.keys(), *other.keys()} - _ENCODING):
        if tag.element == 0 or tag.is_private_creator:
            continue
        one, two = own.get(tag), other.get(tag)
        try:
            same = (one.value if one else None) == (two.value if two else None) or _plain(one) == _plain(two)
        except Exception:  # noqa: BLE001 - a value that cannot be read is not the same
            same = False
        if not same:
            differing.append(pydicom.datadict.keyword_for_tag(tag) or f"{tag:08x}")
    return tuple(differing)


def _plain(element: Any) -> str:
    return "" if element is None or element.value is None else str(element.value).strip(" \0")


def _extra(uid: str, file: Path, sop_class: str | None) -> Comparison:
    series = ""
    try:
        wanted = ["SOPClassUID", "SeriesInstanceUID", "Rows"]
        header = dcmread(file, stop_before_pixels=True, specific_tags=wanted, force=True)
        series = str(header.get("SeriesInstanceUID", ""))
        # What the object says of itself, and what was said of it: an image that calls itself a report is an image.
        sop_class = str(header.get("SOPClassUID", "")) or sop_class or ""
        document = is_document(sop_class) and ("Rows" not in header or sop_class.startswith(_SEGMENTATIONS))
    except Exception:  # noqa: BLE001
        document = False
    return Comparison(uid, series, State.EXTRA, document=document, file=file)


def _name_swaps(
    comparisons: Iterable[Comparison],
    expected: Mapping[str, Seen],
    store: InstanceStore,
    picture_of: Callable[[Path], str | None],
) -> list[Comparison]:
    """Say of altered instances whose pixels they show now, when these are another instance's."""
    found = list(comparisons)
    altered = [each for each in found if each.state is State.ALTERED and PIXELS in each.changed and each.file]
    if len(altered) < 2:
        return found
    owners: dict[str, str] = {}
    for each in altered:
        try:
            own = _own_file(expected[each.sop_instance_uid], store)
        except OSError:
            own = None
        shown = picture_of(own) if own is not None else None
        if shown is not None:
            owners.setdefault(shown, each.sop_instance_uid)
    named = {}
    for each in altered:
        shown = picture_of(each.file) if each.file else None
        owner = owners.get(shown or "")
        if owner is not None and owner != each.sop_instance_uid:
            note = f"it shows the pixels of instance {owner}"
            named[id(each)] = replace(each, note=f"{each.note}; {note}" if each.note else note)
    return [named.get(id(each), each) for each in found]


def _picture(file: Path) -> str | None:
    try:
        return picture(dcmread(file, force=True))
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001
        return None
