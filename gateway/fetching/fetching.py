"""One study from an archive: one association at a time, at the pace of the settings, into the gateway or a folder."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gateway.app import App
from gateway.dicom.congestion import Congestion
from gateway.dicom.scu import SendError
from gateway.fetching.intake import opened
from gateway.verification.archive import AnyArchive, read_list
from gateway.verification.checking import Turn, drop_folder, new_folder
from storage import AuditEvent, AuditEventType, AuditOutcome
from storage.audit.events import Detail

_NAMED = 20  # UIDs that an event names


class NotFetched(Exception):
    """Nothing was fetched, and nothing was taken; the message says why and what to do."""


class OtherPatient(NotFetched):
    """What came does not name the patient that it was asked for."""


@dataclass(frozen=True)
class Fetch:
    """What became of one study."""

    study_uid: str
    archive: str
    listed: int
    """Instances that the archive says it has."""
    taken: int
    """Instances that are in the gateway, or in the folder, now."""
    not_sent: Sequence[str] = ()
    """Instances that it lists and did not send."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """Instances that came and were not taken, and why."""

    @property
    def is_whole(self) -> bool:
        return not self.not_sent and not self.refused


class Fetcher:
    """Fetches from one archive."""

    def __init__(self, app: App, archive: AnyArchive, *, actor: str, pace: Callable[[], None] = lambda: None) -> None:
        """`pace` is called before each instance is acknowledged and may wait."""
        self._app, self._archive, self._actor, self._pace = app, archive, actor, pace

    def into_gateway(
        self,
        study_uid: str,
        *,
        series_uid: str | None = None,
        listed: Callable[[int], None] = lambda _: None,
        accept: Callable[[Sequence[Path]], bool] = lambda _: True,
        because_of: str | None = None,
    ) -> Fetch:
        """Have a study enter the gateway, to be analysed like any other.

        `accept` looks at all files before the first one enters; `because_of` is the study whose prior this is. Raises
        NotFetched, OtherPatient, ArchiveBusy, SendError, StorageError and what `pace` raises.
        """
        busy = Congestion(self._app.store, self._app.database, self._app.settings.queues)()
        if busy is not None:
            raise NotFetched(f"nothing is taken in now: {busy}; try again later")

        def enter(files: Mapping[str, Path]) -> dict[str, str]:
            if not accept(list(files.values())):
                raise OtherPatient(f"what {self._archive.name} sends is not of the patient that was asked for")
            with opened(self._app, self._archive.destination) as intake:
                said = {uid: intake.take(path, study_uid) for uid, path in files.items()}
            return {uid: why for uid, why in said.items() if why is not None}

        why: dict[str, Detail] = {"prior_of": because_of} if because_of is not None else {}
        return self._fetch(AuditEventType.STUDY_FETCHED, study_uid, series_uid, listed, enter, why)

    def into_folder(
        self,
        study_uid: str,
        folder: Path,
        *,
        series_uid: str | None = None,
        listed: Callable[[int], None] = lambda _: None,
    ) -> Fetch:
        """Write a study's files into `folder`, each under its UID; nothing enters the gateway.

        Raises as `into_gateway`.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as fault:
            raise NotFetched(f"{folder}: {fault.strerror or fault}; name a folder that can be written") from fault

        def put(files: Mapping[str, Path]) -> dict[str, str]:
            failed = {}
            for uid, path in files.items():
                try:
                    draft = folder / f".{uid}.part"
                    shutil.copyfile(path, draft)
                    draft.replace(folder / f"{uid}.dcm")
                except OSError as fault:
                    failed[uid] = f"cannot be written: {fault.strerror or fault}"
            return failed

        return self._fetch(AuditEventType.STUDY_EXPORTED, study_uid, series_uid, listed, put, {"target": "files"})

    def _fetch(
        self,
        event: AuditEventType,
        study_uid: str,
        series_uid: str | None,
        listed: Callable[[int], None],
        keep: Callable[[Mapping[str, Path]], dict[str, str]],
        more: Mapping[str, Detail],
    ) -> Fetch:
        turn = Turn(self._app.database, self._archive.name)

        def paced() -> None:
            turn.renew()
            self._pace()

        facts: dict[str, Detail] = {"source": self._archive.name, **more}
        if series_uid is not None:
            facts["series_uid"] = series_uid
        with turn.held():
            folder = new_folder(self._app.store)
            try:
                self._archive.fetch(study_uid, folder, expected=(), pace=paced, series_uid=series_uid, listed=listed)
                found = read_list(folder)
                files = {uid: paths[0] for uid, paths in found.files.items()}
                refused = keep(files)
            except (SendError, NotFetched) as fault:
                self._record(event, study_uid, facts | {"failure": str(fault)}, AuditOutcome.MINOR_FAILURE)
                raise
            finally:
                drop_folder(folder)
        not_sent = sorted(set(found.listed) - set(files))
        result = Fetch(study_uid, self._archive.name, len(found.listed), len(files) - len(refused), not_sent, refused)
        facts |= {"instances": result.taken, "listed": result.listed}
        if not_sent:
            facts["not_sent"] = not_sent[:_NAMED]
        if refused:
            facts["refused"] = sorted(refused)[:_NAMED]
        outcome = AuditOutcome.SUCCESS if result.is_whole else AuditOutcome.MINOR_FAILURE
        self._record(event, study_uid, facts, outcome)
        return result

    def _record(
        self, event: AuditEventType, study_uid: str, details: Mapping[str, Detail], outcome: AuditOutcome
    ) -> None:
        self._app.ledger.record(
            AuditEvent(event, self._actor, outcome, study_uid=study_uid, subject=self._archive.name, details=details)
        )
