"""UIDs that follow from what an object says: a repeat makes the same object, never a second one (PS3.5 B.2)."""

import json
from collections.abc import Sequence
from hashlib import sha256
from uuid import UUID

from gateway.results.evidence import EvidenceKind, RevisionContext
from gateway.results.profiles import Profile
from inference.findings import ModelUsed


def derived_uid(*parts: str | int) -> str:
    """A UID under 2.25 that is a function of `parts` alone (SHA-256, shaped as a UUID; at most 44 characters)."""
    name = json.dumps(["scanwarden", *parts], separators=(",", ":"))
    return f"2.25.{UUID(bytes=sha256(name.encode()).digest()[:16], version=5).int}"


def model_set_digest(models: Sequence[ModelUsed]) -> str:
    """One SHA-256 for a set of models, whatever their order."""
    named = sorted((model.name, model.version, model.digest) for model in models)
    return sha256(json.dumps(named, separators=(",", ":")).encode()).hexdigest()


class Identity:
    """The UIDs of one revision's evidence objects in one destination's dialect."""

    def __init__(self, context: RevisionContext, profile: Profile) -> None:
        self._analysis = (context.study_uid, context.revision, context.model_set_digest)
        self._dialect = (*self._analysis, profile.name)

    def instance(self, kind: EvidenceKind, *source: str | int) -> str:
        """SOP Instance UID; `source` tells objects of one kind apart (source series, volume in it)."""
        return derived_uid("instance", *self._dialect, kind.value, *source)

    def series(self, kind: EvidenceKind, *source: str | int) -> str:
        """Series Instance UID: every object has its own, because OHIF shows the last instance of a series only."""
        return derived_uid("series", *self._dialect, kind.value, *source)

    def dimensions(self, *source: str | int) -> str:
        """Dimension Organization UID of a SEG."""
        return derived_uid("dimensions", *self._dialect, *source)

    def tracking(self, label: int) -> str:
        """Tracking UID of a finding, or of the study's verdict (0): the same in SEG, SR and every dialect."""
        return derived_uid("tracking", *self._analysis, label)

    def whole_images(self, series_uid: str) -> str:
        """Tracking UID of what is said of the whole images of a series."""
        return derived_uid("tracking", *self._analysis, "whole-images", series_uid)


def device_uid(version: str, digest: str) -> str:
    """Device Observer UID: one for each version of the software with one set of models."""
    return derived_uid("device", version, digest)
