"""Whether a model was made and measured for these images; if not, why, in words for the report."""

import re
from dataclasses import dataclass, replace

from inference.volume import ProblemKind, Stack
from models.card import ModelCard

_LEAST_SLICES = 3  # below it nothing can be said about how a region goes on through slices
_LOSSY_SYNTAXES = ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51")
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"

# Words that name a body part in descriptions of several languages; only used when Body Part Examined is absent.
_REGION_WORDS = {
    "HEAD": r"heads?|brain|cerebr\w*|crani\w*|skull|neuro\w*|encephal\w*|intracran\w*|kopf|sch[aä]e?del\w*|hirn|gehirn|"
    r"t[eê]te|cerveau|cr[aâ]ne|cabeza|cerebro|cr[aá]neo|flair|pituitary|hypophys\w*|glioma",
    "OTHER": r"spine|spinal|cervical|thora\w*|lumbar|sacr\w*|neck|chest|lung|abdom\w*|liver|renal|kidney|pelvi\w*|"
    r"prostat\w*|breast|mamm\w*|heart|cardiac|knee|hip|shoulder|wrist|ankle|foot|elbow|hand|femur|tibia|wirbel\w*|bauch|becken|knie",
}  # fmt: skip


@dataclass(frozen=True)
class Coverage:
    """Empty `reasons`: the images are within what the model was measured on."""

    reasons: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return not self.reasons


def by_header(card: ModelCard, stack: Stack) -> Coverage:
    """What headers and geometry alone tell, before anything is decoded; one reason is enough."""
    first = stack.members[0][0]
    slices, rows, columns = stack.shape
    need = max(_LEAST_SLICES, card.calibration.run)
    part = body_part_of(stack)
    reason = None
    if first.sop_class_uid.startswith(_SECONDARY_CAPTURE):
        reason = "a secondary capture (screenshot) is not what a scanner measured"
    elif first.samples != 1 or not first.photometric.startswith("MONOCHROME"):
        reason = f"{first.photometric or 'colour'} image; only grey images are analysed"
    elif first.modality not in card.modalities:
        reason = f"modality {first.modality or 'unknown'}; {card.name} covers {', '.join(card.modalities)}"
    elif "MOSAIC" in first.image_type:
        reason = "a mosaic of many slices in one image"
    elif part not in card.body_parts:
        reason = f"body part {part or 'not stated'}; {card.name} covers {', '.join(card.body_parts)}"
    elif any(instance.lossy == "01" or instance.transfer_syntax in _LOSSY_SYNTAXES for instance in stack.instances):
        reason = f"lossy compression in its history; {card.name} was not calibrated for it"
    elif not stack.is_in_order:
        reason = next(
            problem.text
            for problem in stack.problems
            if problem.kind in (ProblemKind.SAME_PLACE, ProblemKind.UNKNOWN_ORDER)
        )
    elif slices < need:
        reason = f"{slices} slice{'s' if slices > 1 else ''}; at least {need} of one orientation are needed"
    elif not card.covers(rows, columns):
        reason = f"matrix {rows}×{columns}; {card.name} covers {card.min_matrix} to {card.max_matrix}"
    return Coverage(() if reason is None else (reason,))


def body_part_of(stack: Stack) -> str:
    """Body Part Examined, or what study and series were called where the scanner does not say; empty when unknown.

    Contradicting words (a "T1 FLAIR spine") are no evidence.
    """
    first = stack.members[0][0]
    if first.body_part:
        words = re.split(r"[^A-Z]+", first.body_part)
        return "HEAD" if set(words) & {"HEAD", "SKULL", "CRANIUM"} else "BRAIN" if "BRAIN" in words else first.body_part
    return "HEAD" if _regions_in(first.words) == {"HEAD"} else ""


def names_no_body_part(stack: Stack) -> bool:
    """Whether neither Body Part Examined nor any description says what the images show."""
    first = stack.members[0][0]
    return not first.body_part and not _regions_in(first.words)


def as_if_of(stack: Stack, body_part: str) -> Stack:
    """The stack as it would be if its headers named a body part; to ask whether a model covers it, for nothing else."""
    return replace(
        stack, members=tuple((replace(instance, body_part=body_part), index) for instance, index in stack.members)
    )


def _regions_in(words: str) -> set[str]:
    spaced = re.sub(r"[_^\d]", " ", words)
    return {
        name for name, pattern in _REGION_WORDS.items() if re.search(rf"(?<![a-zäé])(?:{pattern})(?![a-z])", spaced)
    }


def is_localiser(stack: Stack) -> bool:
    """A few planning slices that nobody reads: not analysed, and no reason to withhold a verdict on the others."""
    return stack.shape[0] < 16 and "LOCALIZER" in stack.members[0][0].image_type
