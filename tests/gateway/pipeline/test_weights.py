"""Weights that are not those of their card: the service does not start with them, and the ledger says so."""

import shutil
from pathlib import Path

import pytest

from gateway.alerts.severity import AlertSeverity, severity_of
from gateway.app import App, CannotStart
from gateway.roles import ready_analyst
from inference import detectors
from models import registry
from storage import AuditEventType, Ledger


@pytest.fixture
def url() -> None:
    """SQLite alone: nothing here depends on the database."""
    return


def test_changed_weights_stop_the_start_and_stand_in_the_ledger(
    app: App, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part in ("cards", "weights"):
        shutil.copytree(registry.SHIPPED / part, tmp_path / part)
    (name,) = app.settings.analysis.models
    weights = tmp_path / "weights" / f"{name}.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    shipped = registry.load
    monkeypatch.setattr(registry, "load", lambda name, device: shipped(name, device, folder=tmp_path))
    detectors._loaded.cache_clear()
    with pytest.raises(CannotStart, match="install the release again"):
        ready_analyst(app)
    (record,) = Ledger(app.database).list(event=AuditEventType.WEIGHTS_REFUSED)
    assert f"weights of {name}: SHA-256" in record.details
    assert severity_of(record.event, record.outcome) is AlertSeverity.INCIDENT
