"""Which detectors look at a stack: those that its headers allow, narrowed by the organ that its images show.

An organ opens a model only where the headers name no body part at all; where headers contradict what is shown, no model
looks, and the reason says so. Where no organ is recognised, those that the headers allow are asked, in doubt
(`inference.beyond`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from inference.body_parts import body_part_for, covers_organ
from inference.coverage import as_if_of, names_no_body_part
from inference.detectors import Detector
from inference.volume import Stack
from inference.whole_images import Agreement, unrecognised
from models.images.organs import Organ


@dataclass(frozen=True)
class Choice:
    """The detectors to ask; `refusal` says why there are none. `body_part` is shown by the images and in no header.

    `doubt` says why these images may be others than the detectors were made for.
    """

    detectors: tuple[Detector, ...] = ()
    refusal: str = ""
    body_part: str = ""
    doubt: str = ""

    def asked(self, stack: Stack) -> Stack:
        """The stack as the detectors are asked about it."""
        return as_if_of(stack, self.body_part) if self.body_part else stack


def by_header(stack: Stack, detectors: Sequence[Detector]) -> Choice:
    """Before anything is decoded."""
    coverages = [(detector, detector.covers(stack)) for detector in detectors]
    covering = tuple(detector for detector, coverage in coverages if coverage)
    if covering:
        return Choice(covering)
    return Choice(refusal=coverages[0][1].reasons[0] if coverages else "no model is configured")


def unseen(first: Choice, fault: str) -> Choice:
    """Where nothing could be decoded for a whole-image model to look at."""
    return Choice(refusal=f"{unrecognised(fault, ' in its images')} ({first.refusal})")


def by_organ(stack: Stack, first: Choice, detectors: Sequence[Detector], shown: Agreement) -> Choice:
    """After a whole-image model has looked; `first` is what the headers alone allow."""
    also = f" ({first.refusal})" if first.refusal else ""
    if shown.organ is Organ.UNKNOWN:
        why = unrecognised(shown.reason, " in its images")
        return Choice(refusal=why + also) if shown.is_none or not first.detectors else replace(first, doubt=why)
    fitting = [detector for detector in detectors if covers_organ(detector.card, shown.organ)]
    if not fitting:
        return Choice(refusal=f"shows a {shown.organ}; no model for added or removed lesions covers it{also}")
    if first.detectors:
        chosen = tuple(detector for detector in first.detectors if detector in fitting)
        return Choice(chosen, "" if chosen else f"shows a {shown.organ}, which its header does not say")
    if not names_no_body_part(stack):
        return first
    part = body_part_for(shown.organ)
    opened = by_header(as_if_of(stack, part), fitting)
    return Choice(opened.detectors, opened.refusal, part) if opened.detectors else opened
