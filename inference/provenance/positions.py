"""What a header says about places, against the places (PS3.3 C.7.6.2): who edits one forgets the other."""

from collections.abc import Iterator

import numpy as np

from inference.findings import Observation, Severity
from inference.geometry import places
from inference.provenance.rules import StudyFacts, rule
from inference.provenance.wording import count, short, uids
from inference.volume import Stack

_SLIP = 0.3  # mm; positions are written with fewer digits than they are known
_SHARE = 0.05  # of the distance between slices


@rule
def slice_location_follows_position(facts: StudyFacts) -> Iterator[Observation]:
    """Slice Location runs along the stack, whatever its origin and direction: a slice off that line was moved."""
    for stack in _placed(facts, 4):
        pairs = [
            (instance, at)
            for (instance, index), at in zip(
                stack.members, places([one.frames[index] for one, index in stack.members]), strict=True
            )
            if instance.origin.slice_location is not None and index == 0 and len(instance.frames) == 1
        ]
        if len(pairs) < 4 or len(pairs) < len(stack.members):
            continue
        said = np.array([float(instance.origin.slice_location or 0.0) for instance, _ in pairs])
        found = np.array([at for _, at in pairs])
        if np.ptp(said) < _SLIP:
            continue
        # Median differences, so that one moved slice does not bend the line; the sign is the maker's choice.
        off = min(
            (np.abs((said - sign * found) - np.median(said - sign * found)) for sign in (1.0, -1.0)),
            key=lambda each: float(np.median(each)),
        )
        slack = max(_SLIP, _SHARE * float(np.median(np.abs(np.diff(np.sort(found))))))
        if float(np.median(off)) > slack:
            continue  # another reference line: said of all slices, not of one
        wrong = [pairs[int(index)][0] for index in np.flatnonzero(off > slack)]
        if wrong:
            yield Observation(
                "slice-location-differs",
                Severity.WARNING,
                f"{count(len(wrong))} of {short(stack.series_uid)} {'says' if len(wrong) == 1 else 'say'} another "
                "place in "
                "Slice Location than in Image Position: slices were moved or exchanged; fetch the series from the "
                "scanner",
                {"series_uid": stack.series_uid, "largest_mm": round(float(off.max()), 2)},
                uids(wrong),
            )


@rule
def slices_lie_on_one_line(facts: StudyFacts) -> Iterator[Observation]:
    """Image Position moves along one line, oblique under gantry tilt: a slice beside it was put there."""
    for stack in _placed(facts, 4):
        frames = [instance.frames[index] for instance, index in stack.members]
        positions = np.array([frame.position for frame in frames], np.float64)
        at = places(frames)
        if np.ptp(at) < _SLIP:
            continue
        steps = np.diff(positions, axis=0) / np.maximum(np.diff(at), 1e-6)[:, np.newaxis]
        direction = np.median(steps, axis=0)
        beside = positions - np.outer(at, direction)
        off = np.linalg.norm(beside - np.median(beside, axis=0), axis=1)
        pixel = min(frames[0].spacing or (1.0, 1.0))
        wrong = [stack.members[int(index)][0] for index in np.flatnonzero(off > max(_SLIP, 0.5 * pixel))]
        if wrong and 2 * len(wrong) < len(frames):
            yield Observation(
                "beside-the-stack",
                Severity.WARNING,
                f"{count(len(wrong))} of {short(stack.series_uid)} lie{'s' if len(wrong) == 1 else ''} beside the "
                "line of "
                "the others: it may come from another series; compare with the scanner",
                {"series_uid": stack.series_uid, "largest_mm": round(float(off.max()), 2)},
                uids(wrong),
            )


@rule
def spacing_is_what_is_said(facts: StudyFacts) -> Iterator[Observation]:
    """Spacing Between Slices against the step of positions; some makers mean the gap, so this is no blame."""
    for stack in _placed(facts, 3):
        said = stack.members[0][0].origin.spacing_between
        step = stack.geometry.spacing[0] if stack.geometry is not None else 0.0
        thickness = stack.members[0][0].frames[0].thickness or 0.0
        if not said or not step:
            continue
        if min(abs(abs(said) - step), abs(abs(said) + thickness - step)) > max(_SLIP, _SHARE * step):
            yield Observation(
                "spacing-differs",
                Severity.INFO,
                f"{short(stack.series_uid)} says {abs(said):.2f} mm between slices, its positions say {step:.2f} "
                "mm: slices "
                "may have been taken out regularly, or the volume was resampled",
                {"series_uid": stack.series_uid, "said_mm": round(abs(said), 3), "found_mm": round(step, 3)},
                uids(stack.instances)[:1],
            )


def _placed(facts: StudyFacts, least: int) -> Iterator[Stack]:
    for stack in facts.stacks:
        if len(stack.members) >= least and all(
            instance.frames[at].position is not None for instance, at in stack.members
        ):
            yield stack
