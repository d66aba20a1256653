"""Attacks on a ledger whose checkpoints lie in S3 with object lock: on this machine, and with the bucket's own keys."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest

from config.settings import S3
from storage import Database
from storage.audit.ledger import BreakKind, LedgerBroken
from storage.audit.s3_anchor import S3Anchor
from tests.ledgers import ACTOR, Kept, rechained
from tests.object_store import CREDENTIALS, ObjectStore, serving

LATER = timedelta(hours=1)
_names = count()


@pytest.fixture(scope="module")
def store() -> Iterator[ObjectStore]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        with serving() as served:
            yield served


def ledger(database: Database, folder: Path, settings: S3) -> Kept:
    """Two checkpoints, and records after them."""
    kept = Kept(database, folder, (S3Anchor(settings),))
    database.migrate()
    for _ in range(2):
        kept.happen(30)
        kept.checkpoints.take(ACTOR)
    kept.happen(5)
    return kept


@pytest.fixture
def settings(store: ObjectStore) -> S3:
    return store.bucket(f"attacked-{next(_names)}")


@pytest.fixture
def attacked(store: ObjectStore, settings: S3, tmp_path: Path) -> Iterator[Kept]:
    """Its twin, with a bucket of its own that nobody touches, has to stay quiet."""
    ours, theirs = tmp_path / "attacked", tmp_path / "twin"
    ours.mkdir()
    theirs.mkdir()
    with Database(f"sqlite:///{ours}/d.sqlite") as database, Database(f"sqlite:///{theirs}/d.sqlite") as other:
        kept = ledger(database, ours, settings)
        twin = ledger(other, theirs, store.bucket(f"twin-{next(_names)}"))
        yield kept
        assert twin.verify(now=datetime.now(UTC) + LATER).breaks == ()
        assert twin.checkpoints.take(ACTOR) is not None


def kinds(kept: Kept) -> set[BreakKind]:
    return {each.kind for each in kept.verify(now=datetime.now(UTC) + LATER).breaks}


def cut_everything_here(kept: Kept) -> None:
    """Rows, checkpoints and every file on this machine, back to the first checkpoint."""
    first = kept.checkpoints.get(1)
    kept.drop_triggers()
    kept.sql("DELETE FROM checkpoints WHERE number > 1", f"DELETE FROM ledger WHERE seq > {first.seq + 1}")  # noqa: S608
    for path in kept.checkpoints.anchors:
        path.write_bytes(first.line())


def test_attack_truncate_rows_checkpoints_and_local_files(attacked: Kept) -> None:
    stores, attacked.checkpoints.stores = attacked.checkpoints.stores, ()
    cut_everything_here(attacked)
    assert kinds(attacked) == set(), "nothing on this machine can show it any more"
    attacked.checkpoints.stores = stores
    assert kinds(attacked) == {BreakKind.TRUNCATED}
    with pytest.raises(LedgerBroken, match=r"s3://.* holds checkpoint 2"):
        attacked.checkpoints.take(ACTOR)


def test_attack_sign_another_history_after_a_cut(attacked: Kept) -> None:
    """Whoever has the signing key too keeps the store away while the service signs, and lets it back in."""
    stores, attacked.checkpoints.stores = attacked.checkpoints.stores, ()
    cut_everything_here(attacked)
    attacked.happen(40, study_uid="6.6.6")
    attacked.checkpoints.take(ACTOR)
    assert kinds(attacked) == set()
    attacked.checkpoints.stores = stores
    assert BreakKind.FORKED in kinds(attacked)
    with pytest.raises(LedgerBroken):
        attacked.checkpoints.take(ACTOR)


def test_attack_rewrite_rows_and_forget_the_checkpoints(attacked: Kept) -> None:
    attacked.drop_triggers()

    def renamed(facts: dict[str, object]) -> None:
        if facts["seq"] == 10:
            facts["actor"] = "X"

    attacked.replace_rows(rechained(attacked.records(), renamed))
    attacked.sql("DELETE FROM checkpoints")
    for path in attacked.checkpoints.anchors:
        path.unlink()
    assert BreakKind.REWRITTEN in kinds(attacked)


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("content", [b"", b"[]", b'{"number": 2}'])
def test_attack_write_over_an_object(
    attacked: Kept, store: ObjectStore, settings: S3, number: int, content: bytes
) -> None:
    key = store.key(settings, number)
    store.client.put_object(Bucket=settings.bucket, Key=key, Body=content)
    found = attacked.verify()
    assert {each.kind for each in found.breaks} == {BreakKind.ANCHOR}
    assert f"object {number} was written over" in str(found.broken)
    cut_everything_here(attacked)
    assert kinds(attacked) == {BreakKind.ANCHOR, BreakKind.TRUNCATED}, "what was locked first still counts"


def test_attack_put_an_older_checkpoint_over_the_newest(attacked: Kept, store: ObjectStore, settings: S3) -> None:
    """It is genuine, signed and locked; it lies on top."""
    store.client.put_object(
        Bucket=settings.bucket,
        Key=store.key(settings, 2),
        Body=attacked.checkpoints.get(1).line(),
        ObjectLockMode="COMPLIANCE",
        ObjectLockRetainUntilDate=datetime.now(UTC) + timedelta(days=1),
    )
    cut_everything_here(attacked)
    assert kinds(attacked) == {BreakKind.ANCHOR, BreakKind.TRUNCATED}
    with pytest.raises(LedgerBroken, match="holds checkpoint 2"):
        attacked.checkpoints.take(ACTOR)


@pytest.mark.parametrize("numbers", [(1,), (2,), (1, 2)])
def test_attack_hide_an_object_by_a_delete_marker(
    attacked: Kept, store: ObjectStore, settings: S3, numbers: tuple[int, ...]
) -> None:
    for number in numbers:
        store.client.delete_object(Bucket=settings.bucket, Key=store.key(settings, number))
    found = attacked.verify()
    assert {each.kind for each in found.breaks} == {BreakKind.ANCHOR}
    assert f"object {numbers[0]} is hidden by a delete marker" in str(found.broken)
    cut_everything_here(attacked)
    assert kinds(attacked) == {BreakKind.ANCHOR, BreakKind.TRUNCATED}, "what lies under the marker still counts"


def test_attack_delete_what_is_locked(attacked: Kept, store: ObjectStore, settings: S3) -> None:
    """The store refuses, and nothing is lost; asking for less of a lock is refused as well."""
    for version in store.versions(settings):
        with pytest.raises(store.client.exceptions.ClientError, match="AccessDenied"):
            store.client.delete_object(
                Bucket=settings.bucket,
                Key=version["Key"],
                VersionId=version["VersionId"],
                BypassGovernanceRetention=True,
            )
    assert kinds(attacked) == set()


def test_attack_take_the_next_name_so_that_nothing_can_be_anchored(
    attacked: Kept, store: ObjectStore, settings: S3
) -> None:
    store.client.put_object(Bucket=settings.bucket, Key=store.key(settings, 3), Body=b"squatter")
    taken = attacked.checkpoints.take(ACTOR)
    assert taken is not None
    (anchor,) = attacked.checkpoints.stores
    assert anchor.last(taken.number) == taken, "the first that is locked counts"
    assert kinds(attacked) == {BreakKind.ANCHOR}, "and the other one is named"


def test_attack_an_empty_bucket_in_the_place_of_ours(attacked: Kept, store: ObjectStore) -> None:
    attacked.checkpoints.stores = (S3Anchor(store.bucket(f"empty-{next(_names)}")),)
    assert kinds(attacked) == {BreakKind.ANCHOR}
