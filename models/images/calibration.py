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
_SERIES = 12  # images that are judged together
_MARGIN = 1.0  # logits between the loudest genuine series and SUSPECT: there are few series
_USUAL = 0.99  # share of calibration images whose distance is usual
_LEEWAY = 1.5  # and how much farther an image of another hospital may lie
_NAMED = 0.998  # share of calibration images whose organ must still be named


@dataclass(frozen=True, eq=False)
class Heard:
    """What a network said of one image of a calibration patient; `series` is judged together."""

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
    """Genuine images as stored, and synthetic ones with partners; half of these pairs are only made alike, half are
    sent a random way."""
    cv2.setNumThreads(1)
    rng = np.random.default_rng(seed)
    heard = [
        _hear(model, np.asarray(image.pixels), image.organ, f"{image.source}/{image.patient}/{index // _SERIES}", False)
        for index, image in enumerate(genuine)
    ]
    by_organ: dict[Organ, list[GenuineImage]] = defaultdict(list)
    for image in genuine:
        by_organ[image.organ].append(image)
    counts: dict[str, int] = defaultdict(int)
    for made in synthetic:
        others = by_organ[made.organ]
        if not others or counts[f"{made.kind}/{made.source}"] >= _MOST:
            continue
        other, reference = (others[int(rng.integers(len(others)))] for _ in range(2))
        path = savepath.SavePath(()) if rng.random() < 0.5 else None
        both = savepath.twins(made.pixels, np.asarray(other.pixels), np.asarray(reference.pixels), rng, path=path)
        name = f"{made.kind}/{made.source}"
        place = counts[name] // _SERIES
        counts[name] += 1
        heard.append(_hear(model, both[0], made.organ, f"{name}/{place}", True, stored=False))
        heard.append(_hear(model, both[1], made.organ, f"partners of {name}/{place}", False, stored=False))
    return heard


def _hear(
    model: LoadedImageModel,
    pixels: NDArray[Any],
    organ: Organ,
    series: str,
    synthetic: bool,
    *,
    stored: bool = True,
) -> Heard:
    output = model.look(inputs.see(pixels))
    return Heard(
        organ,
        series,
        synthetic,
        stored,
        float(output.synthesis[0]),
        output.organ[0].double().numpy(),
        output.embedding[0].numpy(),
    )


def calibrated(card: ImageModelCard, heard: Sequence[Heard], usual: dict[str, Any]) -> ImageModelCard:
    """The card with calibration, thresholds and the limit of strangeness; `usual` is `strangeness.fit` of training."""
    made = [one.logit for one in heard if one.synthetic]
    real = [one.logit for one in heard if not one.synthetic]
    image = logistic([*made, *real], [True] * len(made) + [False] * len(real))
    groups = {kind: _series(heard, synthetic=kind) for kind in (True, False)}
    series = logistic([*groups[True], *groups[False]], [True] * len(groups[True]) + [False] * len(groups[False]))
    named = [one for one in heard if not one.synthetic]
    temperature = _temperature(named)
    distances = strangeness.distances(np.stack([one.embedding for one in named]), usual)
    limit = strangeness.limit_of(distances, _USUAL, _LEEWAY)
    thresholds = ImageThresholds(
        image=_at_least_even(image, quiet_logit(real)),
        review=_at_least_even(series, float(np.quantile(groups[False], 0.95))),
        suspect=_at_least_even(series, max(groups[False]) + _MARGIN),
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
        if one.synthetic is synthetic:
            groups[one.series].append(one.logit)
    return [float(np.mean(logits)) for logits in groups.values() if len(logits) >= 3]


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
