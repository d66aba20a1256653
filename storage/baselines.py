"""What each scanner always writes, as the analyse role learnt it, and which studies taught it.

A baseline is JSON that only `inference.provenance` reads. Devices are named by `Origin.device`, a digest: no serial
number is here. A study teaches a device each kind of image once, however often it is repeated or analysed again.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from storage.tables import DeviceBaseline, Lesson

_ASKED = 500  # devices in one query: databases limit its parameters, and a header may name any scanner


def baselines_of(session: Session, devices: Iterable[str]) -> dict[str, dict[str, Any]]:
    """What is known of these devices; one that no study taught is absent."""
    found, asked = {}, list(devices)
    for start in range(0, len(asked), _ASKED):
        query = select(DeviceBaseline).where(DeviceBaseline.device.in_(asked[start : start + _ASKED]))
        found.update({row.device: row.baseline for row in session.scalars(query)})
    return found


def kinds_taught(session: Session, device: str, study_uid: str) -> frozenset[str]:
    """The kinds of image that this study has taught the device's baseline already."""
    lesson = session.get(Lesson, (device, study_uid))
    return frozenset(lesson.kinds) if lesson is not None else frozenset()


def save_baseline(
    session: Session,
    device: str,
    baseline: Mapping[str, Any],
    *,
    study_uid: str,
    kinds: Iterable[str],
    now: datetime | None = None,
) -> DeviceBaseline:
    """Keep a baseline that `study_uid` has taught these `kinds`.

    To be called in the transaction that asked `baselines_of` and `kinds_taught`: what another process learns in between
    would be lost.
    """
    moment = now or datetime.now(UTC)
    row = session.get(DeviceBaseline, device)
    if row is None:
        row = DeviceBaseline(device=device, baseline={}, studies=0, updated_at=moment)
        session.add(row)
        session.flush()  # the lesson names it
    row.baseline, row.updated_at = dict(baseline), moment
    lesson = session.get(Lesson, (device, study_uid))
    if lesson is None:
        session.add(Lesson(device=device, study_uid=study_uid, kinds=sorted(kinds)))
        row.studies += 1
    else:
        lesson.kinds = sorted({*lesson.kinds, *kinds})
    return row


def forget_baseline(session: Session, device: str) -> None:
    """Begin anew with a device: its baseline cannot be read, or its software writes other headers now."""
    session.execute(delete(Lesson).where(Lesson.device == device))
    session.execute(delete(DeviceBaseline).where(DeviceBaseline.device == device))
