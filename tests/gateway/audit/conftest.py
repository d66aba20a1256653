"""A ledger with events, and collectors that take them."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from storage import AuditEvent, AuditEventType, Database, peer_actor
from storage.audit.ledger import append
from tests.peers_rsyslog import Rsyslog, installed

Fill = Callable[[int], int]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with Database(f"sqlite:///{tmp_path}/scanwarden.sqlite", busy_timeout=20) as database:
        database.migrate()
        yield database


@pytest.fixture
def fill(database: Database) -> Fill:
    """Appends so many events; the number of the last."""

    def more(count: int) -> int:
        event = AuditEvent(
            AuditEventType.INSTANCE_STORED, peer_actor("MR1", "10.1.2.3"), study_uid="1.2", subject="1.2.3"
        )
        with database.transaction() as session:
            return append(session, [event] * count)[-1].seq

    return more


@pytest.fixture(params=["ossl", "gtls"])
def rsyslog(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rsyslog]:
    """A real rsyslog over TLS, with each of its TLS drivers."""
    if not installed(request.param):
        pytest.skip("rsyslog is not installed (apt-get install rsyslog rsyslog-openssl rsyslog-gnutls)")
    server = Rsyslog(tmp_path / "rsyslog", request.param)
    server.start()
    yield server
    server.stop()
