"""Named places between two steps, so that a fault test can stop the service at each of them as a power cut would.

Nothing happens at a point unless a test has put its own function into `listener` (tests/faults/service.py).
"""

from collections.abc import Callable
from enum import StrEnum


class Point(StrEnum):
    """In the order in which a revision passes them."""

    REVISION_CLOSED = "revision-closed"
    REVISION_ENQUEUED = "revision-enqueued"
    ANALYSIS_BEGUN = "analysis-begun"
    ANALYSIS_WRITTEN = "analysis-written"
    ANALYSIS_RECORDED = "analysis-recorded"
    EVIDENCE_WRITTEN = "evidence-written"
    EVIDENCE_RECORDED = "evidence-recorded"
    DELIVERIES_PLANNED = "deliveries-planned"
    DELIVERIES_ENQUEUED = "deliveries-enqueued"
    DELIVERY_BEGUN = "delivery-begun"
    DELIVERY_SENT = "delivery-sent"
    DELIVERY_RECORDED = "delivery-recorded"


listener: Callable[[Point], None] | None = None


def reached(point: Point) -> None:
    """Say that a process has come to `point`."""
    if listener is not None:
        listener(point)
