"""Audit messages reach a real rsyslog over TLS: all of them, in order, as they were made."""

import pytest

from gateway.audit.exporter import Courier
from gateway.audit.syslog import CollectorFault, CollectorRefused
from storage import Database, Ledger
from storage.audit import spool
from storage.audit.ledger import verify_chain
from storage.audit.messages import AuditSource
from tests.audit_messages import Message
from tests.gateway.audit.conftest import Fill
from tests.peers_rsyslog import Authority, Rsyslog

pytestmark = pytest.mark.peers
SOURCE = AuditSource(host="gateway.example")


def courier(database: Database, rsyslog: Rsyslog, **values: object) -> Courier:
    return Courier(database, rsyslog.collector(**values), SOURCE)


def test_the_collector_holds_the_ledger_record_by_record(database: Database, rsyslog: Rsyslog, fill: Fill) -> None:
    last = fill(120)
    sender = courier(database, rsyslog, batch=50)
    assert [sender.deliver() for _ in range(4)] == [50, 50, 20, 0]
    assert rsyslog.eventually_has(last) == list(range(1, last + 1))
    line = rsyslog.lines()[0]
    header, xml = line.split("\ufeff")
    assert header.split()[1:] == ["gateway.example", "scanwarden", "IHE+RFC-3881", "85"]
    assert Message(xml.encode()).event == "110104"
    received = [Message(line.split("\ufeff")[1].encode()).record for line in rsyslog.lines()]
    found = verify_chain(iter(received))
    assert found.intact
    assert found.head == Ledger(database).head()


def test_a_collector_that_was_down_gets_what_it_missed(database: Database, rsyslog: Rsyslog, fill: Fill) -> None:
    sender = courier(database, rsyslog)
    fill(10)
    assert sender.deliver() == 10
    rsyslog.stop()
    last = fill(700)
    for _ in range(3):
        with pytest.raises(CollectorFault, match="cannot be reached"):
            sender.deliver()
    rsyslog.start()
    while sender.deliver():
        pass
    assert rsyslog.eventually_has(last) == list(range(1, last + 1))


def test_openssl_confirms_with_a_close_notify_and_gnutls_without(
    database: Database, rsyslog: Rsyslog, fill: Fill, request: pytest.FixtureRequest
) -> None:
    fill(3)
    sender = courier(database, rsyslog, confirmation="close-notify")
    if "ossl" in request.node.name:
        assert sender.deliver() == 3
        return
    with pytest.raises(CollectorFault, match="confirmation: close"):
        sender.deliver()
    assert courier(database, rsyslog, confirmation="close").deliver() == 3


def test_what_tcp_acknowledged_is_enough_when_the_settings_say_so(
    database: Database, rsyslog: Rsyslog, fill: Fill
) -> None:
    last = fill(300)
    assert courier(database, rsyslog, confirmation="sent").deliver() == 300
    assert rsyslog.eventually_has(last) == list(range(1, last + 1))


def test_a_collector_that_does_not_accept_our_certificate_confirms_nothing(
    database: Database, rsyslog: Rsyslog, fill: Fill
) -> None:
    fill(5)
    other = Authority(rsyslog.received.parent / "other", "other").issue("stranger.example")
    stranger = other.model_copy(update={"authorities": rsyslog.client.authorities})
    with pytest.raises(CollectorFault):
        courier(database, rsyslog, tls=stranger).deliver()
    with database.reading() as session:
        assert spool.cursor(session, "archive").seq == 0
    assert rsyslog.sequence() == []


def test_a_collector_whose_certificate_nobody_signed_gets_nothing(
    database: Database, rsyslog: Rsyslog, fill: Fill
) -> None:
    fill(5)
    other = Authority(rsyslog.received.parent / "other", "other")
    tls = rsyslog.client.model_copy(update={"authorities": other.certificate})
    with pytest.raises(CollectorRefused, match="certificate that is not good"):
        courier(database, rsyslog, tls=tls).deliver()
    assert rsyslog.sequence() == []
