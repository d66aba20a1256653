"""What a role's process does before its work begins."""

import gc
from types import SimpleNamespace
from typing import cast

import pytest

from gateway import roles
from gateway.app import App
from gateway.dicom import receiver


def test_a_receiver_does_not_look_for_garbage_among_what_stays_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    frozen: list[int] = []
    monkeypatch.setattr(receiver, "start", lambda *_, **__: frozen.append(gc.get_freeze_count()))
    try:
        roles._receive(cast(App, SimpleNamespace(settings=None, database=None, store=None)), None)
    finally:
        gc.unfreeze()
    assert frozen[0] > 10_000, "every collection walks over all modules, with the interpreter's lock in its hand"
