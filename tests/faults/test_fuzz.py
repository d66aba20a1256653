"""A short run of the fuzzer, and that it would see a loss."""

import random
import struct
from pathlib import Path

import pytest

from tests.faults import fuzz
from tests.faults.modality import STORESCU

pytestmark = [
    pytest.mark.peers,
    pytest.mark.skipif(not Path(STORESCU).exists(), reason="storescu is not installed (apt-get install dcmtk)"),
]


def test_mutated_associations_take_nobody_down_and_lose_nothing(tmp_path: Path) -> None:
    """`python -m tests.faults.fuzz --rounds 10000` is the long one, which also compares the sound sender's rates."""
    found = fuzz.run(120, 30, tmp_path, seed=7)
    assert not found.bad, str(found)
    assert found.mutated == 120
    assert found.unreached == 0
    assert found.answered > 60
    assert len(found.acknowledged) > 20
    assert found.beside
    assert sum(found.beside) > 0


def test_a_visit_knows_what_was_acknowledged() -> None:
    """Else nothing could be missed."""

    def element(number: int, value: bytes) -> bytes:
        return struct.pack("<HHI", 0, number, len(value)) + value

    command = element(0x0002, b"1.2\0") + element(0x0100, b"\x01\x80") + element(0x0900, b"\0\0")
    command += element(0x1000, b"2.25.1")
    pdv = struct.pack(">IBB", len(command) + 2, 1, 3) + command
    visit = fuzz.Visit([b""], random.Random(0))  # noqa: S311
    visit.heard = struct.pack(">BxI", 4, len(pdv)) + pdv
    assert visit.acknowledged == ["2.25.1"]
