"""Checkpoints, proofs and seals on both databases: what is signed holds, and nothing false gets signed."""

import json
from base64 import b64decode
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy.exc import IntegrityError

from storage import Database
from storage.audit import segments
from storage.audit.anchors import last_anchored, read_anchored
from storage.audit.archive import sidecar_of
from storage.audit.checkpoint import Checkpoint, CheckpointUnreadable
from storage.audit.keys import KeyFault, PublicKey
from storage.audit.ledger import BreakKind
from storage.audit.merkle import node_hash
from storage.audit.search import Selection, search
from storage.audit.segments import CannotShorten, seal, shorten
from storage.audit.tree import NoProof, prove, prove_growth, proves
from storage.audit.verification import verify_range
from tests.ledgers import ACTOR, Kept

TOMORROW = datetime.now(UTC) + timedelta(days=1)


@pytest.fixture
def kept(database: Database, tmp_path: Path) -> Kept:
    return Kept(database, tmp_path / "kept")


def take(kept: Kept) -> Checkpoint:
    taken = kept.checkpoints.take(ACTOR)
    assert taken is not None
    return taken


def test_a_checkpoint_is_signed_announced_and_anchored(kept: Kept) -> None:
    kept.happen(5)
    first = take(kept)
    assert (first.number, first.seq) == (1, 6), "five events, and the key's own"
    told = kept.records()[-1]
    assert (told.event, json.loads(told.details)) == ("ledger-checkpointed", first.to_json())
    second = take(kept)
    assert second.previous == first.digest
    for path in kept.checkpoints.anchors:
        assert read_anchored(path).checkpoints == (first, second)
    (key,) = kept.archive.published_keys()
    assert second.signed_by(key.public)
    assert kept.verify().intact


def test_every_way_to_grow_gives_the_same_tree(kept: Kept) -> None:
    """Frontiers that were kept, blocks that were completed, and the whole tree taken anew agree at each step."""
    for count in (1, 254, 1, 255, 300, 3):
        kept.happen(count)
        taken = take(kept)
        assert kept.verify().intact
        assert proves(prove(kept.archive, taken.seq, taken), kept.archive.record(taken.seq))
    kept.sql("DELETE FROM ledger_nodes")
    kept.happen(1)
    taken = take(kept)
    assert kept.verify().intact
    assert proves(prove(kept.archive, 7, taken), kept.archive.record(7))


def test_nothing_is_signed_twice_without_need(kept: Kept) -> None:
    assert kept.checkpoints.take(ACTOR, always=False) is not None, "the key is published, and that is signed"
    assert kept.checkpoints.take(ACTOR, always=False) is None
    kept.happen(1)
    assert kept.checkpoints.take(ACTOR, always=False) is not None
    assert kept.checkpoints.take(ACTOR, always=False) is None


def test_the_database_refuses_to_change_a_checkpoint(kept: Kept) -> None:
    kept.happen(1)
    take(kept)
    statements = ["UPDATE checkpoints SET seq = 1", "DELETE FROM checkpoints"]
    for statement in statements if kept.database.is_sqlite else [*statements, "TRUNCATE checkpoints"]:
        with pytest.raises(IntegrityError, match="append-only"):
            kept.sql(statement)


def test_records_and_growth_have_proofs(kept: Kept) -> None:
    kept.happen(300)
    old = take(kept)
    kept.happen(300)
    new = take(kept)
    key = kept.archive.published_keys()[0].public
    for seq in (1, 256, 257, old.seq, new.seq):
        proof = json.loads(json.dumps(prove(kept.archive, seq, new)))
        assert proves(proof, kept.archive.record(seq), key)
        assert len(json.dumps(proof, separators=(",", ":"))) <= 2048
    assert prove_growth(kept.archive, old, new)["path"]
    with pytest.raises(NoProof):
        prove(kept.archive, new.seq + 1, new)
    with pytest.raises(NoProof):
        prove_growth(kept.archive, new, old)


def test_a_range_is_proved_by_its_last_signed_record(kept: Kept) -> None:
    kept.happen(300)
    taken = take(kept)
    kept.happen(20)
    found = verify_range(kept.checkpoints, 100, 200)
    assert (found.intact, found.records, found.covered) == (True, 101, 200)
    found = verify_range(kept.checkpoints, 290)
    assert (found.intact, found.covered) == (True, taken.seq)
    assert verify_range(kept.checkpoints, 1, 9999).breaks[0].kind is BreakKind.TRUNCATED


def test_a_key_is_for_its_owner_only_and_a_retired_one_is_gone(kept: Kept) -> None:
    kept.happen(1)
    take(kept)
    folder = kept.folder / "store" / "keys"
    (file,) = folder.iterdir()
    assert (folder.stat().st_mode & 0o777, file.stat().st_mode & 0o777) == (0o700, 0o600)
    new = kept.checkpoints.rotate(ACTOR)
    old = kept.archive.published_keys()[0]
    assert [each.name for each in folder.iterdir()] == [f"{new.id}.pem"]
    assert new.endorsed_by(old.public)
    assert take(kept).key_id == new.id
    assert kept.verify(trusted=[old.public]).intact, "who trusts the first key follows to the second"
    published = kept.archive.folder / "keys"
    assert {each.name for each in published.glob("*.pem")} == {f"{old.id}.pem", f"{new.id}.pem"}
    assert PublicKey.from_file(published / f"{new.id}.pem").id == new.id
    next(folder.iterdir()).chmod(0o640)
    with pytest.raises(KeyFault, match="others may read"):
        take(kept)


def test_a_lost_key_is_replaced_only_on_request_and_never_silently_believed(kept: Kept) -> None:
    kept.happen(1)
    take(kept)
    for file in (kept.folder / "store" / "keys").iterdir():
        file.unlink()
    with pytest.raises(KeyFault, match="--lost"):
        take(kept)
    new = kept.checkpoints.rotate(ACTOR, lost=True)
    assert {each.kind for each in kept.verify().breaks} == {BreakKind.KEY}
    assert kept.verify(trusted=[new.public]).intact
    kept.checkpoints.trusted = (kept.archive.folder / "keys" / f"{new.id}.pem",)
    assert kept.verify().intact
    kept.checkpoints.trusted = (kept.outside,)
    with pytest.raises(KeyFault, match="PEM"):
        kept.verify()


def test_an_anchor_that_was_away_gets_what_it_missed(kept: Kept) -> None:
    kept.happen(1)
    take(kept)
    kept.outside.rename(kept.outside.with_suffix(".away"))
    kept.outside.mkdir()  # whoever mounts something in its place: not a file
    take(kept)
    failed = [json.loads(r.details) for r in kept.records() if r.event == "ledger-anchored"]
    assert failed
    assert failed[-1]["anchor"] == kept.outside.name
    kept.outside.rmdir()
    kept.outside.with_suffix(".away").rename(kept.outside)
    with kept.outside.open("a") as file:
        file.write('{"number": 2, "torn by a cra')
    third = take(kept)
    assert last_anchored(kept.outside) == third
    assert [each["number"] for each in lines_of(kept.outside)] == [1, 2, 3]


def lines_of(path: Path) -> list[dict[str, int]]:
    whole = [line for line in path.read_text().splitlines() if line.endswith("}")]
    return [json.loads(line) for line in whole]


def test_a_checkpoint_that_is_taken_meanwhile_raises_no_alarm(kept: Kept) -> None:
    kept.happen(50)
    take(kept)
    real = kept.checkpoints.snapshot

    def late() -> tuple[list[Checkpoint], int]:
        found = real()
        kept.happen(3)
        take(kept)
        return found

    kept.checkpoints.snapshot = late  # type: ignore[method-assign]
    assert kept.verify().intact


@pytest.mark.parametrize(
    "facts",
    [None, [], {}, {"number": 1}, {"format": "other"}],
)
def test_what_is_no_checkpoint_is_called_so(facts: object) -> None:
    with pytest.raises(CheckpointUnreadable):
        Checkpoint.from_json(facts)


@pytest.fixture
def sealed(kept: Kept) -> Kept:
    kept.happen(600)
    take(kept)
    assert [each.number for each in seal(kept.checkpoints, ACTOR, before=TOMORROW, level=8)] == [1, 2]
    return kept


def test_a_seal_keeps_rows_and_holds_a_proof_of_its_own(sealed: Kept) -> None:
    assert len(sealed.records()) == 600 + 4, "key, checkpoint and two seals"
    assert sealed.verify().intact
    segment = sealed.archive.segments()[1]
    facts = json.loads(sidecar_of(sealed.archive.sealed_folder / segment.file).read_text())
    assert (facts["first"], facts["last"], facts["level"]) == (257, 512, 8)
    checkpoint = Checkpoint.from_json(facts["checkpoint"])
    node, root = bytes.fromhex(facts["root"]), bytes.fromhex(checkpoint.root)
    sibling, rest = (b64decode(each) for each in facts["path"])
    assert node_hash(node_hash(sibling, node), rest) == root or node_hash(sibling, node_hash(node, rest)) == root
    assert checkpoint.signed_by(sealed.archive.published_keys()[0].public)
    assert not seal(sealed.checkpoints, ACTOR, before=TOMORROW, level=8), "what is left is no whole segment"


def test_a_shortened_ledger_verifies_proves_searches_and_grows(sealed: Kept) -> None:
    before = list(sealed.archive.records())
    assert shorten(sealed.checkpoints, 1, ACTOR) == 256
    assert shorten(sealed.checkpoints, 1, ACTOR) == 0
    assert shorten(sealed.checkpoints, 2, ACTOR) == 256
    assert sealed.records()[0].seq == 513
    assert list(sealed.archive.records())[: len(before)] == before
    sealed.happen(10)
    taken = take(sealed)
    assert sealed.verify().intact
    assert verify_range(sealed.checkpoints, 500, 520).intact
    for seq in (1, 256, 257, 600):
        assert proves(prove(sealed.archive, seq, taken), sealed.archive.record(seq))
    found = search(sealed.archive, Selection(text="1.2.3.99"))
    assert [record.seq for record in found] == [100]
    told = [json.loads(r.details) for r in sealed.records() if r.event == "ledger-shortened"]
    assert [each["last"] for each in told] == [256, 512]
    assert {each.id for each in sealed.archive.published_keys()} == {taken.key_id}


def test_the_trigger_stands_again_after_shortening(sealed: Kept) -> None:
    shorten(sealed.checkpoints, 1, ACTOR)
    with pytest.raises(IntegrityError, match="append-only"):
        sealed.sql("DELETE FROM ledger WHERE seq = 300")
    assert sealed.verify().intact


def test_a_crash_while_shortening_leaves_rows_and_trigger(sealed: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    real = segments._remove

    def crash(*arguments: object, **options: object) -> int:
        real(*arguments, **options)  # type: ignore[arg-type]
        raise RuntimeError("power is cut")

    monkeypatch.setattr(segments, "_remove", crash)
    with pytest.raises(RuntimeError):
        shorten(sealed.checkpoints, 1, ACTOR)
    assert sealed.records()[0].seq == 1
    with pytest.raises(IntegrityError, match="append-only"):
        sealed.sql("DELETE FROM ledger WHERE seq = 100")
    assert sealed.verify().intact


def test_rows_stay_while_anything_needs_them(sealed: Kept) -> None:
    with pytest.raises(CannotShorten, match="collector"):
        shorten(sealed.checkpoints, 1, ACTOR, needed_from=256)
    with pytest.raises(CannotShorten, match="oldest"):
        shorten(sealed.checkpoints, 2, ACTOR)
    file = sealed.archive.sealed_folder / "000001.jsonl.gz"
    file.write_bytes((sealed.archive.sealed_folder / "000002.jsonl.gz").read_bytes())
    digest = sealed.archive.segments()[1].file_sha256
    sealed.sql(f"UPDATE segments SET file_sha256 = '{digest}' WHERE number = 1")  # noqa: S608
    with pytest.raises(CannotShorten, match="does not hold"):
        shorten(sealed.checkpoints, 1, ACTOR)
    assert sealed.records()[0].seq == 1
