"""What every kind of evidence object of one revision is made of, and what has been made of it so far."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from pydicom.dataset import Dataset

from gateway.results.evidence import EvidenceKind, RevisionContext
from gateway.results.identity import Identity
from gateway.results.keyslices import KeySlice, key_slices
from gateway.results.profiles import Profile
from gateway.results.sources import Sources
from inference.decoding import Decode, decode
from inference.findings import Finding, SeriesAnalysis, StudyAnalysis


@dataclass(frozen=True, eq=False)
class DrawnVolume:
    """A SEG and the number of each finding's segment in it, by `Finding.label`."""

    dataset: Dataset
    source_series_uid: str
    segments: dict[int, int]


@dataclass
class Material:
    """One analysis in one dialect. Makers add to `made`, `volumes` and `notes`; none of them asks for a later kind."""

    analysis: StudyAnalysis
    sources: Sources
    context: RevisionContext
    profile: Profile
    decode: Decode = decode
    made: dict[EvidenceKind, list[Dataset]] = field(default_factory=dict)
    volumes: list[DrawnVolume] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @cached_property
    def identity(self) -> Identity:
        return Identity(self.context, self.profile)

    @cached_property
    def flagged(self) -> list[KeySlice]:
        """The key slices of edited regions that this destination gets as pictures, the surest first."""
        found = key_slices(self.analysis, self.sources, edits_only=True)
        if len(found) > self.profile.max_pictures:
            self.note(f"{len(found) - self.profile.max_pictures} of {len(found)} key slices are not pictured.")
        return found[: self.profile.max_pictures]

    @cached_property
    def volume_of(self) -> dict[int, SeriesAnalysis | None]:
        """The volume that holds each finding, by label; None where its mask is lost."""
        return {finding.label: self._volume_of(finding) for finding in self.analysis.findings}

    def _volume_of(self, finding: Finding) -> SeriesAnalysis | None:
        try:
            return self.analysis.series_of(finding)
        except KeyError:
            return None

    def note(self, text: str) -> None:
        """Say in the reports what is not drawn, and why; once."""
        if text not in self.notes:
            self.notes.append(text)

    def segment_of(self, finding: Finding) -> tuple[DrawnVolume, int] | None:
        """The SEG and the segment number that show a finding."""
        for volume in self.volumes:
            if finding.label in volume.segments:
                return volume, volume.segments[finding.label]
        return None

    def of(self, *kinds: EvidenceKind) -> Sequence[Dataset]:
        """What has been made so far, of these kinds."""
        return [dataset for kind in kinds for dataset in self.made.get(kind, ())]
