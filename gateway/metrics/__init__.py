"""What the service counts and times. Loads neither FastAPI nor the database, so that the receive path may use it.

Each process counts in its own memory and writes what it has counted to a small file every second; the web role adds the
files up (docs/decisions say why not prometheus_client's mapped files). No label holds a UID or a patient's data.
"""

from gateway.metrics.measures import (
    Stage,
    association_closed,
    association_opened,
    association_refused,
    instance_received,
    instance_refused,
    role_died,
    stage_took,
    write_waited,
)

__all__ = [
    "Stage",
    "association_closed",
    "association_opened",
    "association_refused",
    "instance_received",
    "instance_refused",
    "role_died",
    "stage_took",
    "write_waited",
]
