"""Attacks on the ledger with full rights on the database, and on what surrounds it; each beside an untouched twin."""

import gzip
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from storage import AuditEvent, AuditEventType, Database
from storage.audit.checkpoint import Checkpoint, signed
from storage.audit.keys import KeyFolder, PublicKey, SigningKey
from storage.audit.ledger import BreakKind, LedgerBroken, LedgerRecord, append
from storage.audit.merkle import Frontier
from storage.audit.segments import seal, shorten
from storage.audit.tree import NoProof, leaf_of, prove, proves
from storage.audit.verification import LedgerReport, verify_range
from tests.ledgers import ACTOR, Kept, lines, rechained

LATER = timedelta(hours=1)


def opened(folder: Path) -> Kept:
    return Kept(Database(f"sqlite:///{folder}/database.sqlite"), folder)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records 1 to 300, key, checkpoint, 300 more, checkpoint, 10 more."""
    folder = tmp_path_factory.mktemp("original")
    kept = opened(folder)
    with kept.database as database:
        database.migrate()
        kept.happen(300)
        kept.checkpoints.take(ACTOR)
        kept.happen(300)
        kept.checkpoints.take(ACTOR)
        kept.happen(10)
    return folder


@pytest.fixture
def attacked(original: Path, tmp_path: Path) -> Iterator[Kept]:
    """A copy to attack; its twin, which nobody touches, has to stay quiet."""
    shutil.copytree(original, tmp_path / "attacked")
    shutil.copytree(original, tmp_path / "twin")
    kept, twin = opened(tmp_path / "attacked"), opened(tmp_path / "twin")
    with kept.database, twin.database:
        yield kept
        assert twin.verify(now=datetime.now(UTC) + LATER).breaks == ()
        assert twin.checkpoints.take(ACTOR) is not None


def kinds(report: LedgerReport) -> set[BreakKind]:
    return {each.kind for each in report.breaks}


def number(facts: dict[str, Any]) -> int:
    return int(facts["seq"])


def renamed(facts: dict[str, Any]) -> None:
    """One record gets another actor."""
    if number(facts) == 100:
        facts["actor"] = "X"


def test_the_forger_is_able(attacked: Kept) -> None:
    """A chain that is made anew without a change is the same to the last bit: the attacks fail for their content."""
    assert rechained(attacked.records(), lambda _: None) == attacked.records()
    assert rechained(attacked.records(), renamed)[100:] != attacked.records()[100:]


def test_attack_edit_a_record(attacked: Kept) -> None:
    attacked.drop_triggers()
    attacked.sql("UPDATE ledger SET actor = 'NOBODY@10.9.9.9' WHERE seq = 100")
    found = attacked.verify()
    assert found.broken is not None
    assert (found.broken.seq, found.broken.kind) == (100, BreakKind.CONTENT)
    assert not verify_range(attacked.checkpoints, 90, 110).intact


def test_attack_edit_a_record_and_its_hash(attacked: Kept) -> None:
    attacked.drop_triggers()
    forged = rechained(attacked.records()[:100], renamed)
    attacked.sql(f"UPDATE ledger SET actor = 'X', hash = '{forged[-1].hash}' WHERE seq = 100")  # noqa: S608
    found = attacked.verify()
    assert found.broken is not None
    assert (found.broken.seq, found.broken.kind) == (101, BreakKind.LINK)


def test_attack_delete_a_record(attacked: Kept) -> None:
    attacked.drop_triggers()
    attacked.sql("DELETE FROM ledger WHERE seq = 100")
    found = attacked.verify()
    assert found.broken is not None
    assert (found.broken.seq, found.broken.kind) == (100, BreakKind.GAP)


@pytest.mark.parametrize("attack", ["edit", "delete", "insert", "reorder"])
def test_attack_rewrite_the_whole_chain_without_the_key(attacked: Kept, attack: str) -> None:
    """Every number, link and hash is put right, so that the chain alone is whole."""
    records = attacked.records()
    if attack == "delete":
        del records[99]
    elif attack == "insert":
        records.insert(99, records[50])
    elif attack == "reorder":
        records[99], records[100] = records[100], records[99]

    def change(facts: dict[str, Any]) -> None:
        if attack == "edit" and number(facts) == 100:
            facts["subject"] = "1.2.3.666"

    attacked.drop_triggers()
    attacked.replace_rows(rechained(records, change))
    assert attacked.archive.ledger.verify().intact, "the chain alone cannot show it"
    found = attacked.verify()
    assert kinds(found) & {BreakKind.REWRITTEN, BreakKind.FORKED}
    with pytest.raises(LedgerBroken):
        attacked.checkpoints.take(ACTOR)
    assert not verify_range(attacked.checkpoints, 90, 110).intact


def test_attack_reorder_two_records(attacked: Kept) -> None:
    attacked.drop_triggers()
    attacked.sql(
        "UPDATE ledger SET seq = -1 WHERE seq = 100",
        "UPDATE ledger SET seq = 100 WHERE seq = 101",
        "UPDATE ledger SET seq = 101 WHERE seq = -1",
    )
    found = attacked.verify()
    assert found.broken is not None
    assert (found.broken.seq, found.broken.kind) == (100, BreakKind.LINK)


def test_attack_replay_a_record_at_the_head(attacked: Kept) -> None:
    attacked.drop_triggers()
    attacked.sql("DROP INDEX uq_ledger_previous_hash")
    names = ", ".join(name for name in LedgerRecord.__slots__ if name != "seq")
    attacked.sql(f"INSERT INTO ledger (seq, {names}) SELECT 614, {names} FROM ledger WHERE seq = 100")  # noqa: S608
    found = attacked.verify()
    assert found.broken is not None
    assert (found.broken.seq, found.broken.kind) == (614, BreakKind.LINK)


def test_attack_truncate_into_what_is_signed(attacked: Kept) -> None:
    attacked.drop_triggers()
    attacked.sql("DELETE FROM ledger WHERE seq > 400")
    assert attacked.archive.ledger.verify().intact, "the chain alone cannot show it"
    found = attacked.verify()
    assert found.broken is not None
    assert (found.broken.seq, found.broken.kind) == (401, BreakKind.TRUNCATED)


def test_attack_truncate_exactly_behind_a_signed_head(attacked: Kept) -> None:
    newest = attacked.checkpoints.newest()
    assert newest is not None
    attacked.drop_triggers()
    attacked.sql(f"DELETE FROM ledger WHERE seq > {newest.seq}")  # noqa: S608
    assert kinds(attacked.verify()) == {BreakKind.TRUNCATED}


def truncate_with_checkpoints(kept: Kept) -> None:
    kept.drop_triggers()
    kept.sql("DELETE FROM checkpoints WHERE number > 1", "DELETE FROM ledger WHERE seq > 302")


def test_attack_truncate_rows_and_checkpoints(attacked: Kept) -> None:
    truncate_with_checkpoints(attacked)
    assert kinds(attacked.verify()) == {BreakKind.TRUNCATED}
    with pytest.raises(LedgerBroken, match="holds checkpoint 2"):
        attacked.checkpoints.take(ACTOR)


def cut(path: Path, keep: int) -> None:
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:keep]))


def test_attack_truncate_rows_checkpoints_and_the_published_file(attacked: Kept) -> None:
    """What is left is the anchor that the database's administrator cannot write."""
    truncate_with_checkpoints(attacked)
    cut(attacked.archive.folder / "checkpoints.jsonl", 1)
    assert kinds(attacked.verify()) == {BreakKind.TRUNCATED}


def test_attack_truncate_everything_against_a_kept_checkpoint(attacked: Kept, tmp_path: Path) -> None:
    """Both anchors are cut as well; one checkpoint on a stick in the security team's drawer shows it."""
    stick = tmp_path / "stick.json"
    stick.write_text(json.dumps(lines(attacked.outside)[-1]))
    truncate_with_checkpoints(attacked)
    cut(attacked.archive.folder / "checkpoints.jsonl", 1)
    cut(attacked.outside, 1)
    assert attacked.verify().intact, "nothing on this machine can show it any more"
    assert kinds(attacked.verify(kept=[stick])) == {BreakKind.TRUNCATED}


def test_attack_fork_from_a_restored_database(attacked: Kept, tmp_path: Path) -> None:
    """The key's holder is made to sign a second history: the database is set back, and the anchors with it."""
    kept_elsewhere = tmp_path / "copy.jsonl"
    shutil.copy(attacked.outside, kept_elsewhere)
    truncate_with_checkpoints(attacked)
    attacked.happen(50)
    with pytest.raises(LedgerBroken):
        attacked.checkpoints.take(ACTOR)
    cut(attacked.archive.folder / "checkpoints.jsonl", 1)
    cut(attacked.outside, 1)
    attacked.happen(400, study_uid="6.6.6")
    assert attacked.checkpoints.take(ACTOR) is not None
    assert attacked.verify().intact
    assert BreakKind.FORKED in kinds(attacked.verify(kept=[kept_elsewhere]))


def test_attack_checkpoints_forged_without_the_key(attacked: Kept) -> None:
    """Chain, tree and checkpoints agree with one another; only the signatures cannot be made."""
    attacked.drop_triggers()
    attacked.replace_rows(rechained(attacked.records(), renamed))
    tree, previous = Frontier(), "0" * 64
    rows = {each.seq: each for each in attacked.checkpoints.taken()}
    forged: list[Checkpoint] = []
    for record in attacked.records():
        tree.add(leaf_of(record))
        if record.seq in rows:
            old = rows[record.seq]
            new = replace(old, head=record.hash, root=tree.root().hex(), previous=previous)
            previous = new.digest
            forged.append(new)
    for each in forged:
        attacked.sql(
            f"UPDATE checkpoints SET head = '{each.head}', root = '{each.root}', previous = '{each.previous}' "  # noqa: S608
            f"WHERE number = {each.number}"
        )
    for path in attacked.checkpoints.anchors:
        path.write_bytes(b"".join(each.line() for each in forged))
    assert BreakKind.CHECKPOINT in kinds(attacked.verify())


def test_attack_a_ledger_of_another_key_in_the_place_of_ours(attacked: Kept, tmp_path: Path) -> None:
    """All of it is made by our own program with another key: whole, signed, announced; but not by whom we know."""
    ours = PublicKey(attacked.archive.published_keys()[0].public.key)
    other = opened(tmp_path / "other")
    with other.database as database:
        (tmp_path / "other").mkdir(exist_ok=True)
        database.migrate()
        other.happen(300, study_uid="6.6.6")
        other.checkpoints.take(ACTOR)
        other.happen(310)
        other.checkpoints.take(ACTOR)
    attacked.database.close()
    for name in ("database.sqlite", "database.sqlite-wal", "database.sqlite-shm"):
        (attacked.folder / name).unlink(missing_ok=True)
    shutil.copy(tmp_path / "other" / "database.sqlite", attacked.folder / "database.sqlite")
    shutil.rmtree(attacked.folder / "store")
    shutil.copytree(tmp_path / "other" / "store", attacked.folder / "store")
    assert kinds(attacked.verify()) & {BreakKind.FORKED, BreakKind.REWRITTEN}, "our anchor outside knows better"
    attacked.outside.unlink()
    assert attacked.verify().intact, "nothing but the key that the verifier has can show it"
    assert kinds(attacked.verify(trusted=[ours])) == {BreakKind.KEY}


def test_attack_swap_the_key(attacked: Kept) -> None:
    """Somebody who may write to the ledger names a key of his own, and signs on with it."""
    folder = KeyFolder(attacked.folder / "store" / "keys")
    thief = folder.create()
    details = {"key_id": thief.public.id, "public_key": thief.public.text, "previous": None}
    with attacked.database.transaction() as session:
        append(session, [AuditEvent(AuditEventType.LEDGER_KEY_PUBLISHED, ACTOR, details=details)])
    attacked.checkpoints.take(ACTOR)
    assert kinds(attacked.verify()) == {BreakKind.KEY}


def test_attack_sign_with_a_retired_key(attacked: Kept, original: Path) -> None:
    """The old private key comes out of a backup after the rotation."""
    old = KeyFolder(original / "store" / "keys").load(attacked.archive.published_keys()[0].id)
    attacked.checkpoints.rotate(ACTOR)
    assert attacked.verify().intact
    assert list((attacked.folder / "store" / "keys").glob(f"{old.public.id}*")) == []
    put_checkpoint(attacked, old)
    assert BreakKind.CHECKPOINT in kinds(attacked.verify())


def put_checkpoint(kept: Kept, key: SigningKey) -> None:
    """A checkpoint at the head with another key, announced as it should be."""
    newest = kept.checkpoints.newest()
    assert newest is not None
    tree = Frontier()
    for record in kept.records():
        tree.add(leaf_of(record))
    head = kept.archive.ledger.head()
    forged = signed(
        key,
        number=newest.number + 1,
        seq=head.seq,
        head=head.hash,
        root=tree.root().hex(),
        time=newest.time,
        previous=newest.digest,
    )
    facts = forged.to_json()
    with kept.database.transaction() as session:
        names = ", ".join(facts)
        values = ", ".join(f":{name}" for name in facts)
        session.execute(text(f"INSERT INTO checkpoints ({names}) VALUES ({values})"), facts)  # noqa: S608
        append(session, [AuditEvent(AuditEventType.LEDGER_CHECKPOINTED, ACTOR, details=facts)])


def test_attack_remove_a_checkpoint(attacked: Kept) -> None:
    attacked.drop_triggers()
    attacked.sql("DELETE FROM checkpoints WHERE number = 1")
    assert BreakKind.CHECKPOINT in kinds(attacked.verify())


def test_attack_replay_a_checkpoint_in_the_database(attacked: Kept) -> None:
    attacked.sql(
        "INSERT INTO checkpoints SELECT 3, seq, head, root, time, previous, key_id, signature"
        " FROM checkpoints WHERE number = 1"
    )
    assert BreakKind.CHECKPOINT in kinds(attacked.verify())


def test_attack_replay_a_checkpoint_in_an_anchor(attacked: Kept) -> None:
    with attacked.outside.open("a") as file:
        file.write(attacked.outside.read_text().splitlines(keepends=True)[0])
    found = attacked.verify()
    assert kinds(found) == {BreakKind.ANCHOR}
    assert "does not follow" in str(found.broken)


@pytest.mark.parametrize("lines_left", [0, 1])
def test_attack_truncate_an_anchor(attacked: Kept, lines_left: int) -> None:
    cut(attacked.outside, lines_left)
    assert kinds(attacked.verify(now=datetime.now(UTC) + LATER)) == {BreakKind.ANCHOR}


def test_attack_remove_an_anchor(attacked: Kept) -> None:
    attacked.outside.unlink()
    assert kinds(attacked.verify(now=datetime.now(UTC) + LATER)) == {BreakKind.ANCHOR}


@pytest.mark.parametrize("name", ["head", "root", "time", "signature", "key_id", "seq"])
def test_attack_edit_an_anchor(attacked: Kept, name: str) -> None:
    """Also its last line, which no later line would contradict."""
    facts = lines(attacked.outside)
    value = facts[-1][name]
    facts[-1][name] = value - 1 if isinstance(value, int) else ("0" if value[0] != "0" else "1") + value[1:]
    attacked.outside.write_text("".join(json.dumps(each) + "\n" for each in facts))
    assert not attacked.verify().intact


def test_attack_poison_the_stored_tree(attacked: Kept) -> None:
    """The nodes are a cache: no proof comes out of false ones, and the next checkpoint puts them right."""
    attacked.sql(f"UPDATE ledger_nodes SET hash = '{'66' * 32}'")  # noqa: S608
    newest = attacked.checkpoints.newest()
    assert newest is not None
    with pytest.raises(NoProof):
        prove(attacked.archive, 600, newest)
    taken = attacked.checkpoints.take(ACTOR)
    assert taken is not None
    assert attacked.verify().intact
    assert proves(prove(attacked.archive, 600, taken), attacked.archive.record(600))


def test_attack_carry_a_proof_to_another_record(attacked: Kept) -> None:
    newest = attacked.checkpoints.newest()
    assert newest is not None
    key = attacked.archive.published_keys()[0].public
    record, other = attacked.archive.record(5), attacked.archive.record(6)
    proof = prove(attacked.archive, 5, newest)
    assert proves(proof, record, key)
    assert not proves(proof, other, key)
    assert not proves(proof, replace(record, actor="X"), key)
    assert not proves(proof | {"seq": 6, "hash": other.hash}, other, key)
    assert not proves(proof | {"checkpoint": replace(newest, seq=newest.seq - 1).to_json()}, record, key)


@pytest.fixture
def sealed(tmp_path: Path) -> Iterator[Kept]:
    """A ledger whose first 512 records lie in two sealed files only."""
    kept = opened(tmp_path / "sealed")
    with kept.database as database:
        database.migrate()
        kept.happen(600)
        kept.checkpoints.take(ACTOR)
        seal(kept.checkpoints, ACTOR, before=datetime.now(UTC) + LATER, level=8)
        shorten(kept.checkpoints, 1, ACTOR)
        shorten(kept.checkpoints, 2, ACTOR)
        kept.checkpoints.take(ACTOR)
        assert kept.verify().breaks == ()
        assert kept.records()[0].seq == 513
        yield kept


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("attack", [flip, Path.unlink, lambda path: path.write_bytes(b"")])
def test_attack_change_a_sealed_file(sealed: Kept, attack: Callable[[Path], object]) -> None:
    attack(sealed.archive.sealed_folder / "000002.jsonl.gz")
    found = sealed.verify()
    assert found.broken is not None
    assert (found.broken.seq, found.broken.kind) == (257, BreakKind.SEGMENT)


def test_attack_forge_a_sealed_file_and_its_row(sealed: Kept) -> None:
    """With full rights on database and files: a record is changed, all hashes are put right, the digest too."""
    path = sealed.archive.sealed_folder / "000001.jsonl.gz"
    packed = gzip.decompress(path.read_bytes())
    records = [LedgerRecord.from_json(json.loads(line)) for line in packed.splitlines()]
    forged = rechained(records, renamed)
    path.write_bytes(gzip.compress(b"".join(json.dumps(each.to_json()).encode() + b"\n" for each in forged)))
    digest = sha256(path.read_bytes()).hexdigest()
    sealed.sql(f"UPDATE segments SET file_sha256 = '{digest}' WHERE number = 1")  # noqa: S608
    assert not sealed.verify().intact


def test_attack_delete_rows_under_the_pretext_of_a_seal(sealed: Kept) -> None:
    """A row in `segments` opens nothing: the trigger asks for no pretext."""
    sealed.sql(
        "INSERT INTO segments (number, first, last, file, file_sha256, shortened)"
        " VALUES (3, 513, 590, 'no.gz', 'none', true)"
    )
    with pytest.raises(Exception, match="append-only"):
        sealed.sql("DELETE FROM ledger WHERE seq = 550")
    assert not sealed.verify().intact, "and it claims a file that is not there"
