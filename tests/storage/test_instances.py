"""Files arrive whole or not at all, and no name of theirs comes from a peer."""

import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage import InstanceStore, StoreFault, StoreFull
from storage.instances import Headroom
from tests.storage.arrivals import files, keep

REPOSITORY = Path(__file__).resolve().parents[2]


def test_what_is_kept_is_what_was_written(store: InstanceStore) -> None:
    with store.incoming() as upload:
        for chunk in (b"DICM", bytearray(b"pixel"), memoryview(b"data")):
            upload.write(chunk)
        stored = upload.keep("1.2.3")
    assert stored.path.read_bytes() == b"DICMpixeldata"
    assert (stored.size, stored.sha256) == (13, sha256(b"DICMpixeldata").hexdigest())
    assert store.locate(stored.relative) == stored.path
    assert list((store.root / "incoming").iterdir()) == []


def test_two_copies_of_one_uid_lie_side_by_side(store: InstanceStore) -> None:
    first, second = keep(store, "1.2.3", b"a"), keep(store, "1.2.3", b"b")
    assert first.path != second.path
    assert first.path.read_bytes() == b"a"


@given(uid=st.text(max_size=80) | st.sampled_from(["../../etc/passwd", "/", "..", "\x00", "1.2\\..\\3", "CON"]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
def test_a_path_never_contains_what_a_peer_sent(store: InstanceStore, uid: str) -> None:
    stored = keep(store, uid)
    folder, leaf, name = stored.relative.split("/")
    digest = sha256(uid.encode("utf-8", "surrogatepass")).hexdigest()
    assert (folder, leaf) == ("instances", digest[:2])
    assert name.startswith(digest + "-")
    assert name.endswith(".dcm")
    assert stored.path.resolve().is_relative_to(store.root)
    assert stored.path.is_file()


def test_a_file_that_was_prepared_is_used_and_never_past_the_watermark(
    store: InstanceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = store.prepare()
    assert prepared is not None
    with store.incoming(prepared) as upload:
        assert upload is prepared
        upload.write(b"DICM")
        assert upload.keep("1.2.3").path.read_bytes() == b"DICM"
    prepared = store.prepare()
    monkeypatch.setattr(InstanceStore, "headroom", lambda _: Headroom(10_000, 0, 1.0))
    with pytest.raises(StoreFull), store.incoming(prepared):
        pass
    assert store.prepare() is None
    assert list((store.root / "incoming").iterdir()) == []


@pytest.mark.parametrize("size", [300_000, 5_000_000])
def test_the_digest_of_a_large_instance_is_that_of_its_bytes(store: InstanceStore, size: int) -> None:
    """The second is hashed beside its fsync, and one that is too long for that in between."""
    content = os.urandom(size)
    for uid in ("1.2.3", "1.2.4"):
        with store.incoming() as upload:
            for start in range(0, size, 100_000):
                upload.write(content[start : start + 100_000])
            stored = upload.keep(uid)
        assert stored.path.read_bytes() == content
        assert stored.sha256 == sha256(content).hexdigest()


def test_a_large_file_that_somebody_cuts_short_is_not_kept(store: InstanceStore) -> None:
    keep(store, "1.2.3", bytes(300_000))
    with store.incoming() as upload:
        upload.write(bytes(300_000))
        os.truncate(upload.path, 200_000)
        with pytest.raises(StoreFault, match="can be read"):
            upload.keep("1.2.4")
    assert len(files(store)) == 1


def test_an_upload_that_is_not_kept_leaves_nothing(store: InstanceStore) -> None:
    with store.incoming() as upload:
        upload.write(b"half of")
    assert not upload.path.exists()
    with pytest.raises(ValueError, match="discarded"):
        upload.write(b"more")
    assert files(store) == []


def test_bytes_and_name_are_durable_before_a_file_is_handed_on(
    store: InstanceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, rename = os.fsync, os.rename

    def noted_fsync(handle: int) -> None:
        path = Path(f"/proc/self/fd/{handle}").readlink()
        done.append("fsync of the folder" if path.is_dir() else f"fsync of {path.suffix}")
        fsync(handle)

    def noted_rename(source: str, target: str) -> None:
        done.append("rename")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "rename", noted_rename)
    keep(store, "1.2.3")
    assert done == ["rename", "fsync of .dcm", "fsync of the folder"]


@pytest.mark.parametrize(
    ("number", "expected", "status"),
    [
        (errno.ENOSPC, StoreFull, 0xA700),
        (errno.EDQUOT, StoreFull, 0xA700),
        (errno.EMFILE, StoreFull, 0xA700),
        (errno.EIO, StoreFault, 0x0110),
        (errno.EROFS, StoreFault, 0x0110),
    ],
)
@pytest.mark.parametrize("call", ["write", "fsync", "open"])
def test_a_disk_that_fails_becomes_a_dicom_status_and_leaves_no_file(
    store: InstanceStore,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    expected: type[Exception],
    status: int,
    call: str,
) -> None:
    def fail(*_arguments: object, **_options: object) -> int:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(expected) as refusal:
            keep(store, "1.2.3")
    assert refusal.value.dicom_status == status  # type: ignore[attr-defined]
    assert files(store) == []
    assert list((store.root / "incoming").iterdir()) == []
    keep(store, "1.2.3")


def test_a_folder_that_cannot_be_made_durable_takes_its_new_file_back(
    store: InstanceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync = os.fsync

    def fail(handle: int) -> None:
        if Path(f"/proc/self/fd/{handle}").readlink().is_dir():
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StoreFault):
        keep(store, "1.2.3")
    assert files(store) == []


def test_a_disk_above_its_watermark_is_refused_until_it_is_below_the_low_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = InstanceStore(tmp_path, high_watermark=0.9, low_watermark=0.8, reserve_bytes=100)

    def fill(share: float) -> None:
        monkeypatch.setattr(store, "headroom", lambda: Headroom(10_000, int(10_000 * (1 - share)), share))

    fill(0.85)
    keep(store, "1.2.3")
    for share in (0.9, 0.85):
        fill(share)
        with pytest.raises(StoreFull, match=f"{share:.1%}"):
            keep(store, "1.2.3")
    for share in (0.79, 0.85):
        fill(share)
        keep(store, "1.2.3")


def test_the_ledgers_reserve_is_kept_whatever_the_watermarks_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = InstanceStore(tmp_path, high_watermark=1.0, low_watermark=1.0, reserve_bytes=100)
    monkeypatch.setattr(store, "headroom", lambda: Headroom(10_000, 100, 0.5))
    with pytest.raises(StoreFull):
        keep(store, "1.2.3")


def test_headroom_is_that_of_the_disk(store: InstanceStore) -> None:
    room = store.headroom()
    assert 0 < room.free < room.total
    assert 0 < room.used_share < 1


@pytest.fixture
def receiver(store: InstanceStore) -> Callable[[], subprocess.Popen[str]]:
    """Starts a process that is in the middle of receiving an instance."""
    code = (
        "import sys, time; from pathlib import Path; from storage import InstanceStore\n"
        "store = InstanceStore(Path(sys.argv[1]), high_watermark=1.0, low_watermark=1.0, reserve_bytes=0)\n"
        "with store.incoming() as upload:\n"
        "    upload.write(b'half'); print('receiving', flush=True); time.sleep(60)"
    )

    def start() -> subprocess.Popen[str]:
        command = [sys.executable, "-c", code, str(store.root)]
        process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "receiving\n"
        return process

    return start


def test_a_sweep_takes_what_the_dead_left_and_nothing_of_the_living(
    store: InstanceStore, receiver: Callable[[], subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    living, dead = receiver(), receiver()
    dead.kill()
    dead.communicate()
    assert store.sweep_incoming() == 0, "a file may be younger than its lock"
    later = time.time() + 3600
    monkeypatch.setattr(time, "time", lambda: later)
    try:
        assert store.sweep_incoming() == 1
        assert len(list((store.root / "incoming").iterdir())) == 1
    finally:
        living.kill()
        living.communicate()
    assert store.sweep_incoming() == 1


def test_a_draft_is_visible_as_a_whole_or_not_at_all(store: InstanceStore) -> None:
    with store.draft("analyses", 7) as draft:
        (draft.folder / "analysis.json").write_text("{}")
        (draft.folder / "masks").mkdir()
        (draft.folder / "masks" / "1.npz").write_bytes(b"mask")
        assert list((store.root / "analyses").iterdir()) == []
        kept = draft.keep()
    assert kept.startswith("analyses/7-")
    assert (store.locate(kept) / "masks" / "1.npz").read_bytes() == b"mask"
    with store.draft("evidence", 7) as abandoned:
        (abandoned.folder / "half").write_text("")
    assert not abandoned.folder.exists()
    assert list((store.root / "evidence").iterdir()) == []


def test_a_repeat_keeps_its_draft_beside_the_first(store: InstanceStore) -> None:
    kept = []
    for content in ("first", "second"):
        with store.draft("analyses", 7) as draft:
            (draft.folder / "analysis.json").write_text(content)
            kept.append(draft.keep())
    assert (store.locate(kept[0]) / "analysis.json").read_text() == "first"
    store.remove(kept[1])
    store.remove(kept[1])
    assert not store.locate(kept[1]).exists()
