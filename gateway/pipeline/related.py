"""What the analyse role says of a patient's other studies: which of them are here, and what became of them."""

from collections.abc import Sequence

import structlog

from gateway.app import App
from gateway.fetching.patient import read_header
from inference.findings import Observation, Severity
from storage import StoreFault
from storage.patients import note_patient, patient_key
from storage.priors import KnownPrior
from storage.tables import Instance

log = structlog.get_logger(__name__)

PRIORS_KNOWN = "prior-studies-known"
_MOST_NAMED = 10


def note_whose(app: App, study_uid: str, instances: Sequence[Instance]) -> None:
    """Keep the digest of the study's patient, from the first header that can be read; nothing where it says too little.

    A key that cannot be read costs this note, and no analysis. Raises DatabaseUnavailable.
    """
    headers = (read_header(app.store.locate(each.path)) for each in instances)
    header = next((each for each in headers if each is not None), None)
    try:
        digest = header.patient.digest(patient_key(app.store.root)) if header is not None else None
    except StoreFault as fault:
        log.warning("prior studies cannot be told", reason=str(fault))
        return
    if digest is not None:
        with app.database.transaction() as session:
            note_patient(session, study_uid, digest)


def priors_observed(known: Sequence[KnownPrior]) -> tuple[Observation, ...]:
    """For information: nothing that is said here changes a verdict."""
    if not known:
        return ()
    newest = known[-_MOST_NAMED:]
    verdicts = ", ".join(f"{each.study_uid} ({each.verdict or 'no verdict yet'})" for each in newest)
    count = f"{len(known)} prior studies" if len(known) != 1 else "One prior study"
    more = f"; the newest {_MOST_NAMED} to arrive" if len(known) > _MOST_NAMED else ""
    return (
        Observation(
            PRIORS_KNOWN,
            Severity.INFO,
            f"{count} of this patient known here{more}: {verdicts}.",
            {
                "count": len(known),
                "studies": [each.study_uid for each in newest],
                "verdicts": [each.verdict for each in newest],
            },
        ),
    )
