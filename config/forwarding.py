"""The settings of what goes on to other archives as it came, and of storage commitment."""

from datetime import timedelta
from typing import Literal

from pydantic import Field

from config.section import Section
from config.values import AeTitle, Age, Bytes, Count, PositiveSeconds, Seconds


class Route(Section):
    """What is passed on to one destination."""

    destination: str = Field(description="Name of one of `destinations`.")
    sources: tuple[AeTitle, ...] = Field(
        (), description="Calling AE titles whose instances are passed on; empty: everybody's."
    )
    back_to_sender: bool = Field(
        False, description="Also what came from the destination itself, that is under its AE title."
    )


class Forwarding(Section):
    """The gateway as a router in line: every instance that comes in is passed on byte for byte, before any analysis."""

    routes: tuple[Route, ...] = Field((), description="Where instances are passed on to; empty: nowhere.")
    contested: Literal["hold", "forward"] = Field(
        "hold",
        description="A second copy of a UID with other bytes; hold: until its pixels are compared, and not at all when "
        "they differ; forward: at once.",
    )
    interval: PositiveSeconds = Field(0.2, description="Seconds between two looks for what has come in.")
    idle_timeout: PositiveSeconds = Field(10, description="Seconds that an association is kept open for what comes.")
    attempts: Count = Field(
        3, ge=1, description="Times that a destination refuses one instance before it becomes a dead letter."
    )
    backoff: Seconds = Field(5, description="Seconds before the second attempt; doubles with each one.")
    backoff_limit: Seconds = Field(300, description="Longest pause between two attempts, seconds.")
    keep: Age = Field(timedelta(days=30), description="Age at which what was passed on leaves the list.")


class Commitment(Section):
    """Storage commitment (PS3.4 J): peers ask us whether they may delete, and destinations answer when we ask them."""

    offered: bool = Field(True, description="Whether sources may ask us.")
    max_instances: Count = Field(10_000, ge=1, le=100_000, description="Instances in one request.")
    max_requests: Count = Field(1_000, ge=1, description="Requests that wait; one more is refused for now (0x0213).")
    bytes_per_second: Bytes = Field(
        64 * 1024**2, ge=1024, description="How fast files are read again for it, so that a request costs nobody else."
    )
    timeout: PositiveSeconds = Field(30, description="Seconds to wait for each answer of a peer that is called back.")
    attempts: Count = Field(12, ge=1, description="Calls back before an answer becomes a dead letter.")
    backoff: Seconds = Field(5, description="Seconds before the second call; doubles with each one.")
    backoff_limit: Seconds = Field(900, description="Longest pause between two calls, seconds.")
    keep: Age = Field(timedelta(days=30), description="Age at which what is done with leaves the list.")
