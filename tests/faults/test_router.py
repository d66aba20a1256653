"""The router in line under SIGKILL: what was acknowledged reaches the PACS, in the order in which it came."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import select

from config import Settings
from gateway.app import App, build, prepare
from gateway.handover import hand_down
from storage.forwarding import counts
from storage.tables import ForwardState, Instance
from tests.faults.harness import REPOSITORY, Archive, wait_for
from tests.faults.modality import make_study
from tests.gateway.pipeline.conftest import arrive

SLICES = 200


@contextmanager
def deliver_role(settings: Settings) -> Iterator[None]:
    """The role's own process; it ends with SIGKILL."""
    command = [sys.executable, "-m", "gateway.roles", "deliver", str(os.getpid())]
    with subprocess.Popen(command, stdin=subprocess.PIPE, cwd=REPOSITORY) as process:
        assert process.stdin is not None
        process.stdin.write(hand_down(settings).encode())
        process.stdin.close()
        try:
            yield
        finally:
            process.kill()


def test_everything_is_passed_on_in_order_though_the_deliver_role_is_killed_in_the_middle(tmp_path: Path) -> None:
    seen: list[str] = []
    hurry = threading.Event()

    def answer(uid: str) -> int:
        seen.append(uid)
        if not hurry.is_set():
            time.sleep(0.01)
        return 0

    archive = Archive(answer=answer)
    settings = Settings.model_validate(
        {
            "store": {"root": tmp_path / "var", "high_watermark": 1, "low_watermark": 1, "reserve_bytes": 0},
            "destinations": [{"name": "pacs", "ae_title": "ARCHIVE", "host": "127.0.0.1", "port": archive.port}],
            "forwarding": {"routes": [{"destination": "pacs"}], "backoff": 0.1, "interval": 0.05},
        }
    )
    prepare(settings)
    with archive.running(), build(settings) as app:
        arrive(app, make_study(tmp_path, edited=False, slices=SLICES, matrix=8).files)
        for already in (5, 100):
            with deliver_role(settings):
                wait_for(lambda already=already: len(set(seen)) >= already, 60, "some are passed on")  # type: ignore[misc]
        hurry.set()
        with deliver_role(settings):
            wait_for(lambda: _sent(app) == SLICES, 60, "all are passed on, and that is written down")
        with app.database.reading() as session:
            came = list(session.scalars(select(Instance.sop_instance_uid).order_by(Instance.id)))
    assert list(dict.fromkeys(seen)) == came
    assert {len(digests) for digests in archive.digests.values()} == {1}


def _sent(app: App) -> int:
    with app.database.reading() as session:
        return counts(session).get("pacs", {}).get(ForwardState.SENT, 0)
