"""Turns the logits of a whole-image network into probabilities, and chooses its thresholds, on calibration patients."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from models.calibration import logistic
from models.card import Logistic
from models.figures import upper_bound
from models.images import inputs, savepath, strangeness
from models.images.card import ImageModelCard, ImageThresholds
from models.images.datasets import GenuineImage
from models.images.organs import KNOWN, Organ
from models.images.registry import LoadedImageModel
from models.images.synthetic import SyntheticImage

QUIET = 0.01  # share of genuine images that may pass the image threshold, at 95 % confidence where the counts allow
_MOST = 18  # synthetic images of a kind and source that are listened to
_LEAST = 3  # images that make a series
_SERIES = 12  # images that are judged together
_IMAGE_MARGIN = 0.3  # logits above what keeps calibration images quiet: other hospitals' images are more varied
_MARGIN = 1.0  # logits between the loudest genuine series and SUSPECT: there are few series
_USUAL = 0.99  # share of calibration images whose distance is usual
_LEEWAY = 1.25  # and how much farther an image of another hospital may lie
_NAMED = 0.998  # share of calibration images whose organ must still be named


@dataclass(frozen=True, eq=False)
class Heard:
    """What a network said of one image of a calibration patient, `stored` as it was left; `series` belongs together."""

    organ: Organ
    series: str
    synthetic: bool
    stored: bool
    logit: float
    organ_logits: NDArray[np.float64]
    embedding: NDArray[np.float32]


def listen(
    model: LoadedImageModel, genuine: Sequence[GenuineImage], synthetic: Sequence[SyntheticImage], seed: int
) -> list[Heard]:
    """Every image as its source or generator left it, and once more after a random way of the save path.

    Not in pairs: what is smoothed until its file weighs what a generator's does is no image that an archive holds.
    """
    cv2.setNumThreads(1)
    rng = np.random.default_rng(seed)
    heard = []
    counts: dict[str, int] = defaultdict(int)
    every: list[GenuineImage | SyntheticImage] = [*genuine, *synthetic]
    for image in every:
        kind = image.kind if isinstance(image, SyntheticImage) else ""
        who = f"{kind}/{image.source}" if kind else f"{image.source}/{image.patient}"
        if kind and counts[who] >= _MOST:
            continue
        series = f"{who}/{counts[who] // _SERIES}"
        counts[who] += 1
        pixels = np.asarray(image.pixels)
        for stored in (True, False):
            seen = pixels if stored else savepath.draw(rng, pixels.shape, untouched=0.0)(savepath.grey(pixels))
            if inputs.fault(seen):
                continue
            output = model.look(inputs.see(seen))
            organ = output.organ[0].double().numpy()
            logit, embedding = float(output.synthesis[0]), output.embedding[0].numpy()
            heard.append(Heard(image.organ, series, bool(kind), stored, logit, organ, embedding))
    return heard


def calibrated(card: ImageModelCard, heard: Sequence[Heard], usual: dict[str, Any]) -> ImageModelCard:
    """The card with calibration, thresholds and the limit of strangeness; `usual` is `strangeness.fit` of training."""
    made = [one.logit for one in heard if one.synthetic]
    real = [one.logit for one in heard if not one.synthetic]
    stored = [one.logit for one in heard if one.stored and not one.synthetic]
    image = logistic([*made, *real], [True] * len(made) + [False] * len(real))
    groups = {kind: _series(heard, synthetic=kind) for kind in (True, False)}
    series = logistic([*groups[True], *groups[False]], [True] * len(groups[True]) + [False] * len(groups[False]))
    named = [one for one in heard if not one.synthetic]
    temperature = _temperature(named)
    distances = strangeness.distances(np.stack([one.embedding for one in named if one.stored]), usual)
    limit = strangeness.limit_of(distances, _USUAL, _LEEWAY)
    thresholds = ImageThresholds(
        image=_at_least_even(image, quiet_logit(stored) + _IMAGE_MARGIN),
        review=_at_least_even(series, float(np.quantile(groups[False] or [0.0], 0.95))),
        suspect=_at_least_even(series, max(groups[False], default=0.0) + _MARGIN),
        organ=_organ_threshold(named, temperature),
    )
    return card.model_copy(
        update={
            "image_calibration": image,
            "series_calibration": series,
            "organ_temperature": temperature,
            "thresholds": thresholds,
            "strangeness": usual | {"limit": limit},
        }
    )


def quiet_logit(genuine: Sequence[float]) -> float:
    """The lowest logit that so few genuine images pass that at most QUIET do, at 95 % confidence.

    Where there are too few images for that confidence (less than 299), none of them passes.
    """
    loudest = np.sort(genuine)[::-1]
    allowed = 0
    while allowed + 1 < len(loudest) and upper_bound(allowed + 1, len(loudest)) <= QUIET:
        allowed += 1
    return float(loudest[allowed]) + 1e-3


def _series(heard: Sequence[Heard], *, synthetic: bool) -> list[float]:
    groups: dict[str, list[float]] = defaultdict(list)
    for one in heard:
        if one.synthetic is synthetic and one.stored:
            groups[one.series].append(one.logit)
    return [float(np.mean(logits)) for logits in groups.values() if len(logits) >= _LEAST]


def _temperature(heard: Sequence[Heard]) -> float:
    """What the organ logits are divided by, so that their probabilities are right as often as they say (Guo 2017)."""
    logits = np.stack([one.organ_logits for one in heard])
    truth = np.array([KNOWN.index(one.organ) for one in heard])

    def surprise(log_temperature: float) -> float:
        scaled = torch.from_numpy(logits / np.exp(log_temperature))
        return float(torch.nn.functional.cross_entropy(scaled, torch.from_numpy(truth)))

    found = minimize_scalar(surprise, bounds=(-1.5, 1.5), method="bounded")
    return float(np.exp(found.x))


def _organ_threshold(heard: Sequence[Heard], temperature: float) -> float:
    """The highest of a few thresholds at which nearly all calibration images are still named."""
    logits = np.stack([one.organ_logits for one in heard]) / temperature
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    best = shares[:, :-1].max(axis=1)
    fine = [value for value in (0.9, 0.8, 0.7, 0.6) if (best >= value).mean() >= _NAMED]
    return fine[0] if fine else 0.5


def _at_least_even(fitted: Logistic, logit: float) -> float:
    return float(np.clip(fitted.probability(logit), 0.5, 0.9999))
