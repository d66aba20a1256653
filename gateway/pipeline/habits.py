"""What a study's scanners always write: known before its analysis, learnt after it when nothing speaks against it."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import structlog
from sqlalchemy.orm import Session

from inference.errors import UnreadableInstance
from inference.findings import Severity, StudyAnalysis, Verdict
from inference.instances import Instance, read_instance
from inference.provenance import Baseline, BaselineUnreadable, by_device, kinds_of
from storage import role_actor
from storage.baselines import baselines_of, forget_baseline, kinds_taught, save_baseline

log = structlog.get_logger(__name__)

Devices = Mapping[str, Sequence[Instance]]
_TEACHES = (Verdict.VERIFIED, Verdict.CLEAR, Verdict.ABSTAIN)
_MOST_DEVICES = 16  # in a study that teaches; one that invents scanners must not grow the table


def devices_of(files: Iterable[Path]) -> Devices:
    """A study's images by the scanner that made them; what cannot be read is for the analysis to name."""
    instances = []
    for file in files:
        try:
            instances.append(read_instance(file))
        except (UnreadableInstance, OSError):
            continue
    return by_device(instances)


def known_habits(session: Session, devices: Iterable[str]) -> dict[str, Baseline]:
    """The baselines of these devices; one that cannot be read says nothing."""
    known = {}
    for device, stored in baselines_of(session, devices).items():
        try:
            known[device] = Baseline.from_json(stored)
        except BaselineUnreadable as fault:
            log.warning("a device's baseline cannot be read; it is learnt anew", device=device, reason=str(fault))
    return known


def teaches(analysis: StudyAnalysis) -> bool:
    """Whether a device may be learnt from this study: an attacker's must not teach what is then found normal.

    An ABSTAIN may carry warnings: a stripped study of a kind that no model covers would teach that stripped is normal.
    """
    silent = all(each.severity is Severity.INFO for each in analysis.observations)
    return analysis.verdict in _TEACHES and silent


def learn(session: Session, analysis: StudyAnalysis, devices: Devices) -> None:
    """Let a study teach its devices, each kind of image once; in the transaction that keeps its verdict. Repeatable."""
    if not teaches(analysis) or len(devices) > _MOST_DEVICES:
        return
    known = known_habits(session, devices)
    for device, members in devices.items():
        if device not in known:
            forget_baseline(session, device, actor=role_actor("analyse"), reason="it cannot be read")
        taught = kinds_taught(session, device, analysis.study_uid)
        new = set(kinds_of(members)) - taught
        if new:
            baseline = known.get(device, Baseline()).update(members, without=taught)
            save_baseline(session, device, baseline.to_json(), study_uid=analysis.study_uid, kinds=new)
