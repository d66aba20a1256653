"""A whole-image model whose answers a test gives, for whoever needs one without weights."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.images.card import ImageModelCard, ImageThresholds
from models.images.organs import KNOWN, Organ
from models.images.prediction import ImagePrediction

Answer = tuple[Organ, float]


def always(organ: Organ, logit: float = -6.0) -> Callable[[NDArray[Any]], Answer]:
    return lambda _: (organ, logit)


def smooth_is_generated(image: NDArray[Any]) -> Answer:
    """Noise is what scanners make: an image without it is generated. Wide ones are chest X-rays, the others brains."""
    if np.unique(image).size <= 4:
        return Organ.UNKNOWN, 0.0
    step = float(np.median(np.abs(np.diff(image.astype(np.float32), axis=1))))
    return Organ.CHEST_XRAY if image.shape[1] > 100 else Organ.BRAIN_MR, 8.0 if step < 4 else -8.0


class KnownImages:
    """Says of each image what `says` gives for it: an organ, and the logit of synthesis. Keeps what it was shown."""

    def __init__(self, says: Callable[[NDArray[Any]], Answer], *, sure: float = 0.97, **card: Any) -> None:
        self._says, self._sure = says, sure
        values: dict[str, Any] = {
            "name": "known-images", "version": "1", "network": "none", "arguments": {}, "digest": "1" * 64,
            "licence": "test", "thresholds": ImageThresholds(image=0.5, review=0.5, suspect=0.9),
        }  # fmt: skip
        self.card = ImageModelCard(**{**values, **card})
        self.shown: list[NDArray[Any]] = []

    def predict(self, images: Sequence[NDArray[Any]], *, saliency: bool = False) -> list[ImagePrediction]:
        self.shown += images
        return [self._one(image, saliency=saliency) for image in images]

    def _one(self, image: NDArray[Any], *, saliency: bool) -> ImagePrediction:
        organ, logit = self._says(image)
        organs = np.full(len(KNOWN), 1 / len(KNOWN), np.float32)
        if organ is not Organ.UNKNOWN:
            organs[:] = (1 - self._sure) / (len(KNOWN) - 1)
            organs[KNOWN.index(organ)] = self._sure
        picture = np.zeros(image.shape, np.float32) if saliency else None
        reason = "unlike all that it was shown" if organ is Organ.UNKNOWN else ""
        return ImagePrediction(organ, organs, logit, reason, picture)
