"""Facts about where images come from: headers, pixels, signatures and digests, and what a device always does.

A rule is a small function registered with `@rule` (it sees the whole study) or `@pixel_rule` (it sees one decoded
stack), and yields observations. A new rule is a new function; a new idea is a new file that `rules._register` names.
What each one means, and how often it is wrong, stands in docs/provenance.md.
"""

from inference.provenance.baseline import Baseline, BaselineUnreadable, by_device, kinds_of
from inference.provenance.organs import organ_against_header
from inference.provenance.proof import prove
from inference.provenance.rules import StudyFacts, observe, observe_pixels, pixel_rule, rule
from inference.provenance.trust import Proof, Trust, load_authorities

__all__ = [
    "Baseline",
    "BaselineUnreadable",
    "Proof",
    "StudyFacts",
    "Trust",
    "by_device",
    "kinds_of",
    "load_authorities",
    "observe",
    "observe_pixels",
    "organ_against_header",
    "pixel_rule",
    "prove",
    "rule",
]
