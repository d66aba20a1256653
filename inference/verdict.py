"""One verdict for a study, and why, in words that are read in five seconds.

SUSPECT and REVIEW are claims about images that were analysed. CLEAR is only said when every image was: whatever could
not be analysed leads to ABSTAIN, unless the rest is already suspect. VERIFIED is a CLEAR of which every instance is
proven by a signature or by a digest first seen at a trusted source. Pixels and provenance are told apart in the
reasons: a proof never outweighs what the pixels show, and quiet pixels never outweigh what the provenance shows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from inference.calibration import UNKNOWN
from inference.findings import Finding, FindingClass, Observation, Severity, Verdict
from inference.provenance.trust import Proof
from inference.volume import SourceSlice
from models.card import Thresholds

_LONGEST_LIST = 6
_WORDS = {
    FindingClass.REAL_TUMOUR: "looks like a tumour",
    FindingClass.ADDED_TUMOUR: "looks added",
    FindingClass.REMOVED_TUMOUR: "looks as if something was removed",
    FindingClass.RESYNTHESISED: "looks re-synthesised",
}


@dataclass(frozen=True)
class Unanalysed:
    """Something that was not analysed, and why. `counts` is False where that withholds no verdict (planning slices)."""

    reason: str
    counts: bool = True


@dataclass(frozen=True)
class Evidence:
    """All that a verdict rests on.

    `scores` holds the calibrated probability of each analysed volume, `sources` by the label of a finding where the
    slices of its volume come from.
    """

    scores: Sequence[float]
    slices: int
    findings: Sequence[Finding]
    left_out: int
    unanalysed: Sequence[Unanalysed]
    observations: Sequence[Observation]
    notes: Sequence[str] = ()
    proof: Proof = field(default_factory=Proof)
    sources: Mapping[int, Sequence[SourceSlice]] = field(default_factory=dict)


@dataclass(frozen=True)
class Decision:
    verdict: Verdict
    score: float
    reasons: tuple[str, ...]


def decide(evidence: Evidence, thresholds: Thresholds) -> Decision:
    """Fuse what is known about a study."""
    score = max(evidence.scores, default=UNKNOWN)
    alarms = [each for each in evidence.observations if each.severity is Severity.INCIDENT]
    warnings = [each for each in evidence.observations if each.severity is Severity.WARNING]
    gaps = [each.reason for each in evidence.unanalysed if each.counts]
    analysed = bool(evidence.scores)
    if analysed and score >= thresholds.suspect:
        verdict, first = Verdict.SUSPECT, _regions(evidence, score)
    elif alarms or (analysed and (score >= thresholds.review or warnings)):
        verdict, first = Verdict.REVIEW, _grey(evidence, score, thresholds) if analysed else []
    elif gaps or not analysed:
        verdict = Verdict.ABSTAIN
        first = [] if gaps else ["the study holds no image that could be analysed"]
    else:
        verdict = Verdict.VERIFIED if evidence.proof.is_complete else Verdict.CLEAR
        first = [
            f"no sign of an added or removed tumour in {evidence.slices:,} slices "
            f"(probability of manipulation {score:.2f})"
        ]
    facts = [each.text for each in (*alarms, *warnings)]
    missing = _shortened([f"not analysed: {reason}" for reason in gaps])
    aside = _shortened([f"not analysed: {each.reason}" for each in evidence.unanalysed if not each.counts])
    rest = [f"in the {evidence.slices:,} slices that were analysed: probability of manipulation {score:.2f}"]
    proven = [evidence.proof.sentence] if evidence.proof.proven else []
    if verdict is Verdict.VERIFIED:
        first, proven = [*proven, f"pixels: {first[0]}"], []
    if verdict is Verdict.ABSTAIN:
        ordered = [*first, *missing, *(rest if analysed else []), *facts]
    elif verdict is Verdict.REVIEW and (alarms or score < thresholds.review):
        ordered = [*facts, *first, *missing]
    else:
        ordered = [*first, *facts, *missing]
    return Decision(verdict, score, tuple(dict.fromkeys([*ordered, *proven, *aside, *evidence.notes])))


def _regions(evidence: Evidence, score: float) -> list[str]:
    if not evidence.findings:
        return [f"the images carry signs of editing (probability {score:.2f}); no single region stands out"]
    reasons = [
        f"a region {_WORDS[finding.finding_class]}: {_slices(finding, evidence)}, score {finding.score:.2f}"
        for finding in evidence.findings[:3]
    ]
    more = len(evidence.findings) - len(reasons)
    if more:
        reasons.append(f"{more} more region{'s' if more > 1 else ''} listed as findings")
    if evidence.left_out:
        reasons.append(f"{evidence.left_out} weaker regions are not listed")
    return reasons


def _grey(evidence: Evidence, score: float, thresholds: Thresholds) -> list[str]:
    if score < thresholds.review:
        return [f"the images themselves show no sign of editing (probability {score:.2f})"]
    reason = f"probability of manipulation {score:.2f} is between {thresholds.review:.2f} and {thresholds.suspect:.2f}"
    return [
        f"{reason}: too much for CLEAR, too little for SUSPECT",
        *(_regions(evidence, score) if evidence.findings else []),
    ]


def _slices(finding: Finding, evidence: Evidence) -> str:
    """As viewers count them: by Instance Number or by frame; positions in the volume from 1 where these do not tell."""
    first, last = finding.slices
    region = evidence.sources.get(finding.label, ())[first : last + 1]
    is_multi = any(source.frame_number is not None for source in region)
    numbers = [source.frame_number if is_multi else source.instance_number for source in region]
    shown = [number for number in numbers if number is not None]
    word = "frame" if is_multi else "image"
    if len(set(shown)) != last - first + 1:
        shown, word = list(range(first + 1, last + 2)), "slice"
    if first == last:
        return f"{word} {shown[0]}"
    return f"{word}s {min(shown)} to {max(shown)}, clearest on {shown[finding.key_slice - first]}"


def _shortened(reasons: list[str]) -> list[str]:
    """Equal reasons once; a study with a thousand damaged files needs no thousand lines."""
    unique = list(dict.fromkeys(reasons))
    if len(unique) <= _LONGEST_LIST:
        return unique
    return [*unique[:_LONGEST_LIST], f"not analysed: {len(unique) - _LONGEST_LIST:,} more for reasons of their own"]
