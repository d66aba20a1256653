"""The whole service and a real rsyslog over TLS: what the ledger holds is what the collector holds, in order."""

from pathlib import Path

import pytest

from storage.audit.ledger import verify_chain
from tests.audit_messages import Message
from tests.faults.harness import Gateway, wait_for
from tests.faults.modality import STORESCU, make_study, send
from tests.peers_rsyslog import Rsyslog, installed

pytestmark = [
    pytest.mark.peers,
    pytest.mark.skipif(not Path(STORESCU).exists(), reason="storescu is not installed (apt-get install dcmtk)"),
    pytest.mark.skipif(not installed("ossl"), reason="rsyslog-openssl is not installed (make peers)"),
]


def test_the_service_tells_its_collector_everything_also_what_happened_while_it_was_away(tmp_path: Path) -> None:
    rsyslog = Rsyslog(tmp_path / "rsyslog")
    rsyslog.start()
    collector = rsyslog.collector(backoff_limit=1, confirmation="close-notify").model_dump(mode="json")
    gateway = Gateway(tmp_path, audit={"collectors": [collector], "collect_interval": 0.1})
    gateway.start(roles="receive,timetable")
    try:
        first, second = (make_study(tmp_path, edited=False, slices=3, matrix=8, seed=seed) for seed in (0, 1))
        assert len(send(first.files, gateway.port)) == 3
        wait_for(lambda: _stored(rsyslog) == 3, 30, "the first study is told")
        rsyslog.stop()
        assert len(send(second.files, gateway.port)) == 3  # nobody waits for a collector
        wait_for(lambda: "takes no messages" in gateway.log(), 30, "the outage is noticed")
        rsyslog.start()
        wait_for(lambda: _stored(rsyslog) == 6, 30, "the second study is told")
        wait_for(lambda: any("collector-back" in line for line in rsyslog.lines()), 30, "and that it is back")
        assert gateway.stop() == 0
    finally:
        gateway.kill()
        rsyslog.stop()
    told = [Message(line.split("\ufeff")[1].encode()).record for line in rsyslog.lines()]
    once = list({record.seq: record for record in told}.values())
    assert [record.seq for record in once] == list(range(1, len(once) + 1))
    assert verify_chain(iter(once)).intact
    with gateway.app() as app:
        kept = list(app.ledger.records())
    assert once == kept[: len(once)]
    assert {"application-started", "collector-lost", "collector-back", "instance-stored"} <= {
        each.event for each in once
    }


def _stored(rsyslog: Rsyslog) -> int:
    return len(
        {number for number, line in zip(rsyslog.sequence(), rsyslog.lines(), strict=False) if "instance-stored" in line}
    )
