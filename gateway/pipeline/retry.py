"""A second chance for what was given up, when a person asks for it; a running service's sweep takes it up."""

from config import Settings
from gateway.app import build
from storage.deliveries import dead_deliveries
from storage.notices import revive_notices
from storage.studies import failed_revisions, retry_revision


def retry_failed(settings: Settings, *, actor: str, study_uid: str | None = None) -> tuple[int, int]:
    """Revive failed revisions, of one study or of all: how many are analysed again, and how many delivered again.

    Notices of verdicts that were given up are told again with them.
    """
    analyses = deliveries = 0
    with build(settings) as app, app.database.transaction() as session:
        dead = set(dead_deliveries(session, study_uid))
        for revision in failed_revisions(session, study_uid):
            retry_revision(session, revision.id, actor=actor)
            if revision.id in dead:
                deliveries += 1
            else:
                analyses += 1
        revive_notices(session, study_uid, actor=actor)
    return analyses, deliveries
