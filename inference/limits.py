"""What one analysis may use, and how far it is."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from inference.decoding import Decode, decode
from inference.errors import TimeLimitExceeded

MAX_VOXELS = 128 * 1024**2
TIME_LIMIT = 900.0


@dataclass(frozen=True)
class Progress:
    """How far an analysis is: `done` of `total` slices of `stage` ('read' or 'detect')."""

    stage: str
    done: int
    total: int


@dataclass(frozen=True)
class Limits:
    """What one analysis may use."""

    batch: int
    max_voxels: int
    ends_at: float
    progress: Callable[[Progress], None] | None
    decode: Decode = decode

    def tick(self, stage: str, done: int, total: int) -> None:
        """Say how far we are; raises TimeLimitExceeded when there is no time left."""
        if self.progress is not None:
            self.progress(Progress(stage, done, total))
        if time.monotonic() > self.ends_at:
            raise TimeLimitExceeded(
                "the time limit of the study is over; raise analysis.time_limit or use a faster device"
            )
