"""What each scanner always writes, as the analyse role learnt it, and which studies taught it.

A baseline is JSON that only `inference.provenance` reads. Devices are named by `Origin.device`, a digest: no serial
number is here. A study teaches a device each kind of image once, however often it is repeated or analysed again.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from storage.audit.events import AuditEvent, AuditEventType, Detail
from storage.audit.ledger import append
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


def known_devices(session: Session, beginning: str = "") -> Sequence[DeviceBaseline]:
    """The baselines of devices whose digest begins so; the one that learnt last comes first."""
    query = select(DeviceBaseline).where(DeviceBaseline.device.startswith(beginning, autoescape=True))
    return session.scalars(query.order_by(DeviceBaseline.updated_at.desc(), DeviceBaseline.device)).all()


def forget_baseline(session: Session, device: str, *, actor: str, reason: str) -> bool:
    """Begin anew with a device: its baseline cannot be read, or its software writes other headers now.

    False, and no record, where nothing was known: whoever makes the rules on a device forget is told to security.
    """
    row = session.get(DeviceBaseline, device)
    if row is None:
        return False
    studies = row.studies
    session.execute(delete(Lesson).where(Lesson.device == device))
    session.delete(row)
    session.flush()
    details: dict[str, Detail] = {"device": device, "studies": studies, "reason": reason}
    append(session, [AuditEvent(AuditEventType.BASELINE_FORGOTTEN, actor, subject=device, details=details)])
    return True
