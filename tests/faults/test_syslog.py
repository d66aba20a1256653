"""Nothing of the ledger is lost on its way to a collector (the long run: `python -m tests.faults.syslog`)."""

from pathlib import Path

import pytest

from tests.faults.syslog import Trial
from tests.peers_rsyslog import installed

pytestmark = [
    pytest.mark.peers,
    pytest.mark.skipif(not installed("ossl"), reason="rsyslog is not installed (apt-get install rsyslog-openssl)"),
]


def test_no_event_is_lost_when_the_sender_is_killed_and_the_collector_goes_away(tmp_path: Path) -> None:
    trial = Trial(tmp_path, seed=3)
    try:
        for _ in range(8):
            trial.round()
        trial.outage(400)
        outcome = trial.finish()
    finally:
        trial.close()
    assert outcome.events > 400
    assert outcome.good, str(outcome)
    assert outcome.received == outcome.events
