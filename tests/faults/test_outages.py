"""Disk, database, handles and clock fail and come back: senders hear "later", nothing is lost, no process ends."""

from pathlib import Path

import pytest

from tests.faults.outages import ON_POSTGRESQL, ON_SQLITE, compiler, outages, site
from tests.peers_postgres import postgresql_programs, postgresql_server

pytestmark = pytest.mark.skipif(compiler() is None, reason="there is no C compiler (apt-get install gcc)")


@pytest.mark.timeout(240)
def test_a_failing_disk_a_locked_database_and_a_wrong_clock_lose_nothing_and_pass(tmp_path: Path) -> None:
    with site(tmp_path, 1) as place:
        findings = outages(ON_SQLITE, 1, place, 0, print)
    assert findings.all == []
    assert findings.acknowledged > 100


@pytest.mark.peers
@pytest.mark.timeout(240)
def test_a_postgresql_that_stops_and_starts_again_loses_nothing(tmp_path: Path) -> None:
    programs = postgresql_programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    with postgresql_server(programs) as server, site(tmp_path, 1, server=server) as place:
        findings = outages(ON_POSTGRESQL, 1, place, 0, print)
    assert findings.all == []
    assert findings.acknowledged > 20
