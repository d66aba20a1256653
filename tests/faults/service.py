"""The real service with a detector that needs no weights and a kill at a named point.

`python -m tests.faults.service serve CONFIG` starts it; otherwise it is a role that its supervisor starts.
SCANWARDEN_TEST_KILL_AT names the point of a revision or of an instance at which supervisor and role die with SIGKILL;
SCANWARDEN_TEST_KILL_AFTER says at which passing of it, SCANWARDEN_TEST_KILL_ALONE that the supervisor lives on.
SCANWARDEN_TEST_POISON names a study whose analysis takes its process down. SCANWARDEN_TEST_IMAGES=smooth has whole
images looked at by a stand-in that calls smooth ones generated; =real by the model that ships.
"""

import os
import signal
import sys
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from inference.detectors import Detector
    from inference.volume import Stack, Volume
    from models.images.prediction import ImageModel

KILL_AT = "SCANWARDEN_TEST_KILL_AT"
KILL_AFTER = "SCANWARDEN_TEST_KILL_AFTER"
KILL_ALONE = "SCANWARDEN_TEST_KILL_ALONE"
POISON = "SCANWARDEN_TEST_POISON"
IMAGES = "SCANWARDEN_TEST_IMAGES"
COMMAND = (sys.executable, "-m", "tests.faults.service")


def main(arguments: Sequence[str]) -> int:
    from config.settings import Role

    if arguments[0] == "serve":
        from config import load_settings
        from gateway import processes

        if os.environ.get(KILL_ALONE):  # who is killed again and again is not to wait longer each time
            setattr(processes, "LONGEST_PAUSE", processes.FIRST_PAUSE)  # noqa: B010 - mypy's rules of export
        roles = [Role(name) for name in arguments[2].split(",")] if len(arguments) > 2 else list(Role)
        return processes.supervise(load_settings(Path(arguments[1])), None, roles, COMMAND)
    from gateway import roles as gateway_roles
    from gateway.pipeline import points
    from storage import points as storage_points

    points.listener = storage_points.listener = _kill_at(os.environ.get(KILL_AT, ""))
    if arguments[0] == Role.ANALYSE:
        from gateway.pipeline import analysing

        setattr(analysing, "detectors_for", lambda *_, **__: (bright_pixels(),))  # noqa: B010 - mypy's rules of export
        if os.environ.get(IMAGES) != "real":
            setattr(analysing, "image_model_for", lambda *_, **__: _image_model())  # noqa: B010
    return gateway_roles.main(arguments)


def _kill_at(name: str) -> Callable[[str], None]:
    passing = count(1)
    after, alone = int(os.environ.get(KILL_AFTER) or 1), bool(os.environ.get(KILL_ALONE))

    def listener(point: str) -> None:
        if point == name and next(passing) >= after:
            if not alone:
                os.kill(os.getppid(), signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)

    return listener


def bright_pixels() -> "Detector":
    """A detector that calls bright pixels an edit, and whose process dies of the study that POISON names."""
    from inference.coverage import Coverage, by_header
    from inference.detectors import Detection
    from models.card import ModelCard
    from tests.faults.modality import EDIT_VALUE

    class BrightPixels:
        card = ModelCard(
            name="bright-pixels", version="1", network="none", arguments={}, digest="0" * 64, licence="Apache-2.0"
        )

        def covers(self, stack: "Stack") -> Coverage:
            return by_header(self.card, stack)

        def recognises(self, volume: "Volume") -> Coverage:
            return Coverage()

        def detect(self, volume: "Volume", *, batch: int) -> Detection:
            if os.environ.get(POISON, "none") == volume.stack.members[0][0].study_uid:
                os.kill(os.getpid(), signal.SIGSEGV)
            edit = (volume.voxels >= EDIT_VALUE).astype(np.float32)
            logits = np.where(edit.any(axis=(1, 2)), 8.0, -8.0).astype(np.float32)
            return Detection(edit, logits, np.full(edit.shape, 2, np.uint8))

    return BrightPixels()


def _image_model() -> "ImageModel | None":
    from tests.image_models import KnownImages, smooth_is_generated

    return KnownImages(smooth_is_generated) if os.environ.get(IMAGES) == "smooth" else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
