"""Weights that are not those of their card: the service does not start with them, and the ledger says so."""

import shutil
from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.alerts.severity import AlertSeverity, severity_of
from gateway.app import App, CannotStart
from gateway.cli import app as commands
from gateway.roles import ready_analyst
from inference import detectors, whole_images
from models import registry
from models.images import registry as image_registry
from storage import AuditEventType, Ledger
from tests.faults.modality import make_study


def install_changed(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The release once more in `folder`, one bit of one model's weights changed, and in use instead of ours."""
    for part in ("cards", "weights"):
        shutil.copytree(registry.SHIPPED / part, folder / part)
    weights = folder / "weights" / f"{name}.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    for module, loader, cached in (
        (registry, "load", detectors._loaded),
        (image_registry, "load_image_model", whole_images._loaded),
    ):
        monkeypatch.setattr(module, loader, partial(getattr(module, loader), folder=folder))
        cached.cache_clear()


@pytest.fixture
def url() -> None:
    """SQLite alone: nothing here depends on the database."""
    return


@pytest.mark.parametrize("name", ["edit-unet", "organ-resnet"])
def test_changed_weights_stop_the_start_and_stand_in_the_ledger(
    name: str, app: App, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_changed(name, tmp_path, monkeypatch)
    with pytest.raises(CannotStart, match="install the release again"):
        ready_analyst(app)
    (record,) = Ledger(app.database).list(event=AuditEventType.WEIGHTS_REFUSED)
    assert f"weights of {name}: SHA-256" in record.details
    assert severity_of(record.event, record.outcome) is AlertSeverity.INCIDENT


@pytest.mark.parametrize("name", ["edit-unet", "organ-resnet"])
def test_the_command_refuses_changed_weights_in_words(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SCANWARDEN_CONFIG", raising=False)
    install_changed(name, tmp_path, monkeypatch)
    study = make_study(tmp_path, edited=False)
    result = CliRunner().invoke(commands, ["analyse", str(study.files[0].parent)], catch_exceptions=False)
    assert result.exit_code == 2
    assert f"weights of {name}: SHA-256" in " ".join(result.output.split())
    assert "Traceback" not in result.output
