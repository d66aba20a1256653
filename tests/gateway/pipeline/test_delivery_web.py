"""Deliveries over STOW-RS."""

import shutil
from pathlib import Path

import pytest

from config import Settings
from gateway.app import build
from tests.gateway.dicom.test_stow import WebArchive
from tests.gateway.pipeline.world import World


@pytest.mark.parametrize(("transport", "profile"), [("stow", "orthanc"), (None, "web")])
def test_an_archive_over_the_web_gets_regions_and_report_and_is_waited_for_when_it_is_busy(
    tmp_path: Path, migrated: Path, transport: str | None, profile: str
) -> None:
    archive = WebArchive()
    (tmp_path / "var").mkdir()
    shutil.copy(migrated, tmp_path / "var")
    settings = Settings(
        store={"root": tmp_path / "var", "high_watermark": 1, "low_watermark": 1, "reserve_bytes": 0},
        profiles=[{"name": "web", "extends": "orthanc", "transport": "stow"}],
        destinations=[{"name": "pacs", "dicomweb": archive.url, "transport": transport, "profile": profile}],
    )
    try:
        with build(settings) as app:
            gateway = World(app)
            planted = gateway.plan(profile=profile)
            archive.answer = lambda: (503, None)
            gateway.turn()
            assert gateway.states() == ["WAITING", "WAITING"]
            archive.answer = lambda: (200, None)
            gateway.wind(60)
            assert gateway.states() == ["DELIVERED", "DELIVERED"]
            bodies = [body for _, _, body in archive.requests]
            sent = [kind for body in bodies for kind, uid in planted.objects.items() if uid.encode() in body]
            assert sent == ["SEG", "SEG", "SR"]
    finally:
        archive.close()
