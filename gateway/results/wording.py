"""The sentences of the report: what a radiologist reads in five seconds, then why."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from gateway.results.evidence import Predecessor, RevisionContext
from gateway.results.sources import Sources
from inference.findings import (
    Finding,
    FindingClass,
    ModelUsed,
    Observation,
    SeriesAnalysis,
    SeriesSynthesis,
    StudyAnalysis,
    Verdict,
)

DISCLAIMER = "Software integrity check, not a diagnosis."
LEGEND = "Integrity flag by software \N{EN DASH} not a diagnosis"

_LONGEST = 1024
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]+")
_WORDS = {
    FindingClass.ADDED_TUMOUR: "added",
    FindingClass.REMOVED_TUMOUR: "removed",
    FindingClass.RESYNTHESISED: "resynthesised",
    FindingClass.REAL_TUMOUR: "tumour-like",
}


def plain(text: str) -> str:
    """One line that every viewer shows."""
    line = _CONTROL.sub(" ", text).strip()
    return line if len(line) <= _LONGEST else line[: _LONGEST - 4].rstrip() + " ..."


def series_name(series_uid: str, sources: Sources) -> str:
    """`series 3`, as viewers number it; the UID where the source gives no number or two series share one."""
    numbers = {instance.series_uid: instance.series_number for instance in sources.instances}
    number = numbers.get(series_uid)
    alone = Counter(numbers.values())[number] == 1
    return f"series {number}" if number is not None and alone else f"series {series_uid}"


def slice_numbers(finding: Finding, volume: SeriesAnalysis | None, sources: Sources) -> str:
    """`images 24-31`: Instance Numbers or frame numbers, as viewers count them; else positions in the volume."""
    first, last = finding.slices
    numbers = [first + 1, last + 1]
    word = "slice"
    if volume is not None:
        known = sources.by_uid
        shown = []
        for k in range(max(first, 0), min(last, len(volume.sop_instance_uids) - 1) + 1):
            instance = known.get(volume.sop_instance_uids[k])
            frame = volume.frame_numbers[k]
            is_multi = instance is not None and len(instance.planes) > 1
            shown.append(frame if is_multi else instance.instance_number if instance else None)
        present = [number for number in shown if number is not None]
        if shown and len(set(present)) == len(shown):
            numbers, word = (
                present,
                "frame" if volume.frame_numbers[first] and len(set(volume.sop_instance_uids)) == 1 else "image",
            )
    low, high = min(numbers), max(numbers)
    return f"{word} {low}" if low == high else f"{word}s {low}-{high}"


class Place(NamedTuple):
    """Where a finding lies, as a viewer counts: `series 3`, `images 24-31`."""

    series: str
    slices: str

    def __str__(self) -> str:
        return f"{self.series}, {self.slices}"


def place(finding: Finding, volume: SeriesAnalysis | None, sources: Sources) -> Place:
    """Where a finding lies; `volume` is None when its mask is lost."""
    return Place(series_name(finding.series_uid, sources), slice_numbers(finding, volume, sources))


def percent(score: float) -> str:
    """A probability as a reader takes it; never a certainty that no model has."""
    return f"{min(max(100 * score, 0.1), 99.9):.1f} %" if score > 0.99 or score < 0.01 else f"{100 * score:.0f} %"


def looks(finding: Finding) -> str:
    """What a finding is claimed to be: `looks edited (added)`."""
    if finding.finding_class.is_edit:
        verb = "may be" if finding.beyond_domain else "looks"
        return f"{verb} edited ({_WORDS[finding.finding_class]})"
    return "looks like a tumour, no sign of editing"


def finding_sentence(finding: Finding, volume: SeriesAnalysis | None, sources: Sources) -> str:
    """One finding in one line."""
    volume_text = f", {finding.volume_mm3 / 1000:.1f} ml" if finding.volume_mm3 > 0 else ""
    where = place(finding, volume, sources)
    return f"Region {finding.label} {looks(finding)}: {where}{volume_text}, {percent(finding.score)}"


_ORIGINS = {
    Verdict.SUSPECT: "look generated, not made by a scanner",
    Verdict.REVIEW: "may be generated",
    Verdict.CLEAR: "show no sign of having been generated",
}


def whole_images_name(series: SeriesSynthesis, sources: Sources, revision: int) -> str:
    """What is tracked: `Whole images of series 3, revision 1`."""
    return plain(f"Whole images of {series_name(series.series_uid, sources)}, revision {revision}")


def whole_images_sentence(series: SeriesSynthesis, sources: Sources) -> str:
    """What is said of the whole images of one series, in one line."""
    name = series_name(series.series_uid, sources)
    looked = f"{len(series.images)} of {series.total} image{'s' if series.total > 1 else ''} looked at"
    if series.probability is None:
        why = f": {series.reason}" if series.reason else ""
        shows = f", {series.organ}" if series.doubt else ": no organ that I know in its images"
        return f"{name[0].upper()}{name[1:]}{shows}{why} ({looked})"
    return (
        f"{name[0].upper()}{name[1:]}, {series.organ}: the whole images {_ORIGINS[series.verdict]}, "
        f"{percent(series.probability)} ({looked})"
    )


def conclusion(analysis: StudyAnalysis, places: Sequence[tuple[Finding, Place]], generated: str = "") -> str:
    """The verdict and what it rests on; `places` name where each finding lies, `generated` is what `generated` says."""
    verdict = analysis.verdict
    is_sure = verdict is Verdict.SUSPECT
    edits = [
        (finding, where)
        for finding, where in places
        if finding.finding_class.is_edit and not (is_sure and finding.beyond_domain)
    ]
    if verdict is Verdict.ABSTAIN:
        return plain(f"ABSTAIN: no statement is made; {_reasons(analysis)}")
    if verdict in (Verdict.SUSPECT, Verdict.REVIEW):
        claims = [generated, _edited(edits, sure=is_sure) if edits else ""]
        if any(claims):
            return plain(f"{verdict.value}: {'; '.join(claim for claim in claims if claim)}.")
    if verdict is Verdict.CLEAR:
        count = len({volume.series_uid for volume in analysis.series})
        return plain(f"CLEAR: no sign of manipulation found in {count} analysed series.")
    return plain(f"{verdict.value}: {_reasons(analysis) or 'see the observations below.'}")


def generated(analysis: StudyAnalysis, sources: Sources) -> str:
    """Which series look generated, of those that decide the verdict; empty when none does."""
    series = [each for each in analysis.synthesis if each.verdict is analysis.verdict]
    if analysis.verdict not in (Verdict.SUSPECT, Verdict.REVIEW) or not series:
        return ""
    names = list(dict.fromkeys(series_name(each.series_uid, sources) for each in series))
    more = f" and {len(names) - 4} more series" if len(names) > 4 else ""
    return f"the whole images of {', '.join(names[:4])}{more} {_ORIGINS[analysis.verdict]}"


def _reasons(analysis: StudyAnalysis) -> str:
    reasons = [plain(reason).rstrip(".") for reason in analysis.reasons if plain(reason)]
    more = f" ({len(reasons) - 2} more below)" if len(reasons) > 2 else ""
    return "; ".join(reasons[:2]) + (more + "." if reasons else "")


def _edited(edits: Sequence[tuple[Finding, Place]], *, sure: bool) -> str:
    counts = Counter(_WORDS[finding.finding_class] for finding, _ in edits)
    single = len(edits) == 1
    verb = ("looks" if single else "look") if sure else "may be"
    kinds = ", ".join(kind if single else f"{count} {kind}" for kind in _WORDS.values() if (count := counts[kind]))
    places = list(dict.fromkeys(where for _, where in sorted(edits, key=lambda edit: -edit[0].score)))
    series: dict[str, list[str]] = {}
    for where in places[:4]:
        series.setdefault(where.series, []).append(where.slices)
    shown = "; ".join(f"{name}, {' and '.join(slices)}" for name, slices in series.items())
    more = f" and {len(places) - 4} more places" if len(places) > 4 else ""
    return f"{len(edits)} region{'' if single else 's'} {verb} edited ({kinds}) in {shown}{more}"


def revision_sentence(context: RevisionContext, sources: Sources, predecessor: Predecessor | None = None) -> str:
    """Which state of the study this is about."""
    count = len(sources.instances)
    text = f"Revision {context.revision} of the study: {count} instance{'' if count == 1 else 's'}."
    if predecessor is not None:
        text += f" It replaces the report on revision {predecessor.revision}."
    return text


def model_sentences(models: Sequence[ModelUsed]) -> list[str]:
    """Which weights looked, to the bit."""
    lines = [f"{model.name} {model.version}, sha256 {model.digest}" for model in models]
    return [plain(line) for line in lines] or ["no model was used"]


def observation_sentences(observations: Iterable[Observation], limit: int) -> list[str]:
    """Observations, the gravest first; those beyond `limit` are counted."""
    weight = {"incident": 0, "warning": 1, "info": 2}
    ordered = sorted(observations, key=lambda observation: weight[observation.severity.value])
    lines = [plain(f"{item.severity.value.upper()}: {item.text} [{item.rule}]") for item in ordered[:limit]]
    if len(ordered) > limit:
        lines.append(f"{len(ordered) - limit} more observations are in the gateway's ledger.")
    return lines
