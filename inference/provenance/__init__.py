"""Facts about where images come from: rules that look at headers and, later, at digests and signatures.

A rule is a small function registered with `@rule`; it sees the whole study and yields observations. A new rule is a new
function; a new kind of evidence is a new file that `observe` imports.
"""

from inference.provenance.rules import StudyFacts, observe, rule

__all__ = ["StudyFacts", "observe", "rule"]
