"""The measures themselves. Their names and labels are what dashboards rely on: docs/operation.md lists them.

A label only takes values that we know beforehand: reasons from our own code, AE titles of configured sources. What
comes in spite of that shares the label `other` from the 64th value on.
"""

from enum import StrEnum

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

REGISTRY = CollectorRegistry()
OTHER = "other"
MOST_VALUES = 64
_FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
_SLOW = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900, 3600, 14400)


class Stage(StrEnum):
    """The parts of a study's way that are timed."""

    RECEIVE = "receive"  # last byte of an instance → acknowledged
    QUIET = "quiet"  # last instance of a revision → closed
    QUEUE = "queue"  # closed → its analysis begins
    ANALYSIS = "analysis"
    ENCODING = "encoding"
    DELIVERY = "delivery"  # planned → delivered, one evidence object


_INSTANCES = Counter(
    "scanwarden_instances", "Instances that were acknowledged.", ("outcome", "kind", "source"), registry=REGISTRY
)
_BYTES = Counter(
    "scanwarden_received_bytes", "Bytes of acknowledged instances.", ("outcome", "kind", "source"), registry=REGISTRY
)
_REFUSED_INSTANCES = Counter(
    "scanwarden_instances_refused", "Instances that were refused.", ("reason",), registry=REGISTRY
)
_ASSOCIATIONS = Counter("scanwarden_associations", "Associations that were accepted.", ("source",), registry=REGISTRY)
_OPEN = Gauge("scanwarden_associations_open", "Associations that are open.", registry=REGISTRY)
_REFUSED_ASSOCIATIONS = Counter(
    "scanwarden_associations_refused", "Associations and connections that were refused.", ("reason",), registry=REGISTRY
)
_STAGES = Histogram("scanwarden_stage_seconds", "Time that a stage took.", ("stage",), buckets=_SLOW, registry=REGISTRY)
_WRITE_WAIT = Histogram(
    "scanwarden_database_write_wait_seconds", "Time until a writer had its turn.", buckets=_FAST, registry=REGISTRY
)
_DEATHS = Counter("scanwarden_role_restarts", "Deaths of a role's process.", ("role",), registry=REGISTRY)


class Counters:
    """One counter by its labels, found with one look into a dictionary: the receive path pays for every instance."""

    def __init__(self, measure: Counter) -> None:
        self._measure = measure
        self._found: dict[tuple[str, ...], Counter] = {}

    def of(self, *values: str) -> Counter:
        child = self._found.get(values)
        if child is None:
            if len(self._found) >= MOST_VALUES:
                values = (*values[:-1], OTHER)  # the last label is the one that others could fill
            child = self._found[values] = self._measure.labels(*values)
        return child


_instances, _bytes = Counters(_INSTANCES), Counters(_BYTES)
_refused_instances, _refused_associations = Counters(_REFUSED_INSTANCES), Counters(_REFUSED_ASSOCIATIONS)
_associations = Counters(_ASSOCIATIONS)
_stages = {stage: _STAGES.labels(stage.value) for stage in Stage}


def instance_received(outcome: str, kind: str, source: str | None, size: int, seconds: float) -> None:
    """An instance was acknowledged, `seconds` after its last byte; `source`: the configured one's AE title."""
    _instances.of(outcome, kind, source or OTHER).inc()
    _bytes.of(outcome, kind, source or OTHER).inc(size)
    _stages[Stage.RECEIVE].observe(seconds)


def instance_refused(reason: str) -> None:
    """An instance was refused; `reason` as the ledger has it."""
    _refused_instances.of(reason).inc()


def association_opened(source: str | None) -> None:
    """An association was admitted; `source`: the configured one's AE title."""
    _associations.of(source or OTHER).inc()
    _OPEN.inc()


def association_closed() -> None:
    """An admitted association ended."""
    _OPEN.dec()


def association_refused(reason: str) -> None:
    """An association or a connection was refused; `reason` as the ledger has it."""
    _refused_associations.of(reason).inc()


def stage_took(stage: Stage, seconds: float) -> None:
    """A stage of a study's way is over. A clock that was set back counts as no time."""
    _stages[stage].observe(max(0.0, seconds))


def write_waited(seconds: float) -> None:
    """A writer had to wait for its turn at the database."""
    _WRITE_WAIT.observe(seconds)


def role_died(role: str) -> None:
    """A role's process died and is started again."""
    _DEATHS.labels(role).inc()
