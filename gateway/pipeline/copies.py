"""What the analyse role says of copies: where two of one UID differ, and which pixels came before under another UID."""

from collections.abc import Sequence
from pathlib import Path

from gateway.decoding import DecodingProcess
from gateway.decoding.process import DecoderDied
from inference.findings import Observation, Severity
from storage import PixelsUnreadable
from storage.audit.events import Detail
from storage.copies import Repeated

SAME_PIXELS = "same-pixels-other-uid"
_MOST_NAMED = 20


def difference_of(decoding: DecodingProcess, first: Path | None, other: Path) -> dict[str, Detail]:
    """For the ledger: the region in which the pixels of two copies differ, or why it cannot be told.

    Rows and columns are half-open ranges around all differing pixels, frames are counted from 1. `first` is None when
    its file is past its age.
    """
    if first is None:
        return {"difference": "the file of the first copy was deleted for its age; the digests differ"}
    try:
        found = decoding.difference(first, other)
    except (PixelsUnreadable, DecoderDied):
        return {"difference": "one of the copies cannot be decoded"}
    if found.note:
        return {"difference": found.note}
    if found.region is None:
        return {"difference": "the same pixels at another place, or no pixels at all"}
    row0, column0, row1, column1 = found.region.box
    frames = found.region.frames
    return {
        "difference": f"rows {row0} to {row1 - 1}, columns {column0} to {column1 - 1}, {_frames(frames)}",
        "difference_rows": [row0, row1],
        "difference_columns": [column0, column1],
        "difference_frames": list(frames[:_MOST_NAMED]),
        "difference_frame_count": len(frames),
        "difference_pixels": found.region.pixels,
        "largest_difference": found.region.largest,
    }


def repeats_observed(repeated: Sequence[Repeated]) -> tuple[Observation, ...]:
    """The observations of a report: within the study for information, from another study for a look."""
    return tuple(
        _observation([each for each in repeated if each.elsewhere is elsewhere], elsewhere=elsewhere)
        for elsewhere in (False, True)
        if any(each.elsewhere is elsewhere for each in repeated)
    )


def _observation(repeated: Sequence[Repeated], *, elsewhere: bool) -> Observation:
    where = "in another study" if elsewhere else "in this study"
    count = f"{len(repeated)} images show" if len(repeated) != 1 else "One image shows"
    return Observation(
        rule=SAME_PIXELS,
        severity=Severity.WARNING if elsewhere else Severity.INFO,
        text=f"{count} the very pixels, at the very place, that arrived before under another UID {where}.",
        evidence={
            "count": len(repeated),
            "first_studies": sorted({each.first_study_uid for each in repeated})[:_MOST_NAMED],
            "first_instances": [each.first_sop_instance_uid for each in repeated[:_MOST_NAMED]],
        },
        sop_instance_uids=tuple(each.sop_instance_uid for each in repeated),
    )


def _frames(frames: Sequence[int]) -> str:
    return f"frame {frames[0]}" if len(frames) == 1 else f"{len(frames)} frames from {frames[0]} to {frames[-1]}"
