"""Lossy compression leaves attributes behind (PS3.3 C.7.6.1.1.5); they must agree with each other and with the file."""

from collections.abc import Iterator

from inference.findings import Observation, Severity
from inference.instances import Instance
from inference.provenance.rules import StudyFacts, rule
from inference.provenance.wording import count, short, uids

_NATIVE = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99")
_JPEG_2000 = ("1.2.840.10008.1.2.4.91", "1.2.840.10008.1.2.4.93", "1.2.840.10008.1.2.4.203")
_NEAR_LOSSLESS = "1.2.840.10008.1.2.4.81"
_READ = 4096  # bytes of a code stream's head


@rule
def a_lossy_past_is_told_by_all(facts: StudyFacts) -> Iterator[Observation]:
    """Files of a series share their history: where some were lossy and others not, some were replaced."""
    for series_uid, members in facts.series.items():
        lossy = [each for each in members if each.lossy == "01"]
        if lossy and len(lossy) < len(members):
            few = min(lossy, [each for each in members if each.lossy != "01"], key=len)
            yield Observation(
                "lossy-in-part",
                Severity.WARNING,
                f"{count(len(lossy))} of {short(series_uid)} compressed lossily in the past and the others not: "
                "some files "
                "were replaced; fetch the series from the scanner",
                {"series_uid": series_uid, "lossy": len(lossy), "instances": len(members)},
                uids(few),
            )


@rule
def a_lossy_past_is_not_denied(facts: StudyFacts) -> Iterator[Observation]:
    """Lossy Image Compression “00” beside a ratio or a method of a lossy compression: the flag was put back."""
    wrong = [
        each
        for each in facts.instances
        if each.is_image
        and each.lossy != "01"
        and (any(ratio > 1.0 for ratio in each.origin.ratios) or each.origin.lossy_methods)
    ]
    if wrong:
        yield Observation(
            "lossy-denied",
            Severity.WARNING,
            f"{count(len(wrong))} with a ratio or method of lossy compression but not flagged as lossy: the flag "
            "was removed; "
            "do not measure on them, and fetch the originals",
            {"ratios": sorted({ratio for each in wrong for ratio in each.origin.ratios})[:5]},
            uids(wrong),
        )


@rule
def ratios_make_sense(facts: StudyFacts) -> Iterator[Observation]:
    """A ratio below one is no compression, and one far from the file's own size was copied from elsewhere."""
    wrong = []
    for each in facts.instances:
        if each.lossy != "01" or not each.origin.ratios:
            continue
        last = each.origin.ratios[-1]
        packed = each.transfer_syntax in (*_JPEG_2000, _NEAR_LOSSLESS) or each.transfer_syntax.startswith(
            "1.2.840.10008.1.2.4.5"
        )
        plain = each.rows * each.columns * max(1, len(each.frames)) * each.samples * each.bits[0] // 8
        # The file holds its header too, so it bounds the true ratio only from below.
        if last < 1.0 or (packed and last < 0.5 * plain / max(1, each.file.stat().st_size)):
            wrong.append(each)
    if wrong:
        yield Observation(
            "lossy-ratio-wrong",
            Severity.INFO,
            f"{count(len(wrong))} with a compression ratio that cannot be true for the file: compressed again "
            "later, or the "
            "header is another image's",
            {"ratios": sorted({each.origin.ratios[-1] for each in wrong})[:5]},
            uids(wrong),
        )


@rule
def irreversible_code_is_declared(facts: StudyFacts) -> Iterator[Observation]:
    """JPEG 2000 says in its own head whether it is reversible (ISO/IEC 15444-1 A.6.1): 9-7 wavelets lose something."""
    wrong = [
        each
        for each in facts.instances
        if each.is_image and each.lossy != "01" and each.transfer_syntax in _JPEG_2000 and _is_irreversible(each)
    ]
    if wrong:
        yield Observation(
            "lossy-code-not-declared",
            Severity.WARNING,
            f"{count(len(wrong))} compressed by a lossy JPEG 2000 code and not flagged as lossy: fetch the originals",
            {},
            uids(wrong),
        )


def _is_irreversible(instance: Instance) -> bool:
    """Looks for the first code stream's COD segment behind its SOC and SIZ markers."""
    with instance.file.open("rb") as stream:
        head = stream.read(4 * 1024 * 1024)
    start = head.find(b"\xff\x4f\xff\x51")
    if start < 0:
        return False
    cod = head.find(b"\xff\x52", start, start + _READ)
    # Marker, length (2), style (1), progression (1), layers (2), multiple components (1), then the decomposition:
    # levels, width, height, style, and the transformation, 0 for 9-7 irreversible.
    at = cod + 2 + 2 + 1 + 4 + 4
    return cod >= 0 and at < len(head) and head[at] == 0
