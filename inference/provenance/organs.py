"""What images show against what their headers call them; asked after a whole-image model has looked at a stack."""

from collections.abc import Iterator

from inference.body_parts import contradicts, named_by
from inference.findings import Observation, Severity
from inference.provenance.wording import short
from inference.volume import Stack
from inference.whole_images import Agreement, Look
from models.images.organs import Organ

_LEAST_SHARE = 0.8  # of the slices looked at, and of probability: a doubtful answer contradicts nobody
_LEAST_PROBABILITY = 0.9


def organ_against_header(stack: Stack, look: Look) -> Iterator[Observation]:
    """An organ that modality or Body Part Examined rule out (PS3.3 C.7.3.1).

    A warning where the header names something that the model was trained to tell apart; of an image of anything else
    it may only have named the likest organ that it knows.
    """
    shown, first = look.agreement, stack.members[0][0]
    if not _is_sure(shown) or not contradicts(shown.organ, first):
        return
    said = " ".join(part for part in (first.modality, first.body_part) if part)
    known = bool(first.body_part and named_by(first))
    advice = "compare with the order and the scanner" if known else "the model may not know what the header names"
    yield Observation(
        "organ-contradicts-body-part",
        Severity.WARNING if known else Severity.INFO,
        f"{short(stack.series_uid)} shows a {shown.organ} ({shown.agreeing} of {shown.images} images, probability "
        f"{shown.probability:.2f}), and its header says {said}; {advice}",
        {
            "series_uid": stack.series_uid,
            "organ": shown.organ.value,
            "probability": round(shown.probability, 4),
            "images": shown.images,
            "agreeing": shown.agreeing,
            "modality": first.modality,
            "body_part": first.body_part,
        },
        tuple(dict.fromkeys(look.images)),
    )


def _is_sure(shown: Agreement) -> bool:
    return shown.organ is not Organ.UNKNOWN and shown.share >= _LEAST_SHARE and shown.probability >= _LEAST_PROBABILITY
