"""Many associations at once and many small instances: response times, errors, and the memory of all our processes."""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.ingest.receivers import Conditions, Receiver, ours
from tests.synthetic import SMALL, Template, new_study
from tests.wire import SUCCESS, Association, AssociationFailed, percentile

MEMORY_TARGET = 400.0  # MB over all receiver processes
EVERY = 1.0  # seconds between two looks at the memory
STUDY = 200  # instances


@dataclass
class Told:
    """What one sender was told."""

    stored: int = 0
    response_seconds: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def soak(folder: Path, *, associations: int, instances: int) -> Iterator[dict[str, Any]]:
    """Send, and say what it took."""
    limits = {"max_associations": associations + 8, "max_associations_per_source": associations + 8}
    with ours(folder, Conditions(nodelay=True, tls=None), **limits) as receiver:
        told = [Told() for _ in range(associations)]
        template = Template(*SMALL)
        senders = [
            threading.Thread(target=_send, args=(receiver, template, instances // associations, each)) for each in told
        ]
        begun = time.monotonic()
        for sender in senders:
            sender.start()
        memory, supervisor = [], 0.0
        while any(sender.is_alive() for sender in senders):
            receiving, supervising = receiver.memory()
            memory.append(receiving / 1e6)
            supervisor = max(supervisor, supervising / 1e6)
            time.sleep(EVERY)
        seconds = time.monotonic() - begun
        held = receiver.count()
    faults = [fault for each in told for fault in each.faults]
    stored = sum(each.stored for each in told)
    responses = [value for each in told for value in each.response_seconds]
    case = f"{associations} associations, {stored:,} instances of 2 KB"
    yield _row(f"{case}: rate", stored / seconds, "instances/s")
    for name, share in (("median", 0.5), ("p99", 0.99), ("longest", 1.0)):
        yield _row(f"{case}: {name} of the response", 1000 * percentile(responses, share), "ms")
    # A quarter of the way everything is warm; what grows after that would grow for ever.
    warm, late = memory[len(memory) // 4 : len(memory) // 2], memory[-max(1, len(memory) // 4) :]
    yield _row(f"{case}: memory of the receivers at its peak, RSS", max(memory), "MB", MEMORY_TARGET)
    yield _row(f"{case}: the supervisor beside them", supervisor, "MB")
    yield _row(f"{case}: growth from the second quarter to the last", max(late) - max(warm or late), "MB")
    errors = _row(f"{case}: errors", float(len(faults)), "errors", 0.0)
    if faults or held != stored:
        errors["error"] = f"{stored} acknowledged, {held} held; {'; '.join(faults[:3])}"
    yield errors


def _send(receiver: Receiver, template: Template, count: int, told: Told) -> None:
    identity = new_study()
    try:
        with Association(receiver.port, template.sop_class_uid, called=receiver.called, timeout=60) as association:
            told.response_seconds = association.response_seconds
            for number in range(1, count + 1):
                status = association.store(identity.sop_instance_uid, template.dataset(identity))
                if status != SUCCESS:
                    told.faults.append(f"status {status:#06x}")
                else:
                    told.stored += 1
                identity = identity.sibling() if number % STUDY else new_study()
    except (AssociationFailed, OSError) as fault:
        told.faults.append(str(fault))


def _row(case: str, value: float, unit: str, target: float | None = None) -> dict[str, Any]:
    row = {
        "case": case,
        "ours": round(value, 3),
        "peer": None if target is None else "target",
        "peer_value": target,
        "ratio": None if not target else round(value / target, 3),
        "unit": unit,
    }
    return row if target is None else {**row, "target": target, "met": value <= target}
