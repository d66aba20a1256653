"""Prior studies by rule: searched for and fetched behind the analyses, so many for a patient and in an hour.

Every step is a row that waits for its time (storage/priors.py), so a crash repeats a step and loses none. What is
fetched bears its mark before it arrives: it comes in as routine, and never asks for its own priors.
"""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import structlog

from gateway.app import App
from gateway.dicom.query import NotExact
from gateway.dicom.scu import SendError
from gateway.fetching.fetching import Fetcher, NotFetched, OtherPatient
from gateway.fetching.patient import Patient, is_all_of
from gateway.fetching.priors import NoPatient, find_priors, header_of
from gateway.fetching.questions import chosen_archive
from gateway.pipeline.routing import route_of
from gateway.verification.archive import AnyArchive, NoSuchArchive
from gateway.verification.budget import Pace, Stopped
from gateway.verification.checking import ArchiveBusy
from storage import NotFound, role_actor
from storage.priors import (
    ask_for,
    asked_of_patient,
    begin_search,
    begun_since,
    end_search,
    finish_prior,
    next_prior,
    next_search,
    put_off,
    revisions_to_judge,
)
from storage.studies import revision_contents
from storage.tables import Prior, PriorSearch, PriorState

log = structlog.get_logger(__name__)

ACTOR = role_actor("timetable")
LOOK_BACK = timedelta(days=1)  # far longer than a timetable is away; a rule that is new asks for no old study
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


class PriorsByRule:
    """Call it again and again: each call judges what was closed, makes one search and one fetch."""

    def __init__(
        self,
        app: App,
        stop: threading.Event,
        *,
        archive: AnyArchive | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Raises NoSuchArchive when the settings name none that exists."""
        self._app, self._now, self._limits = app, now, app.settings.priors
        self._archive = archive or chosen_archive(app.settings)
        pace = Pace(app.settings.verification.instances_per_second, wait=stop.wait)
        self._fetcher = Fetcher(app, self._archive, actor=ACTOR, pace=pace)

    def __call__(self) -> None:
        self.judge()
        self.search()
        try:
            self.fetch()
        except (ArchiveBusy, Stopped):
            return  # its time has come, and it stays so

    def judge(self) -> None:
        """Write down what the rules ask for at the close of each revision that nobody has looked at."""
        with self._app.database.reading() as session:
            closed = [each.id for each in revisions_to_judge(session, self._now() - LOOK_BACK)]
        for revision_id in closed:
            with self._app.database.reading() as session:
                instances = revision_contents(session, revision_id).instances
            wanted = route_of(self._app, instances).priors
            with self._app.database.transaction() as session:
                begin_search(session, revision_id, wanted, now=self._now())

    def search(self) -> None:
        """Ask the archive for the priors of one study."""
        with self._app.database.reading() as session:
            search = next_search(session, self._now())
        if search is None:
            return
        try:
            found = find_priors(self._app, self._archive, search.study_uid, actor=ACTOR)
        except (NotFound, NoPatient, NotExact) as fault:
            with self._app.database.transaction() as session:
                end_search(session, search.revision_id, str(fault), now=self._now())
            return
        except SendError as fault:
            self._again(search, str(fault))
            return
        now = self._now()
        with self._app.database.transaction() as session:
            room = self._limits.per_patient - asked_of_patient(session, found.digest, now - DAY, actor=ACTOR)
            left = 0
            for rank, each in enumerate(found.studies[: search.wanted]):
                if room <= 0:
                    left += 1
                    continue
                prior = ask_for(
                    session,
                    search.study_uid,
                    each.study_uid,
                    patient=found.digest,
                    archive=self._archive.name,
                    actor=ACTOR,
                    now=now + timedelta(microseconds=rank),  # they come in the order of the list
                )
                room -= prior.state is PriorState.WAITING
            words = f"{left} prior studies are left out: priors.per_patient" if left else None
            end_search(session, search.revision_id, words, now=now)

    def fetch(self) -> None:
        """Fetch one prior study, if the hour allows it. Raises ArchiveBusy and Stopped."""
        now = self._now()
        with self._app.database.reading() as session:
            prior = next_prior(session, now, actor=ACTOR)
            if prior is None or begun_since(session, now - HOUR, actor=ACTOR) >= self._limits.studies_per_hour:
                return
        try:
            patient = header_of(self._app, prior.study_uid).patient
        except (NotFound, NoPatient) as fault:
            self._end(prior, PriorState.DEAD, failure=str(fault))
            return
        with self._app.database.transaction() as session:
            session.get_one(Prior, (prior.study_uid, prior.prior_uid)).begun_at = now
        self._fetch(prior, patient)

    def _fetch(self, prior: Prior, patient: Patient) -> None:
        try:
            got = self._fetcher.into_gateway(
                prior.prior_uid, accept=lambda files: is_all_of(patient, files), because_of=prior.study_uid
            )
        except OtherPatient as fault:
            self._end(prior, PriorState.REFUSED, failure=str(fault))
            log.warning("a prior study is not of the patient", study_uid=prior.study_uid, prior_uid=prior.prior_uid)
        except (SendError, NotFetched) as fault:
            self._again(prior, str(fault))
        else:
            if not got.is_whole or not got.taken:
                missing = len(got.not_sent) + len(got.refused)
                self._again(prior, f"{missing} of {got.listed} instances did not come, or were refused", got.taken)
                return
            self._end(prior, PriorState.FETCHED, instances=got.taken)
            log.info(
                "a prior study is fetched",
                study_uid=prior.study_uid,
                prior_uid=prior.prior_uid,
                instances=got.taken,
            )

    def _again(self, row: PriorSearch | Prior, failure: str, taken: int = 0) -> None:
        with self._app.database.transaction() as session:
            own: PriorSearch | Prior
            if isinstance(row, PriorSearch):
                own = session.get_one(PriorSearch, row.revision_id)
            else:
                own = session.get_one(Prior, (row.study_uid, row.prior_uid))
            given_up = put_off(own, failure, attempts=self._limits.attempts, now=self._now())
            if isinstance(own, Prior):
                own.instances = taken
        log.warning(
            "prior studies are not to be had" if given_up else "prior studies wait for the next attempt",
            study_uid=row.study_uid,
            reason=failure,
        )

    def _end(self, prior: Prior, state: PriorState, *, instances: int = 0, failure: str | None = None) -> None:
        with self._app.database.transaction() as session:
            finish_prior(
                session,
                prior.study_uid,
                prior.prior_uid,
                state,
                instances=instances,
                failure=failure,
                now=self._now(),
            )


def priors_by_rule(app: App, stop: threading.Event) -> PriorsByRule | None:
    """The job, where a rule asks for priors and there is an archive to ask."""
    if not any(rule.priors for rule in app.settings.rules):
        return None
    try:
        return PriorsByRule(app, stop)
    except NoSuchArchive as fault:
        log.warning("no prior studies are fetched", reason=str(fault))
        return None
