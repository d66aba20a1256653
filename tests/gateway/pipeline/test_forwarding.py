"""What comes in goes on to the PACS as it came, in order, whatever other destinations and instances do."""

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.uid import UID, ImplicitVRLittleEndian, RLELossless
from sqlalchemy import select, update

from config import Settings
from gateway.app import App, build, prepare
from gateway.pipeline.forwarding import Forwarder
from storage import AuditEventType, InstanceKind, Ledger
from storage.analyses import decide_contested
from storage.forwarding import counts, listed, retry_dead
from storage.retention import expire_instances
from storage.tables import Forward, ForwardState, Instance, InstanceState, Revision, RevisionState
from tests.faults.harness import Archive, wait_for
from tests.faults.modality import make_study
from tests.gateway.pipeline.conftest import arrive

STORESCP = "/usr/bin/storescp"
Router = Callable[..., App]


@pytest.fixture
def url() -> None:
    """SQLite alone: tests/storage/test_outgoing.py holds the queue on both databases."""
    return


@pytest.fixture
def router(configure: Callable[..., Settings]) -> Iterator[Router]:
    """`router(archive, other, forwarding={…})`: a gateway that passes on to these archives."""
    opened: list[App] = []

    def make(*archives: Archive, forwarding: dict[str, Any] | None = None, **route: Any) -> App:
        names = [f"archive-{number}" for number in range(len(archives))]
        settings = configure(
            destinations=[
                {"name": name, "ae_title": each.ae_title, "host": "127.0.0.1", "port": each.port, "timeout": 5}
                for name, each in zip(names, archives, strict=True)
            ],
            forwarding={
                "routes": [{"destination": name, **route} for name in names],
                "backoff": 0.05,
                "interval": 0.02,
                **(forwarding or {}),
            },
        )
        prepare(settings)
        opened.append(build(settings))
        return opened[-1]

    yield make
    for app in opened:
        app.close()


@contextmanager
def forwarding(app: App) -> Iterator[None]:
    """The deliver role's part, while the block runs."""
    stop = threading.Event()
    thread = threading.Thread(target=Forwarder(app, "deliver-0@here").run, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def states(app: App, destination: str = "archive-0") -> dict[ForwardState, int]:
    with app.database.reading() as session:
        return dict(counts(session).get(destination, {}))


def all_sent(app: App, number: int, destination: str = "archive-0") -> None:
    wait_for(lambda: states(app, destination) == {ForwardState.SENT: number}, 20, f"{number} instances are passed on")


def events(app: App, event: AuditEventType) -> int:
    return len(Ledger(app.database).list(event=event.value, limit=None))


def data_set(file: Path) -> str:
    """Digest of what stands behind the File Meta Information."""
    content = file.read_bytes()
    return sha256(content[144 + int.from_bytes(content[140:144], "little") :]).hexdigest()


@contextmanager
def dcmtk_archive(folder: Path) -> Iterator[Archive]:
    """A real storescp that writes data sets exactly as they arrive."""
    folder.mkdir()
    archive = Archive(ae_title="STORESCP")
    command = [STORESCP, "-aet", "STORESCP", "+xa", "+B", "-od", str(folder), str(archive.port)]
    with subprocess.Popen(command, env={**os.environ, "TCP_NODELAY": "1"}) as process:
        yield archive
        process.terminate()


def as_syntax(file: Path, syntax: str, folder: Path) -> Path:
    dataset = dcmread(file)
    if syntax == RLELossless:
        dataset.compress(RLELossless, generate_instance_uid=False)
    else:
        dataset.file_meta.TransferSyntaxUID = UID(syntax)
    folder.mkdir(exist_ok=True)
    dataset.save_as(folder / file.name, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=True)
    return folder / file.name


def test_a_data_set_arrives_byte_for_byte_in_each_transfer_syntax(router: Router, tmp_path: Path) -> None:
    study = make_study(tmp_path, edited=False, slices=6)
    files = [
        *study.files[:2],
        *(as_syntax(file, ImplicitVRLittleEndian, tmp_path / "implicit") for file in study.files[2:4]),
        *(as_syntax(file, RLELossless, tmp_path / "rle") for file in study.files[4:]),
    ]
    with dcmtk_archive(tmp_path / "pacs") as archive:
        app = router(archive)
        arrive(app, files)
        with forwarding(app):
            all_sent(app, 6)
    arrived = list((tmp_path / "pacs").iterdir())
    assert sorted(map(data_set, arrived)) == sorted(map(data_set, files))
    assert {str(dcmread(file).file_meta.TransferSyntaxUID) for file in arrived} == {
        str(dcmread(file).file_meta.TransferSyntaxUID) for file in files
    }


def test_instances_go_on_in_the_order_in_which_they_came(router: Router, tmp_path: Path) -> None:
    files = make_study(tmp_path, edited=False, slices=20).files
    with Archive().running() as archive:
        app = router(archive)
        with forwarding(app):
            for start in range(0, 20, 5):
                arrive(app, files[start : start + 5])
            all_sent(app, 20)
    assert archive.order == [file.stem for file in files]
    assert events(app, AuditEventType.INSTANCES_FORWARDED) >= 1


def test_nothing_that_was_here_before_the_first_start_is_passed_on(router: Router, app: App, tmp_path: Path) -> None:
    arrive(app, make_study(tmp_path / "old", edited=False, slices=2).files)
    with Archive().running() as archive:
        now = router(archive)  # the same store and database, now with a route
        with forwarding(now):
            arrive(now, make_study(tmp_path / "new", edited=False, slices=2).files)
            all_sent(now, 2)


def test_an_instance_that_is_refused_for_good_does_not_hold_up_those_behind_it(router: Router, tmp_path: Path) -> None:
    files = make_study(tmp_path, edited=False, slices=4).files
    bad = files[1].stem
    with Archive(answer=lambda uid: 0xC000 if uid == bad else 0).running() as archive:
        app = router(archive, forwarding={"attempts": 3})
        arrive(app, files)
        with forwarding(app):
            wait_for(lambda: states(app) == {ForwardState.SENT: 3, ForwardState.DEAD: 1}, 20, "a dead letter")
            with app.database.reading() as session:
                (letter,) = listed(session, dead=True)
            assert (letter.instance.sop_instance_uid, letter.forward.attempts) == (bad, 3)
            assert letter.forward.failure == "status 0xC000"
            assert events(app, AuditEventType.FORWARD_DEAD) == 1
            archive.answer = lambda _uid: 0
            with app.database.transaction() as session:
                assert retry_dead(session, actor="user:somebody") == 1
            all_sent(app, 4)


def test_an_instance_that_the_destination_has_no_context_for_is_a_dead_letter_and_never_converted(
    router: Router, tmp_path: Path
) -> None:
    study = make_study(tmp_path, edited=False, slices=2)
    compressed = as_syntax(study.files[0], RLELossless, tmp_path / "rle")
    folder = tmp_path / "pacs"
    folder.mkdir()
    archive = Archive(ae_title="STORESCP")
    command = [STORESCP, "-aet", "STORESCP", "+B", "-od", str(folder), str(archive.port)]  # uncompressed only
    with subprocess.Popen(command) as process:
        app = router(archive, forwarding={"attempts": 1})
        arrive(app, [compressed, study.files[1]])
        with forwarding(app):
            wait_for(lambda: states(app) == {ForwardState.SENT: 1, ForwardState.DEAD: 1}, 20, "a dead letter")
        process.terminate()
    with app.database.reading() as session:
        (letter,) = listed(session, dead=True)
    assert "accepts no SOP class" in str(letter.forward.failure)
    assert [data_set(file) for file in folder.iterdir()] == [data_set(study.files[1])]


def test_a_dead_destination_does_not_hold_up_a_living_one_and_gets_everything_in_order_when_it_is_back(
    router: Router, tmp_path: Path
) -> None:
    files = make_study(tmp_path, edited=False, slices=10).files
    dead = Archive()
    with Archive().running() as living:
        app = router(living, dead)
        with forwarding(app):
            arrive(app, files)
            all_sent(app, 10)
            wait_for(lambda: events(app, AuditEventType.FORWARDING_STALLED) == 1, 10, "the stall is told")
            assert states(app, "archive-1") == {ForwardState.WAITING: 10}
            with dead.running():
                all_sent(app, 10, "archive-1")
    assert dead.order == [file.stem for file in files]
    assert events(app, AuditEventType.FORWARDING_BACK) == 1
    assert events(app, AuditEventType.FORWARD_DEAD) == 0


def test_a_destination_without_room_is_waited_for_and_the_order_kept(router: Router, tmp_path: Path) -> None:
    files = make_study(tmp_path, edited=False, slices=6).files
    times: list[str] = []

    def full_for_a_while(uid: str) -> int:
        times.append(uid)
        return 0xA700 if len(times) in (3, 4, 5) else 0

    with Archive(answer=full_for_a_while).running() as archive:
        app = router(archive)
        arrive(app, files)
        with forwarding(app):
            all_sent(app, 6)
    assert archive.order == [file.stem for file in files]


def test_neither_our_own_evidence_nor_what_the_destination_sent_goes_there(router: Router, tmp_path: Path) -> None:
    files = make_study(tmp_path, edited=False, slices=3).files
    with Archive(ae_title="PACS").running() as archive:
        app = router(archive)
        arrive(app, files[:1], kind=InstanceKind.EVIDENCE)
        arrive(app, files[1:2], source_ae="PACS")
        arrive(app, files[2:])
        with forwarding(app):
            all_sent(app, 1)
    assert archive.order == [files[2].stem]


def test_a_route_takes_only_its_sources_and_back_to_the_sender_where_it_is_told_to(
    router: Router, tmp_path: Path
) -> None:
    files = make_study(tmp_path, edited=False, slices=2).files
    with Archive(ae_title="PACS").running() as archive:
        app = router(archive, sources=["PACS"], back_to_sender=True)
        arrive(app, files[:1], source_ae="PACS")
        arrive(app, files[1:], source_ae="OTHER")
        with forwarding(app):
            all_sent(app, 1)
    assert archive.order == [files[0].stem]


def test_a_second_copy_waits_until_it_is_compared_and_one_in_quarantine_stays_here(
    router: Router, tmp_path: Path
) -> None:
    files = make_study(tmp_path, edited=False, slices=2).files
    second = [_other_bytes(file) for file in files]
    with Archive().running() as archive:
        app = router(archive)
        arrive(app, files)
        arrive(app, second)
        with forwarding(app):
            wait_for(lambda: states(app) == {ForwardState.SENT: 2, ForwardState.HELD: 2}, 20, "two are held")
            for uid, same in ((files[0].stem, True), (files[1].stem, False)):
                with app.database.transaction() as session:
                    copy = session.scalars(
                        select(Instance).where(
                            Instance.sop_instance_uid == uid, Instance.state == InstanceState.CONTESTED
                        )
                    ).one()
                    copy.revision_id = _a_revision(session, copy)
                    decide_contested(session, copy.id, same=same)
            wait_for(lambda: states(app) == {ForwardState.SENT: 3, ForwardState.DEAD: 1}, 20, "both are decided on")
    assert archive.order == [files[0].stem, files[1].stem, files[0].stem]


def test_a_file_that_is_not_what_was_acknowledged_is_not_passed_on(router: Router, tmp_path: Path) -> None:
    files = make_study(tmp_path, edited=False, slices=2).files
    with Archive().running() as archive:
        app = router(archive)
        arrive(app, files)
        with app.database.reading() as session:
            path = app.store.locate(session.scalars(select(Instance).order_by(Instance.id)).first().path)  # type: ignore[union-attr]
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
        with forwarding(app):
            wait_for(lambda: states(app) == {ForwardState.SENT: 1, ForwardState.DEAD: 1}, 20, "a dead letter")
    assert archive.order == [files[1].stem]


def test_an_association_that_the_peer_has_closed_costs_no_attempt(router: Router, tmp_path: Path) -> None:
    files = make_study(tmp_path, edited=False, slices=2).files
    archive = Archive()
    app = router(archive)
    with forwarding(app):
        with archive.running():
            arrive(app, files[:1])
            all_sent(app, 1)
        time.sleep(0.6)  # an association that has just been used is not asked whether it is alive
        with archive.running():
            arrive(app, files[1:])
            all_sent(app, 2)
    assert archive.order == [file.stem for file in files]
    with app.database.reading() as session:
        assert [each.attempts for each in session.scalars(select(Forward))] == [0, 0]


def test_a_file_that_waits_to_be_passed_on_is_not_deleted_for_its_age(router: Router, tmp_path: Path) -> None:
    files = make_study(tmp_path, edited=False, slices=1).files
    app = router(Archive())
    arrive(app, files)
    Forwarder(app, "deliver-0@here").queue()
    with app.database.transaction() as session:
        session.execute(update(Revision).values(state=RevisionState.DONE))
    long_after = datetime.now(UTC) + timedelta(days=400)
    assert expire_instances(app.store, app.database, timedelta(days=1), now=long_after) == 0
    with app.database.transaction() as session:
        session.execute(update(Forward).values(state=ForwardState.SENT))
    assert expire_instances(app.store, app.database, timedelta(days=1), now=long_after) == 1


def _other_bytes(file: Path) -> Path:
    dataset = dcmread(file)
    dataset.SeriesDescription = "another"
    target = file.with_suffix(".second")
    dataset.save_as(target)
    return target


def _a_revision(session: Any, copy: Instance) -> int:
    found = session.scalar(select(Revision.id).where(Revision.study_uid == copy.study_uid).limit(1))
    assert isinstance(found, int)
    return found
