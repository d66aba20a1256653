"""Waiting for a database or a disk that is not there now: work that is durable is never given up for an outage."""

import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import structlog

from storage import DatabaseUnavailable, StoreFull

log = structlog.get_logger(__name__)

RETRY_SECONDS = 2.0

P = ParamSpec("P")
R = TypeVar("R")


def patiently(function: Callable[P, R], *arguments: P.args, **named: P.kwargs) -> R:
    """Call `function` until neither database nor disk is in its way; it must be repeatable. Other errors pass."""
    while True:
        try:
            return function(*arguments, **named)
        except (DatabaseUnavailable, StoreFull) as fault:
            log.warning("waiting to go on", reason=str(fault), next_attempt_seconds=RETRY_SECONDS)
            time.sleep(RETRY_SECONDS)
