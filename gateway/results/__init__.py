"""Evidence objects: what a radiologist's own viewer can show of an analysis (PS3.3 A.51, A.35.13).

`build_evidence` is the one entry: a SEG for each volume with findings, then the SR that refers to them.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from gateway.results.evidence import (
    MANUFACTURER,
    REPORTS,
    EvidenceFile,
    EvidenceKind,
    NoSourceHeader,
    Predecessor,
    ResultsError,
    RevisionContext,
    UnknownProfile,
)
from gateway.results.identity import model_set_digest
from gateway.results.profiles import PROFILES, Profile, profile_named, profiles_of
from inference.findings import StudyAnalysis

if TYPE_CHECKING:
    from gateway.results.signing import Signer
    from inference.decoding import Decode

__all__ = [
    "MANUFACTURER",
    "PROFILES",
    "REPORTS",
    "EvidenceFile",
    "EvidenceKind",
    "NoSourceHeader",
    "Predecessor",
    "Profile",
    "ResultsError",
    "RevisionContext",
    "UnknownProfile",
    "build_evidence",
    "model_set_digest",
    "profile_named",
    "profiles_of",
]


def build_evidence(
    analysis: StudyAnalysis,
    context: RevisionContext,
    profile: Profile,
    folder: Path,
    *,
    signer: "Signer | None" = None,
    decode: "Decode | None" = None,
) -> list[EvidenceFile]:
    """Write the evidence objects of one analysis into `folder`, in the order of `EvidenceKind`.

    The same arguments give the same files, byte for byte, so a repeat after a crash changes nothing. Source headers
    are read without their pixels; what had to be corrected in our objects is in `EvidenceFile.observations`. The key
    slices of pictures are decoded by `decode` (in this process unless given); one that cannot be costs its picture.

    With a `signer` (`gateway.results.signing.load_signer`) each object carries its digital signature.

    Raises NoSourceHeader when no file of the revision says whose study it is.
    """
    from gateway.results.build import build  # highdicom takes a second to load: only where objects are made

    return build(analysis, context, profile, folder, signer, *([decode] if decode is not None else []))
