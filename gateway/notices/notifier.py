"""The notifier of one channel: finds what there is to tell, and tells it until its receiver has confirmed."""

import random
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog

from config import Settings
from config.settings import Notification
from gateway.alerts import Webhook
from gateway.app import App, CannotStart
from gateway.notices.channel import Channel, NotTaken
from gateway.notices.email import EmailChannel
from gateway.notices.hl7 import Hl7Channel
from gateway.notices.message import Message, Patient, message_of, patient_in
from gateway.notices.webhook import WebhookChannel
from storage.notices import (
    due_notices,
    image_of,
    plan_notices,
    put_off_channel,
    record_not_told,
    record_of,
    record_told,
    something_new,
)
from storage.tables import Notice

log = structlog.get_logger(__name__)

JITTER = 0.25
# From the least grave one on.
_VERDICTS = ("REVIEW", "SUSPECT")
_PAGE = 100
_LONGEST_REASON = 200


class Notifier:
    """Call it by the clock, from one process at a time; each call tells what is due."""

    def __init__(
        self,
        app: App,
        channel: Channel,
        *,
        going_on: Callable[[], bool] = lambda: True,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._app = app
        self._channel = channel
        self._going_on = going_on
        self._clock = clock
        self._chosen: Notification = app.settings.notification

    def __call__(self) -> None:
        self._plan()
        with self._app.database.reading() as session:
            due = due_notices(session, self._channel.name, self._clock(), _PAGE)
        for notice in due:
            if not self._going_on() or not self._tell(notice):
                return

    def _plan(self) -> None:
        with self._app.database.reading() as session:
            if not something_new(session, self._channel.name):
                return
        verdicts = _VERDICTS[_VERDICTS.index(self._chosen.minimum_verdict) :]
        with self._app.database.transaction() as session:
            plan_notices(session, self._channel.name, verdicts, now=self._clock())

    def _tell(self, notice: Notice) -> bool:
        """Whether the receiver is there, for the next one."""
        message = self._message(notice)
        if message is None:
            with self._app.database.transaction() as session:
                record_not_told(session, notice.id, "the ledger no longer holds what it is about", None)
            return True
        story = log.bind(channel=self._channel.name, study_uid=notice.study_uid, attempt=notice.attempts + 1)
        try:
            self._channel.tell(message)
        except NotTaken as fault:
            self._not_told(notice, fault, story)
            return fault.refused
        with self._app.database.transaction() as session:
            record_told(session, notice.id, now=self._clock())
        story.info("a verdict is told")
        return True

    def _not_told(self, notice: Notice, fault: NotTaken, story: structlog.typing.FilteringBoundLogger) -> None:
        now, reason = self._clock(), str(fault)[:_LONGEST_REASON]
        pause = min(self._chosen.backoff_limit, self._chosen.backoff * 2.0 ** min(notice.attempts, 64))
        until = now + timedelta(seconds=pause * random.uniform(1 - JITTER, 1 + JITTER))  # noqa: S311 - no secret
        spent = fault.refused and notice.refusals + 1 >= self._chosen.attempts
        dead = spent or now - notice.planned_at > self._chosen.give_up_after
        with self._app.database.transaction() as session:
            record_not_told(session, notice.id, reason, None if dead else until, refused=fault.refused)
            if not fault.refused:
                put_off_channel(session, self._channel.name, until)
        if dead:
            story.error("a verdict cannot be told and is given up; `scanwarden retry`", reason=reason)
        else:
            story.warning("a verdict is not told yet", reason=reason, next_attempt_seconds=round(pause, 1))

    def _message(self, notice: Notice) -> Message | None:
        with self._app.database.reading() as session:
            record = record_of(session, notice)
            path = image_of(session, notice.study_uid) if self._channel.include_patient else None
        if record is None:
            return None
        return message_of(record, self._app.settings.dicom.ae_title, self._patient(path))

    def _patient(self, path: str | None) -> Patient | None:
        if path is None:
            return None
        try:
            return patient_in(self._app.store.locate(path))
        except OSError:  # the verdict matters more than the name
            log.warning("an image's header cannot be read for a notice", channel=self._channel.name)
            return None


def notifiers(app: App, going_on: Callable[[], bool] = lambda: True) -> list[Notifier]:
    """Those that the settings describe. Raises CannotStart when a file that they need cannot be read."""
    try:
        return [Notifier(app, channel, going_on=going_on) for channel in _channels(app.settings)]
    except OSError as fault:
        raise CannotStart(f"notification: a file cannot be read ({fault})") from fault


def _channels(settings: Settings) -> list[Channel]:
    chosen, made = settings.notification, list[Channel]()
    if chosen.webhook is not None:
        webhook = Webhook(chosen.webhook.url, timeout=chosen.webhook.timeout, authorities=chosen.webhook.authorities)
        secret = chosen.webhook.secret_file.read_bytes().strip()
        made.append(WebhookChannel(webhook, secret, include_patient=chosen.webhook.include_patient))
    if chosen.hl7 is not None:
        hl7 = chosen.hl7
        made.append(
            Hl7Channel(
                hl7.host,
                hl7.port,
                timeout=hl7.timeout,
                tls=_trusting(hl7.authorities) if hl7.tls else None,
                facilities=(hl7.sending_facility, hl7.receiving_application, hl7.receiving_facility),
                include_patient=hl7.include_patient,
            )
        )
    if chosen.email is not None:
        email = chosen.email
        user, file = email.user, email.password_file
        made.append(
            EmailChannel(
                email.host,
                email.port,
                email.sender,
                email.recipients,
                timeout=email.timeout,
                tls=_trusting(email.authorities) if email.starttls else None,
                login=None if user is None or file is None else lambda: (user, file.read_text("utf-8").strip()),
                include_patient=email.include_patient,
            )
        )
    return made


def _trusting(authorities: Path | None) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=authorities)
