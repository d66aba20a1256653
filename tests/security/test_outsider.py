"""A verifier outside needs OpenSSL, Python, the key and docs/verify-ledger.md: the document's own commands are run."""

import json
import re
import shutil
import subprocess
import sys
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from storage import AuditEvent, AuditEventType, Database
from storage.audit.export import Export, ExportForm, export
from storage.audit.ledger import LedgerRecord
from storage.audit.merkle import Frontier
from storage.audit.search import Selection
from storage.audit.tree import leaf_of
from tests.ledgers import ACTOR, Kept, rechained

EVERYTHING = Selection()
DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "verify-ledger.md"


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    """Three studies that arrive in turns, and a checkpoint."""
    folder = tmp_path_factory.mktemp("kept")
    with Database(f"sqlite:///{folder}/database.sqlite") as database:
        database.migrate()
        kept = Kept(database, folder)
        for turn in range(9):
            kept.happen(37, study_uid=f"1.2.{turn % 3}")
        kept.checkpoints.take(ACTOR)
        yield kept


@pytest.fixture
def make(kept: Kept, tmp_path: Path) -> Callable[..., Export]:
    """Makes an export."""

    def run(selection: Selection = EVERYTHING) -> Export:
        return export(kept.checkpoints, tmp_path / "export", selection, ExportForm.JSONL)

    return run


@pytest.fixture
def key(kept: Kept, tmp_path: Path) -> Path:
    """The public key, as the security team handed it over."""
    file = tmp_path / "ledger-key.pem"
    file.write_text(kept.archive.published_keys()[0].public.pem)
    return file


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)


def run_script(folder: Path) -> subprocess.CompletedProcess[str]:
    """The document's own script, without site-packages and without our code."""
    (script,) = blocks("python")
    file = folder.parent / "verify.py"
    file.write_text(script)
    command = [sys.executable, "-I", str(file), folder.name]
    return subprocess.run(command, cwd=folder.parent, capture_output=True, text=True, check=False)


def run_shell(block: str, folder: Path) -> subprocess.CompletedProcess[str]:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed (apt-get install openssl)")
    return subprocess.run(["sh", "-c", block], cwd=folder.parent, capture_output=True, text=True, check=False)


def test_the_whole_ledger_is_verified_by_the_documents_script(make: Callable[..., Export]) -> None:
    made = make()
    answer = run_script(made.folder)
    assert answer.returncode == 0, answer.stderr
    expected = f"verified: {made.records} records, all that were signed, from 1 to {made.checkpoint.seq}"
    assert answer.stdout.strip() == expected
    assert made.proofs == 1


def test_a_study_is_verified_as_a_selection(make: Callable[..., Export]) -> None:
    made = make(Selection(study_uid="1.2.1"))
    assert (made.records, made.proofs) == (111, 3)
    assert "verified: 111 records, a selection" in run_script(made.folder).stdout


def test_the_key_and_the_signature_are_verified_by_openssl(make: Callable[..., Export], key: Path) -> None:
    made = make()
    identify, check = blocks("sh")
    told = run_shell(identify, made.folder).stdout.split("\n")
    assert told[0] == made.checkpoint.key_id
    assert told[1] == f'"key_id":"{made.checkpoint.key_id}"'
    answer = run_shell(check, made.folder)
    assert (answer.returncode, "Signature Verified Successfully" in answer.stdout) == (0, True)
    checkpoint = made.folder / "checkpoint.json"
    checkpoint.write_bytes(checkpoint.read_bytes().replace(b'"number":1', b'"number":2'))
    assert run_shell(check, made.folder).returncode != 0


def edit(line: int, **changes: Any) -> Callable[[list[dict[str, Any]]], None]:
    return lambda records: records[line].update(changes)


def swap(records: list[dict[str, Any]]) -> None:
    records[3], records[4] = records[4], records[3]


@pytest.mark.parametrize(
    "attack",
    [
        edit(10, actor="NOBODY@10.9.9.9"),
        edit(10, details={"size": 1}),
        edit(10, outcome=12),
        edit(10, study_uid=None),
        edit(10, extra="put in"),
        edit(10, hash="0" * 64),
        edit(-1, hash="0" * 64),
        edit(10, previous_hash="0" * 64),
        edit(10, seq=5),
        lambda records: records.pop(),
        lambda records: records.pop(10),
        lambda records: records.insert(10, records[10]),
        lambda records: records.clear(),
        swap,
    ],
)
def test_attack_edit_an_export(make: Callable[..., Export], attack: Callable[[list[dict[str, Any]]], object]) -> None:
    folder = make().folder
    assert run_script(folder).returncode == 0
    file = folder / "records.jsonl"
    records = [json.loads(line) for line in file.read_text().splitlines()]
    attack(records)
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    answer = run_script(folder)
    assert answer.returncode != 0
    assert "FAILED" in answer.stderr or "Traceback" in answer.stderr


def test_attack_forge_a_whole_export(make: Callable[..., Export], key: Path) -> None:
    """Records, hashes, proof and root are all made to fit; only the signature cannot be."""
    made = make()
    file = made.folder / "records.jsonl"
    records = [LedgerRecord.from_json(json.loads(line)) for line in file.read_text().splitlines()]
    forged = rechained(records, lambda facts: facts.update(actor="X"))[:64]
    tree = Frontier()
    peaks: list[bytes] = []
    for record in forged:
        peaks = list(tree.peaks)
        tree.add(leaf_of(record))
    path = [b64encode(peak).decode() for peak in reversed(peaks)]
    file.write_text("".join(json.dumps(record.to_json()) + "\n" for record in forged))
    (made.folder / "proofs.jsonl").write_text(json.dumps({"seq": 64, "hash": forged[-1].hash, "path": path}) + "\n")
    checkpoint = made.folder / "checkpoint.json"
    facts = json.loads(checkpoint.read_bytes()) | {"seq": 64, "head": forged[-1].hash, "root": tree.root().hex()}
    checkpoint.write_text(json.dumps(facts, sort_keys=True, separators=(",", ":")))
    assert "verified: 64 records, all" in run_script(made.folder).stdout, "the records agree with one another"
    assert run_shell(blocks("sh")[1], made.folder).returncode != 0, "and nobody signed them"


def test_the_script_fits_on_a_page_and_imports_the_standard_library_only() -> None:
    (script,) = blocks("python")
    code = [line for line in script.splitlines() if line.strip()]
    assert len(code) <= 40
    imported = {name.strip() for line in code if line.startswith("import ") for name in line[7:].split(",")}
    assert imported <= set(sys.stdlib_module_names)


def test_a_spreadsheet_takes_no_cell_for_a_formula(kept: Kept, tmp_path: Path) -> None:
    kept.archive.ledger.record(AuditEvent(AuditEventType.ASSOCIATION_REFUSED, '=HYPERLINK("x")@10.0.0.1'))
    kept.checkpoints.take(ACTOR)
    made = export(kept.checkpoints, tmp_path / "export", Selection(), ExportForm.CSV)
    assert "'=HYPERLINK" in (made.folder / "records.csv").read_text()
    assert run_script(made.folder).returncode == 0
