"""Settings on their way to a role: nothing is lost, and nothing around them is asked again."""

from datetime import timedelta

import pytest

from config import Settings
from gateway.handover import hand_down, take_over

SETTINGS = Settings(
    database={"url": "postgresql://user:secret@host/db"},
    destinations=({"name": "pacs", "ae_title": "PACS", "host": "pacs", "port": 104},),
    retention={"instances": timedelta(days=30, seconds=1)},
)


def test_what_is_taken_over_is_what_was_handed_down() -> None:
    there = take_over(hand_down(SETTINGS))
    assert there == SETTINGS
    assert there.database.url is not None
    assert there.database.url.get_secret_value() == "postgresql://user:secret@host/db"


def test_an_environment_that_changed_meanwhile_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    text = hand_down(SETTINGS)
    monkeypatch.setenv("SCANWARDEN_DICOM__PORT", "104")
    assert take_over(text).dicom.port == SETTINGS.dicom.port
