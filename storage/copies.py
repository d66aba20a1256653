"""Pixels that an earlier instance showed under another UID: found by their digest, told in the ledger once.

The digest covers the geometry as well (storage.digests), so that an empty slice here is not one there.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session, aliased

from storage.audit.events import AuditEventType, AuditOutcome, Detail, role_actor
from storage.studies import note, revision_of
from storage.tables import Instance, InstanceKind, InstanceState

_ANALYSE = role_actor("analyse")
_COUNTED = (InstanceState.STORED, InstanceState.EXPIRED)
_AT_ONCE = 500
_MOST_NAMED = 20  # in one record


@dataclass(frozen=True, slots=True)
class Repeated:
    """An instance, and the one that came before it with the same pixels at the same place."""

    sop_instance_uid: str
    study_uid: str
    first_sop_instance_uid: str
    first_study_uid: str

    @property
    def elsewhere(self) -> bool:
        """Whether the first one belongs to another study."""
        return self.study_uid != self.first_study_uid


def repeated_pixels(session: Session, instance_ids: Collection[int]) -> list[Repeated]:
    """Which of these images, by their numbers, show what an earlier one showed; the earliest of another study first."""
    earlier = aliased(Instance)
    found: dict[str, Repeated] = {}
    ids = sorted(instance_ids)
    for start in range(0, len(ids), _AT_ONCE):
        query = (
            select(Instance.sop_instance_uid, Instance.study_uid, earlier.sop_instance_uid, earlier.study_uid)
            .join(earlier, earlier.pixel_sha256 == Instance.pixel_sha256)
            .where(
                Instance.id.in_(ids[start : start + _AT_ONCE]),
                Instance.kind == InstanceKind.IMAGE,
                earlier.kind == InstanceKind.IMAGE,
                earlier.id < Instance.id,
                earlier.sop_instance_uid != Instance.sop_instance_uid,
                Instance.state.in_(_COUNTED),
                earlier.state.in_(_COUNTED),
            )
            .order_by(Instance.id, earlier.id)
        )
        for uid, study, first, first_study in session.execute(query):
            each = Repeated(uid, study, first, first_study)
            if uid not in found or (each.elsewhere and not found[uid].elsewhere):
                found[uid] = each
    return list(found.values())


def note_repeated_pixels(
    session: Session, revision_id: int, instance_ids: Collection[int], *, actor: str = _ANALYSE
) -> Sequence[Repeated]:
    """Tell the ledger of those whose digests were taken in this transaction: one record for each way of repeating.

    Within a study it happens to every series that is sent again under new UIDs; across studies somebody should look.
    """
    found = repeated_pixels(session, instance_ids)
    for elsewhere in (False, True):
        some = [each for each in found if each.elsewhere is elsewhere]
        if not some:
            continue
        details: dict[str, Detail] = {
            "count": len(some),
            "other_study": elsewhere,
            "instances": [each.sop_instance_uid for each in some[:_MOST_NAMED]],
            "first_instances": [each.first_sop_instance_uid for each in some[:_MOST_NAMED]],
            "first_studies": sorted({each.first_study_uid for each in some})[:_MOST_NAMED],
        }
        note(
            session,
            revision_of(session, revision_id),
            AuditEventType.PIXELS_REPEATED,
            actor=actor,
            outcome=AuditOutcome.MINOR_FAILURE if elsewhere else AuditOutcome.SUCCESS,
            details=details,
        )
    return found
