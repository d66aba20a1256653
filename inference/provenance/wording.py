"""Words that the texts of observations share."""

from collections.abc import Sequence

from inference.instances import Instance


def count(number: int) -> str:
    return "1 instance" if number == 1 else f"{number:,} instances"


def verb(number: int, one: str, many: str) -> str:
    return one if number == 1 else many


def uids(instances: Sequence[Instance]) -> tuple[str, ...]:
    return tuple(instance.sop_instance_uid for instance in instances)


def short(series_uid: str) -> str:
    """How a text calls a series; the whole UID stands in the evidence."""
    return f"series …{series_uid[-12:]}"
