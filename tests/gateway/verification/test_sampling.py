"""The timetable's turns, on a clock of our own and an archive in memory: who is next, how often, and what is kept."""

import threading
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from shutil import copy

import pytest
from pydicom import dcmread
from pydicom.filereader import read_file_meta_info

from gateway.app import App
from gateway.dicom.part10 import file_meta
from gateway.dicom.scu import Unreachable
from gateway.verification.archive import keep_list
from gateway.verification.checking import ArchiveBusy, Checker, NotVerified, Turn, compare_fetched
from gateway.verification.compare import StudyComparison
from gateway.verification.sampling import REST, Reverification
from storage import AuditEventType
from storage.tables import VerificationState
from storage.verifications import coverage, verification_of
from tests.remembered import edited, gateway, phantom, receive, remember

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


class Shelf:
    """An archive that holds files by study."""

    name = "pacs"

    def __init__(self) -> None:
        self.files: dict[str, list[Path]] = {}
        self.asked: list[str] = []
        self.down = False
        self.holds_back = 0

    def fetch(
        self, study_uid: str, folder: Path, *, expected: Iterable[tuple[str, str]], pace: Callable[[], None]
    ) -> None:
        self.asked.append(study_uid)
        if self.down:
            raise Unreachable("pacs: no connection")
        listed, files = {}, {}
        for number, file in enumerate(self.files[study_uid]):
            uid, meta = str(dcmread(file, stop_before_pixels=True).SOPInstanceUID), read_file_meta_info(file)
            listed[uid] = str(meta.MediaStorageSOPClassUID)
            if number < self.holds_back:
                continue
            pace()
            data = file.read_bytes()[144 + meta.FileMetaInformationGroupLength :]
            (folder / f"{number}.dcm").write_bytes(file_meta(listed[uid], uid, str(meta.TransferSyntaxUID)) + data)
            files[uid] = f"{number}.dcm"
        keep_list(folder, listed, files)


class Line:
    """A queue that only writes down."""

    def __init__(self) -> None:
        self.numbers: list[int] = []

    def enqueue_verification(self, number: int) -> None:
        self.numbers.append(number)


class Night:
    """A gateway with studies, an archive, and a clock."""

    def __init__(self, app: App, folder: Path, studies: int = 3) -> None:
        self.app, self.shelf, self.line, self.now = app, Shelf(), Line(), NOON
        self.studies = []
        for seed in range(studies):
            files = phantom(folder / f"study{seed}", seed, slices=2, matrix=32)
            self.studies.append(remember(app, files))
            self.shelf.files[self.studies[-1]] = files
        self.turns = Reverification(
            app, self.line, threading.Event(), archive=self.shelf, now=lambda: self.now, pace=lambda: None
        )

    def pass_time(self, hours: float, step: float = 10) -> None:
        """Let the timetable look every `step` seconds."""
        for _ in range(int(hours * 3600 / step)):
            self.turns()
            self.now += timedelta(seconds=step)

    def events(self, event: AuditEventType) -> list[str | None]:
        return [record.study_uid for record in self.app.ledger.list(event=event.value, limit=None)]


@pytest.fixture
def night(tmp_path: Path) -> Iterator[Night]:
    verification = {"archive": "pacs", "studies_per_hour": 6, "random_share": 1e-9}
    destination = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 104}
    with gateway(tmp_path, destinations=[destination], verification=verification) as app:
        yield Night(app, tmp_path)


def test_every_study_has_its_turn_before_one_has_a_second(night: Night) -> None:
    night.pass_time(0.5, step=60)
    assert night.shelf.asked == night.studies
    assert night.events(AuditEventType.VERIFICATION_PASSED) == night.studies


def test_no_more_studies_an_hour_than_the_budget_even_when_each_one_fails(night: Night) -> None:
    night.shelf.down = True
    begun = []
    for _ in range(180):
        before = len(night.shelf.asked)
        night.turns()
        begun += [night.now] * (len(night.shelf.asked) - before)
        night.now += timedelta(seconds=10)
    assert len(begun) == 3
    assert all(later - earlier >= timedelta(seconds=600) for earlier, later in pairwise(begun))


def test_a_restart_does_not_reset_the_budget(night: Night) -> None:
    night.turns()
    again = Reverification(
        night.app, night.line, threading.Event(), archive=night.shelf, now=lambda: night.now, pace=lambda: None
    )
    again()
    assert len(night.shelf.asked) == 1


def test_the_longest_unverified_comes_next(night: Night) -> None:
    night.pass_time(0.5, step=60)
    night.now += REST
    night.turns()
    assert night.shelf.asked[3] == night.studies[0]


def test_a_study_that_is_still_arriving_is_left_alone(night: Night, tmp_path: Path) -> None:
    receive(night.app, phantom(tmp_path / "late", 9, slices=2, matrix=32))
    night.pass_time(2, step=60)
    assert set(night.shelf.asked) == set(night.studies)


def test_the_timetable_decodes_nothing_and_hands_over_what_differs(night: Night) -> None:
    victim = night.studies[0]
    file = night.shelf.files[victim][0]
    edited(file, (3, 4, 9, 8)).save_as(file)
    night.turns()
    (number,) = night.line.numbers
    assert night.events(AuditEventType.VERIFICATION_DIFFERS) == []
    found = compare_fetched(night.app, number)
    assert found is not None
    assert found.differs
    assert night.events(AuditEventType.VERIFICATION_DIFFERS) == [victim]
    assert compare_fetched(night.app, number) is None
    assert list((night.app.store.root / "drafts").iterdir()) == []


def test_an_input_that_keeps_killing_the_analyst_ends_as_an_incident(
    night: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = night.shelf.files[night.studies[0]][0]
    edited(file).save_as(file)
    night.turns()
    (number,) = night.line.numbers

    class Killed(BaseException):
        pass

    def dies(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("gateway.verification.compare.pixel_digest", dies)
        for _ in range(3):
            with pytest.raises(Killed):
                compare_fetched(night.app, number)
    found = compare_fetched(night.app, number)
    assert found is not None
    assert found.counts == {"as-first-seen": 1, "altered": 1}


def test_an_archive_that_does_not_answer_is_no_incident_and_no_coverage(night: Night) -> None:
    night.shelf.down = True
    night.turns()
    assert night.events(AuditEventType.VERIFICATION_FAILED) == [night.studies[0]]
    assert night.events(AuditEventType.VERIFICATION_DIFFERS) == []
    with night.app.database.reading() as session:
        assert coverage(session, "pacs", timedelta(days=90), now=night.now).verified == 0


def test_an_archive_that_keeps_an_instance_back_is_not_called_verified(night: Night) -> None:
    night.shelf.holds_back = 1
    with pytest.raises(NotVerified, match="lists 1 instances that it does not send"):
        Checker(night.app, night.shelf, actor="user:test").check(night.studies[0], decode=True)
    assert night.events(AuditEventType.VERIFICATION_PASSED) == []


def test_coverage_counts_studies_in_the_window_once(night: Night) -> None:
    night.pass_time(0.3, step=60)
    with night.app.database.reading() as session:
        found = coverage(session, "pacs", timedelta(days=90), now=night.now)
        assert (found.studies, found.verified, found.oldest) == (3, 2, None)
        later = coverage(session, "pacs", timedelta(days=90), now=night.now + timedelta(days=91))
        assert (later.verified, later.share) == (0, 0.0)


def test_one_association_with_an_archive_at_a_time(night: Night) -> None:
    turn = Turn(night.app.database, "pacs")
    with turn.held():
        with pytest.raises(ArchiveBusy):
            Checker(night.app, night.shelf, actor="user:test").check(night.studies[0], decode=True)
        night.turns()
        assert night.shelf.asked == []
    assert isinstance(
        Checker(night.app, night.shelf, actor="user:test").check(night.studies[0], decode=True), StudyComparison
    )


def test_what_a_dead_process_left_is_closed_and_tried_again(night: Night) -> None:
    file = night.shelf.files[night.studies[0]][0]
    copied = copy(file, file.with_suffix(".kept"))
    edited(file).save_as(file)
    night.turns()
    copy(copied, file)
    night.now += timedelta(hours=25)
    night.turns()
    with night.app.database.reading() as session:
        assert verification_of(session, 1).state is VerificationState.FAILED
    assert night.events(AuditEventType.VERIFICATION_FAILED)[0] == night.studies[0]
