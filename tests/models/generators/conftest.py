"""Genuine images made of formulas, two organs of two splits, and generators of a few channels."""

import cv2
import numpy as np
import pytest
import torch

from models.images.datasets import GenuineImage
from models.images.organs import Organ
from models.splits import Split
from models.tampering.generators.material import Example


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def examples() -> list[Example]:
    """Six training, two calibration and three test images of a kidney and of a chest; sides differ, some are odd."""
    rng = np.random.default_rng(5)
    made = []
    for organ, source, shape in ((Organ.KIDNEY_CT, "kidney", (48, 48)), (Organ.CHEST_XRAY, "chest", (41, 54))):
        for split, count in ((Split.TRAIN, 6), (Split.CALIBRATION, 2), (Split.TEST, 3)):
            for number in range(count):
                noise = rng.normal(size=shape).astype(np.float32)
                pixels = np.rint(np.clip(128 + 200 * cv2.GaussianBlur(noise, (0, 0), 3), 0, 255)).astype(np.uint8)
                image = GenuineImage(organ, source, f"{split.value}-{number}", split, pixels)
                made.append(Example(image, bool(number % 2)))
    return made
