"""`kill -9` of acceptors and service, at the points of the receive path and at random: nothing acknowledged is lost."""

from pathlib import Path

import pytest

from storage.tables import Instance
from tests.faults.harness import Gateway, wait_for
from tests.faults.receiving import compare, rounds
from tests.faults.senders import Senders, Told


@pytest.mark.timeout(300)
def test_kills_of_the_receive_path_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    findings = rounds(8, tmp_path, seed=20261120, services=2)
    assert findings.all == []
    assert findings.kills >= 8
    assert findings.acknowledged >= findings.kills


@pytest.mark.timeout(120)
def test_the_comparison_sees_what_is_lost_partial_or_in_no_ledger(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path)
    gateway.start(roles="receive")
    senders = Senders(gateway.port, 2, 1)
    wait_for(lambda: len(senders.told.acknowledged) >= 20, 30, "instances are acknowledged")
    senders.rest()
    wait_for(lambda: senders.idle, 30, "what was begun is acknowledged")
    senders.end()
    assert gateway.stop() == 0
    told = senders.told
    assert compare(gateway, told).all == []
    with gateway.app() as app, app.database.transaction() as session:
        torn, gone = session.query(Instance).limit(2).all()
        with app.store.locate(torn.path).open("r+b") as file:
            file.truncate(torn.size - 1)
        app.store.remove(gone.path)
    found = compare(gateway, Told(told.sent, told.acknowledged | {("2.25.1", "0" * 64)}))
    assert (len(found.lost), len(found.partial)) == (3, 2)
    assert str(found).endswith("3 lost, 2 partial, 0 ledger breaks")
