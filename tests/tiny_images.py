"""Tiny genuine and synthetic images, and a whole-image network that is a rule: for tests of what is measured."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.images.card import ImageModelCard
from models.images.datasets import GenuineImage
from models.images.evaluation import Images, of_images
from models.images.organs import KNOWN, Organ
from models.images.prediction import ImagePrediction
from models.images.subjects import Plan
from models.images.synthetic import SyntheticImage
from models.splits import Split

SOURCES = {
    Organ.BRAIN_MR: "brain-cheng",
    Organ.CHEST_XRAY: "chest",
    Organ.KIDNEY_CT: "kidney",
    Organ.LUNG_CT: "lung",
    Organ.KNEE_XRAY: "knee",
}
PLAN = Plan(known=60, other=12, synthetic=6, treated=1, treated_as_they_came=1, beside=4, series=6, audited=12)


def tiny_images() -> Images:
    """Two patients of each known source, two of another; six images of each organ by `gan` and by `vae`."""
    genuine = [image for organ, source in SOURCES.items() for image in _genuine(source, organ, 10, 2)]
    genuine += _genuine("chest", Organ.CHEST_XRAY, 5, 5, Split.TRAIN)
    genuine += _genuine("flair-glioma", Organ.BRAIN_MR, 12, 2)
    rng = np.random.default_rng(3)
    made = [
        SyntheticImage(kind, organ, source, Split.TEST, "p0" if kind == "vae" else "", f"{kind}-1", pixels)
        for kind in ("gan", "vae")
        for organ, source in SOURCES.items()
        for pixels in (_texture(rng, 64, smooth=True) for _ in range(6))
    ]
    return of_images(genuine, made, PLAN)


class Rule:
    """Says brain MR of everything square, unknown of the rest; synthetic where neighbours along rows are alike."""

    def __init__(self, name: str = "rule", bias: float = 0.0, generators: Sequence[str] = ("gan", "vae")) -> None:
        self.card = ImageModelCard(
            name=name,
            version="0",
            network="rule",
            arguments={},
            digest="0" * 64,
            licence="none",
            generators=dict.fromkeys(generators, "a rule"),
        )
        self.bias = bias

    def predict(self, images: Sequence[NDArray[Any]], *, saliency: bool = False) -> list[ImagePrediction]:
        return [self._one(np.asarray(image)) for image in images]

    def _one(self, image: NDArray[Any]) -> ImagePrediction:
        share = np.full(len(KNOWN), 0.1, dtype=np.float32)
        share[0] = 0.6
        if image.ndim != 2 or image.size > 10_000 or not np.isfinite(image).all() or np.ptp(image.astype(float)) == 0:
            return ImagePrediction(Organ.UNKNOWN, share, 0.0, "not for a rule")
        values = image.astype(np.float64)
        across, down = (np.abs(np.diff(values, axis=axis)).mean() for axis in (1, 0))
        return ImagePrediction(
            Organ.BRAIN_MR, share, float(6 * np.log(max(down, 1e-3) / max(across, 1e-3))) + self.bias
        )


def _texture(rng: np.random.Generator, side: int, smooth: bool) -> NDArray[np.uint8]:
    """Fine noise over a slope; the generators of these tests smooth it along rows."""
    noise = rng.normal(0, 25, (side, side))
    if smooth:
        noise = 2 * (noise + np.roll(noise, 1, axis=1) + np.roll(noise, 2, axis=1)) / 3
    slope = np.add.outer(np.linspace(60, 150, side), np.linspace(0, 40, side))
    return np.clip(np.rint(slope + noise), 0, 255).astype(np.uint8)


def _genuine(source: str, organ: Organ, count: int, patients: int, split: Split = Split.TEST) -> list[GenuineImage]:
    rng = np.random.default_rng([len(source), count])
    return [
        GenuineImage(organ, source, f"p{k * patients // count}", split, _texture(rng, 64, smooth=False))
        for k in range(count)
    ]
