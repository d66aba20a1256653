"""The verdict on a picture or volume without a DICOM study around it.

One picture is at most REVIEW and never CLEAR: edit models were calibrated on series, and what their cards say of single
slices (docs/decisions/0019) is too little for a sure word either way. A series of native or losslessly kept slices gets
the verdicts that a DICOM series gets.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from inference.beyond import Sense
from inference.calibration import UNKNOWN
from inference.findings import Finding, FindingClass, SeriesSynthesis, Verdict
from inference.pictures.edits import Edits, NotAsked
from inference.verdict import WORDS
from models.card import INSTANCES, ModelCard


@dataclass(frozen=True)
class Signs:
    """All that a verdict rests on. `doubts`: why it is less evidence than a scanner's series; `gaps`: not analysed."""

    edits: Edits | NotAsked
    synthesis: SeriesSynthesis | None
    findings: Sequence[Finding]
    slices: int
    gaps: Sequence[str] = ()
    doubts: Sequence[str] = ()
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Decision:
    verdict: Verdict
    score: float
    reasons: tuple[str, ...]


def refused(reason: str, notes: Sequence[str] = ()) -> Decision:
    """Nothing could be judged."""
    return Decision(Verdict.ABSTAIN, UNKNOWN, (reason, *notes))


def decide(signs: Signs) -> Decision:
    """Fuse what is known; the reason that decides stands first."""
    edits = signs.edits if isinstance(signs.edits, Edits) else None
    is_alone = signs.slices < 3
    is_weak = is_alone or bool(signs.doubts)
    of_edits, of_whole = _of_edits(edits), signs.synthesis.verdict if signs.synthesis else Verdict.ABSTAIN
    flagged = [verdict for verdict in (of_edits, of_whole) if verdict in (Verdict.SUSPECT, Verdict.REVIEW)]
    gaps = [f"not analysed: {gap}" for gap in signs.gaps]
    if isinstance(signs.edits, NotAsked):
        gaps.insert(0, f"not looked at for added or removed lesions: {signs.edits.reason}")
    if edits is not None and edits.beyond is not None and edits.beyond.sense is not Sense.LOCAL:
        gaps.insert(0, edits.beyond.reason)
    if signs.synthesis is not None and signs.synthesis.doubt:
        gaps.append(signs.synthesis.doubt)
    answered = edits is not None or of_whole is not Verdict.ABSTAIN
    weak = _weak(signs, edits, is_alone) if answered else []
    if flagged:
        verdict = Verdict.SUSPECT if Verdict.SUSPECT in flagged and not is_weak else Verdict.REVIEW
        first = [*_generated(signs), *(_edited(edits, signs.findings) if of_edits in flagged and edits else [])]
        reasons = [*first, *gaps, *weak]
    elif gaps or is_weak or edits is None or edits.beyond is not None:
        verdict = Verdict.ABSTAIN
        reasons = [*gaps, *_quiet(signs, edits), *weak]
    else:
        verdict, reasons = Verdict.CLEAR, _quiet(signs, edits)
    known = [edits.score] if edits else []
    if signs.synthesis and signs.synthesis.probability is not None and (known or flagged):
        known.append(signs.synthesis.probability)
    return Decision(
        verdict, max(known, default=UNKNOWN), tuple(dict.fromkeys([*reasons, *_tumours(signs, edits), *signs.notes]))
    )


def class_of(decision: Decision, signs: Signs) -> str | None:
    """The one word for the whole: that of the likeliest finding, edits first; None where nothing can be said.

    `no_tumour` only where a model looked that finds real tumours, too: one that only sees edits cannot say that.
    """
    if signs.findings:
        edited = [finding for finding in signs.findings if finding.finding_class.is_edit]
        return (edited or signs.findings)[0].finding_class.value
    if decision.verdict in (Verdict.SUSPECT, Verdict.REVIEW):
        return FindingClass.RESYNTHESISED.value
    sees_tumours = isinstance(signs.edits, Edits) and any(card.task == INSTANCES for card in signs.edits.cards)
    return "no_tumour" if sees_tumours else None


def _of_edits(edits: Edits | None) -> Verdict:
    if edits is None:
        return Verdict.ABSTAIN
    if edits.beyond is not None:
        return Verdict.REVIEW if edits.beyond.sense is Sense.LOCAL else Verdict.CLEAR
    if edits.is_series and edits.score >= edits.thresholds.suspect:
        return Verdict.SUSPECT
    return Verdict.REVIEW if edits.score >= edits.review else Verdict.CLEAR


def _generated(signs: Signs) -> list[str]:
    synthesis = signs.synthesis
    if synthesis is None or synthesis.verdict not in (Verdict.SUSPECT, Verdict.REVIEW):
        return []
    verb = "looks" if synthesis.verdict is Verdict.SUSPECT else "may be"
    what = "the picture as a whole" if signs.slices == 1 else "the series as a whole"
    return [f"{what} {verb} generated, not made by a scanner (probability {synthesis.probability:.2f})"]


def _edited(edits: Edits, findings: Sequence[Finding]) -> list[str]:
    edited = [finding for finding in findings if finding.finding_class.is_edit]
    if not edited:
        return [f"signs of editing (probability {edits.score:.2f}); no single region stands out"]
    return [_in_words(finding, edits) for finding in edited[:3]]


def _tumours(signs: Signs, edits: Edits | None) -> list[str]:
    """What speaks neither for nor against an edit."""
    found = [finding for finding in signs.findings if not finding.finding_class.is_edit]
    return [f"{_in_words(finding, edits)} (no sign of editing)" for finding in found[:3]] if edits else []


def _in_words(finding: Finding, edits: Edits) -> str:
    return f"a region {WORDS[finding.finding_class]}: {_place(finding, edits)}, score {finding.score:.2f}"


def _place(finding: Finding, edits: Edits) -> str:
    row0, column0, row1, column1 = finding.box
    first, last = finding.slices
    box = f"rows {row0}-{row1}, columns {column0}-{column1}"
    if not edits.is_series:
        return box
    through = f"slice {first + 1}" if first == last else f"slices {first + 1} to {last + 1}"
    return f"{through}, clearest on {finding.key_slice + 1} ({box})"


def _quiet(signs: Signs, edits: Edits | None) -> list[str]:
    reasons = []
    if edits is not None and edits.beyond is None:
        where = f"{signs.slices:,} slices" if edits.is_series else "this picture"
        reasons.append(
            f"no sign of an added or removed tumour in {where} (probability of manipulation {edits.score:.2f})"
        )
    if signs.synthesis is not None and signs.synthesis.probability is not None:
        reasons.append(f"no sign that it was generated as a whole (probability {signs.synthesis.probability:.2f})")
    return reasons


def _weak(signs: Signs, edits: Edits | None, is_alone: bool) -> list[str]:
    reasons = []
    if is_alone:
        words = "one picture is less evidence than a series: at most REVIEW, and never CLEAR"
        measured = _measured(edits.cards[0]) if edits is not None else ""
        reasons.append(f"{words}{f' ({measured})' if measured else ''}")
    if signs.doubts:
        reasons.append(f"{'; '.join(signs.doubts)}: at most REVIEW, and never CLEAR")
    if edits is not None and edits.beyond is not None and edits.beyond.sense is Sense.LOCAL:
        reasons.append(edits.beyond.reason)
    return reasons


def _measured(card: ModelCard) -> str:
    """What the card says of single slices; empty where it says nothing."""
    try:
        found = float(card.figures["known_sources"]["sensitivity_at_threshold"])
        alarms = card.figures["false_alarms"]
        wrong = float((alarms.get("brain-cheng") or alarms["all"])["per_1000"])
    except (KeyError, TypeError, ValueError):
        return ""
    return f"{card.name} finds {found * 100:.0f} of 100 edited slices and flags {wrong:.0f} of 1,000 genuine pictures"
