"""The benchmark of ingest: it runs, counts what was acknowledged, and prints what scripts rely on."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.ingest.cells import Cell, measure
from benchmarks.ingest.receivers import ORTHANC, PLAIN, Conditions, Receiver, plain
from tests.faults.harness import REPOSITORY
from tests.faults.modality import STORESCU
from tests.peers import ORTHANC as PROGRAM

pytestmark = [
    pytest.mark.peers,
    pytest.mark.skipif(not Path(STORESCU).exists(), reason="storescu is not installed (apt-get install dcmtk)"),
]


@pytest.mark.skipif(not Path(PROGRAM).exists(), reason="Orthanc is not installed (apt-get install orthanc)")
def test_a_short_run_measures_us_and_the_peers_and_loses_nothing(tmp_path: Path) -> None:
    sizes = ["--quick", "--json", "--runs", "1", "--instances", "12", "--kind", "MR", "--folder", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.ingest", *sizes],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["name"] == "ingest"
    rates = [row for row in found["rows"] if row["unit"] == "instances/s"]
    assert {row["peer"] for row in rates} >= {ORTHANC, "plain pynetdicom", "machine's limit"}
    assert all(row["ours"] > 0 and row["peer_value"] > 0 for row in rates)
    assert all({"case", "ours", "peer", "peer_value", "ratio", "unit"} <= row.keys() for row in found["rows"])


def test_a_receiver_that_holds_less_than_it_acknowledged_is_an_error_and_has_no_rate(tmp_path: Path) -> None:
    @contextmanager
    def forgetful(folder: Path, conditions: Conditions) -> Iterator[Receiver]:
        with plain(folder, conditions) as receiver:
            yield replace(receiver, count=lambda: 0)

    cell = Cell("MR", 1, nodelay=True, tls=False)
    conditions = Conditions(nodelay=True, tls=None)
    found = measure(cell, conditions, {PLAIN: forgetful}, runs=1, instances=4, folder=tmp_path)
    assert found.rate(PLAIN) is None
    assert found.faults == {PLAIN: "4 acknowledged, 0 held"}
