"""Facts about where images come from: rules that look at headers and, later, at digests and signatures.

A rule is a small function registered with `@rule`; it sees the whole study and yields observations. A new rule is a new
function; a new kind of evidence is a new file that `observe` imports.
"""

from inference.provenance.proof import prove
from inference.provenance.rules import StudyFacts, observe, rule
from inference.provenance.trust import Proof, Trust, load_authorities

__all__ = ["Proof", "StudyFacts", "Trust", "load_authorities", "observe", "prove", "rule"]
