"""One verdict for a study, and why, in words that are read in five seconds.

SUSPECT and REVIEW are claims about images that were analysed. CLEAR is only said when every image was: whatever could
not be analysed leads to ABSTAIN, unless the rest is already suspect. VERIFIED is a CLEAR of which every instance is
proven by a signature or by a digest first seen at a trusted source. Pixels and provenance are told apart in the
reasons: a proof never outweighs what the pixels show, and quiet pixels never outweigh what the provenance shows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from inference.beyond import Beyond, Sense
from inference.calibration import UNKNOWN
from inference.findings import Finding, FindingClass, Observation, SeriesSynthesis, Severity, Verdict
from inference.provenance.trust import Proof
from inference.volume import SourceSlice
from models.card import Thresholds

_LONGEST_LIST = 6
WORDS = {
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
    slices of its volume come from, `synthesis` what a whole-image model says of each series. `beyond` is what models
    answered where they were not measured; nothing of it is in `scores` and `slices`.
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
    synthesis: Sequence[SeriesSynthesis] = ()
    beyond: Sequence[Beyond] = ()

    @property
    def edits(self) -> list[Finding]:
        return [each for each in self.findings if each.finding_class.is_edit and not each.beyond_domain]

    @property
    def tumours(self) -> list[Finding]:
        return [finding for finding in self.findings if not finding.finding_class.is_edit]

    def generated(self, verdict: Verdict) -> list[SeriesSynthesis]:
        """The series that a whole-image model alone would give this verdict."""
        return [series for series in self.synthesis if series.verdict is verdict]


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
    local = [each for each in evidence.beyond if each.sense is Sense.LOCAL]
    gaps = [each.reason for each in evidence.unanalysed if each.counts]
    gaps += [each.reason for each in evidence.beyond if each.sense is not Sense.LOCAL]
    analysed = bool(evidence.scores)
    made, doubtful = evidence.generated(Verdict.SUSPECT), evidence.generated(Verdict.REVIEW)
    if made or (analysed and score >= thresholds.suspect):
        verdict = Verdict.SUSPECT
        first = [*_generated(made), *_edits(evidence, score, thresholds), *_generated(doubtful), *_places(evidence)]
    elif alarms or doubtful or local or (analysed and (score >= thresholds.review or warnings)):
        verdict = Verdict.REVIEW
        is_quiet = score < thresholds.review
        own = _edits(evidence, score, thresholds)
        first = [*_generated(doubtful), *([] if is_quiet else own), *_places(evidence), *(own if is_quiet else [])]
    elif gaps or not analysed:
        verdict = Verdict.ABSTAIN
        first = [] if gaps else ["the study holds no image that could be analysed"]
    else:
        verdict = Verdict.VERIFIED if evidence.proof.is_complete else Verdict.CLEAR
        first = [
            f"no sign of an added or removed tumour in {evidence.slices:,} slices "
            f"(probability of manipulation {score:.2f})",
            *_scanned(evidence),
        ]
    facts = [each.text for each in (*alarms, *warnings)]
    missing = _shortened([f"not analysed: {reason}" for reason in gaps])
    aside = _shortened([f"not analysed: {each.reason}" for each in evidence.unanalysed if not each.counts])
    rest = [f"in the {evidence.slices:,} slices that were analysed: probability of manipulation {score:.2f}"]
    proven = [evidence.proof.sentence] if evidence.proof.proven else []
    if verdict is Verdict.VERIFIED:
        first, proven = [*proven, f"pixels: {first[0]}", *first[1:]], []
    if verdict is Verdict.ABSTAIN:
        ordered = [*first, *missing, *(rest if analysed else []), *_scanned(evidence), *facts]
    elif verdict is Verdict.REVIEW and not doubtful and (alarms or (score < thresholds.review and not local)):
        ordered = [*facts, *first, *missing]
    else:
        ordered = [*first, *facts, *missing]
    known = [series.probability for series in evidence.synthesis if series.probability is not None]
    asked = [each.score for each in evidence.beyond if each.sense is not Sense.NONE]
    if analysed or made or doubtful or asked:
        score = max(*evidence.scores, *asked, *known, 0.0)
    return Decision(
        verdict, score, tuple(dict.fromkeys([*ordered, *proven, *_tumours(evidence), *aside, *evidence.notes]))
    )


def _generated(series: Sequence[SeriesSynthesis]) -> list[str]:
    """Each series of which the whole images look generated, the surest first."""
    ranked = sorted(series, key=lambda each: -(each.probability or 0.0))
    reasons = [
        f"series …{each.series_uid[-12:]}: the whole images {_verb(each)} generated, not made by a scanner "
        f"(probability {each.probability:.2f}; {_looked_at(each)}, {each.organ})"
        for each in ranked[:3]
    ]
    more = len(ranked) - len(reasons)
    return [*reasons, f"so do those of {more} more series"] if more else reasons


def _verb(series: SeriesSynthesis) -> str:
    return "look" if series.verdict is Verdict.SUSPECT else "may be"


def _looked_at(series: SeriesSynthesis) -> str:
    return f"{len(series.images):,} of {series.total:,} image{'s' if series.total > 1 else ''} looked at"


def _scanned(evidence: Evidence) -> list[str]:
    """What a quiet whole-image model adds: that is no word about added or removed tumours."""
    quiet = [series for series in evidence.synthesis if series.verdict is Verdict.CLEAR]
    if not quiet:
        return []
    highest = max(series.probability or 0.0 for series in quiet)
    images = sum(len(series.images) for series in quiet)
    return [
        f"no sign that whole images were generated in {len(quiet):,} series ({images:,} images looked at, probability "
        f"{'at most ' if len(quiet) > 1 else ''}{highest:.2f})"
    ]


def _edits(evidence: Evidence, score: float, thresholds: Thresholds) -> list[str]:
    """What the detectors say of regions, beside what else decides."""
    if not evidence.scores:
        return []
    if score >= thresholds.suspect:
        return _regions(evidence, score)
    if score < thresholds.review and (evidence.generated(Verdict.SUSPECT) or evidence.generated(Verdict.REVIEW)):
        return [f"no region in them looks edited (probability {score:.2f})"]
    if score < thresholds.review and any(each.sense is Sense.LOCAL for each in evidence.beyond):
        return [f"the other images show no sign of editing (probability {score:.2f} in {evidence.slices:,} slices)"]
    return _grey(evidence, score, thresholds)


def _places(evidence: Evidence) -> list[str]:
    """What models flag where they were not measured, and the reason why that is no more than a reason to look."""
    edits = [each for each in evidence.findings if each.finding_class.is_edit and each.beyond_domain]
    more = len(edits) - 3
    return [
        *(_in_words(finding, evidence) for finding in edits[:3]),
        *([f"{more} more such region{'s' if more > 1 else ''} listed as findings"] if more > 0 else []),
        *(each.reason for each in evidence.beyond if each.sense is Sense.LOCAL),
    ]


def _regions(evidence: Evidence, score: float) -> list[str]:
    if not evidence.edits:
        return [f"the images carry signs of editing (probability {score:.2f}); no single region stands out"]
    reasons = [_in_words(finding, evidence) for finding in evidence.edits[:3]]
    more = len(evidence.edits) - len(reasons)
    if more:
        reasons.append(f"{more} more region{'s' if more > 1 else ''} listed as findings")
    if evidence.left_out:
        reasons.append(f"{evidence.left_out} weaker regions are not listed")
    return reasons


def _tumours(evidence: Evidence) -> list[str]:
    """What speaks neither for nor against an edit, and is said once the verdict is explained."""
    found = [f"{_in_words(finding, evidence)} (no sign of editing)" for finding in evidence.tumours[:3]]
    more = len(evidence.tumours) - len(found)
    return [*found, f"{more} more such region{'s' if more > 1 else ''} listed as findings"] if more else found


def _in_words(finding: Finding, evidence: Evidence) -> str:
    return f"a region {WORDS[finding.finding_class]}: {_slices(finding, evidence)}, score {finding.score:.2f}"


def _grey(evidence: Evidence, score: float, thresholds: Thresholds) -> list[str]:
    if score < thresholds.review:
        return [f"the images themselves show no sign of editing (probability {score:.2f})"]
    reason = f"probability of manipulation {score:.2f} is between {thresholds.review:.2f} and {thresholds.suspect:.2f}"
    return [
        f"{reason}: too much for CLEAR, too little for SUSPECT",
        *(_regions(evidence, score) if evidence.edits else []),
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
