"""Checkpoints in S3 with object lock, against an S3 API that is served here."""

import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from config.settings import S3
from storage import Database
from storage.audit import s3_anchor
from storage.audit.checkpoint import Checkpoint
from storage.audit.ledger import BreakKind
from storage.audit.s3_anchor import ObjectStoreFault, S3Anchor
from tests.ledgers import ACTOR, Kept
from tests.object_store import CREDENTIALS, ObjectStore, serving

LATER = timedelta(hours=1)


@pytest.fixture(scope="module")
def store() -> Iterator[ObjectStore]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        with serving() as served:
            yield served


@pytest.fixture
def settings(store: ObjectStore, request: pytest.FixtureRequest) -> S3:
    return store.bucket(f"b{abs(hash(request.node.name))}")


@pytest.fixture
def kept(settings: S3, tmp_path: Path) -> Iterator[Kept]:
    with Database(f"sqlite:///{tmp_path}/database.sqlite") as database:
        database.migrate()
        yield Kept(database, tmp_path, (S3Anchor(settings),))


def take(kept: Kept) -> Checkpoint:
    kept.happen(1)
    taken = kept.checkpoints.take(ACTOR)
    assert taken is not None
    return taken


def anchored(kept: Kept) -> list[dict[str, Any]]:
    return [json.loads(each.details) for each in kept.records() if each.event == "ledger-anchored"]


def test_each_checkpoint_is_a_locked_object_of_its_own(kept: Kept, store: ObjectStore, settings: S3) -> None:
    before = datetime.now(UTC)
    first, second = take(kept), take(kept)
    versions = store.versions(settings)
    assert [each["Key"] for each in versions] == [store.key(settings, 1), store.key(settings, 2)]
    for checkpoint, version in zip((first, second), versions, strict=True):
        found = store.client.get_object(Bucket=settings.bucket, Key=version["Key"])
        assert found["Body"].read() == checkpoint.line()
        assert found["ObjectLockMode"] == "COMPLIANCE"
        due = before + timedelta(days=settings.retention_days)
        assert abs(found["ObjectLockRetainUntilDate"] - due) < timedelta(minutes=10)
        with pytest.raises(store.client.exceptions.ClientError, match="AccessDenied"):
            store.client.delete_object(Bucket=settings.bucket, Key=version["Key"], VersionId=version["VersionId"])
    assert kept.verify(now=before + LATER).intact
    assert anchored(kept) == []
    held = kept.checkpoints.stores[0].read({})
    assert held is not None
    assert (held.checkpoints, held.fault) == ((first, second), None), "also when nothing is known before"


def test_a_checkpoint_is_put_once_however_often_it_is_given(kept: Kept, store: ObjectStore, settings: S3) -> None:
    taken = take(kept)
    (anchor,) = kept.checkpoints.stores
    assert anchor.append([taken]) == 1
    assert len(store.versions(settings)) == 1


def test_a_store_without_conditional_writes_gets_each_once_too(
    kept: Kept, store: ObjectStore, settings: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    from botocore.exceptions import ClientError

    anchor = S3Anchor(settings)
    kept.checkpoints.stores = (anchor,)
    real = anchor._client.put_object

    def old(**arguments: Any) -> Any:
        if "IfNoneMatch" in arguments:
            answer: Any = {"Error": {"Code": "NotImplemented"}, "ResponseMetadata": {"HTTPStatusCode": 501}}
            raise ClientError(answer, "PutObject")
        return real(**arguments)

    monkeypatch.setattr(anchor._client, "put_object", old)
    taken = take(kept)
    anchor.append([taken])
    assert len(store.versions(settings)) == 1
    assert kept.verify().intact


def test_a_store_that_was_away_gets_what_it_missed(kept: Kept, settings: S3) -> None:
    take(kept)
    (anchor,) = kept.checkpoints.stores
    kept.checkpoints.stores = (S3Anchor(settings.model_copy(update={"endpoint_url": "http://127.0.0.1:9"})),)
    for _ in range(3):
        take(kept)
    assert {each["anchor"] for each in anchored(kept)} == {anchor.name}
    assert "cannot read s3://" in anchored(kept)[-1]["reason"]
    found = kept.verify()
    assert {each.kind for each in found.breaks} == {BreakKind.ANCHOR}, "what cannot be asked vouches for nothing"
    kept.checkpoints.stores = (anchor,)
    newest = take(kept)
    assert anchored(kept)[-1] == {"anchor": anchor.name, "first": 2, "last": newest.number}
    assert anchor.last(newest.number) == newest
    assert kept.verify(now=datetime.now(UTC) + LATER).intact


def test_a_long_backlog_is_put_in_pieces(kept: Kept, settings: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    (anchor,) = kept.checkpoints.stores
    kept.checkpoints.stores = ()
    for _ in range(4):
        take(kept)
    kept.checkpoints.stores = (anchor,)
    with monkeypatch.context() as patch:
        patch.setattr(s3_anchor, "_APPENDING", 0.0)
        assert anchor.append(kept.checkpoints.taken()) == 1, "none would never get it done"
    kept.checkpoints.anchor(ACTOR)
    assert anchored(kept)[-1] == {"anchor": anchor.name, "first": 2, "last": 4}
    assert anchor.append([]) == 0


@pytest.mark.parametrize("near", [0, 1, 5, 6, 9, 1000])
def test_the_newest_is_found_from_wherever_the_database_stands(kept: Kept, near: int) -> None:
    (anchor,) = kept.checkpoints.stores
    assert anchor.last(near) is None
    newest = [take(kept) for _ in range(5)][-1]
    assert anchor.last(near) == newest


def test_a_listing_of_several_pages_is_read_whole(
    kept: Kept, store: ObjectStore, monkeypatch: pytest.MonkeyPatch, settings: S3
) -> None:
    anchor = S3Anchor(settings)
    kept.checkpoints.stores = (anchor,)
    taken = [take(kept) for _ in range(5)]
    real = anchor._client.list_object_versions
    monkeypatch.setattr(anchor._client, "list_object_versions", lambda **each: real(**each, MaxKeys=2))
    held = anchor.read({})
    assert held is not None
    assert held.checkpoints == tuple(taken)


def test_what_the_listing_proves_is_not_fetched(kept: Kept, settings: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    anchor = S3Anchor(settings)
    kept.checkpoints.stores = (anchor,)
    for _ in range(4):
        take(kept)
    fetched = []
    real = anchor._client.get_object

    def counted(**arguments: Any) -> Any:
        fetched.append(arguments["Key"])
        return real(**arguments)

    monkeypatch.setattr(anchor._client, "get_object", counted)
    assert kept.verify().intact
    assert len(fetched) == 1, "the newest, for its lock"


def test_a_bucket_that_cannot_lock_is_said_in_words(store: ObjectStore, kept: Kept) -> None:
    kept.checkpoints.stores = (S3Anchor(store.bucket("without-lock", locks=False)),)
    take(kept)
    assert "that the bucket has object lock" in anchored(kept)[-1]["reason"]


def test_objects_may_go_when_their_lock_has_ended_and_not_before(kept: Kept, settings: S3) -> None:
    """A rule of the bucket deletes the oldest."""
    one, two, three = (take(kept) for _ in range(3))
    other = S3Anchor(settings.model_copy(update={"prefix": "later/"}))
    other.append([two, three])
    known = {each.number: each for each in (one, two, three)}
    held = other.read(known)
    assert held is not None
    assert "1 has to be there" in str(held.fault)
    old = (datetime.now(UTC) - timedelta(days=settings.retention_days)).isoformat()
    known[1] = Checkpoint(1, one.seq, one.head, one.root, old, one.previous, one.key_id, one.signature)
    held = other.read(known)
    assert held is not None
    assert held.fault is None


def test_without_boto3_the_extra_is_named(settings: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3.exceptions", None)
    with pytest.raises(ObjectStoreFault, match=r"scanwarden\[s3\]"):
        S3Anchor(settings).last(0)
