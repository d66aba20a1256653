"""Shortcuts that would flatter a whole-image network: do file size, header, histogram or border tell who made it?

Simple classifiers that see nothing else are cross-validated by patient on pairs that went the save path. A network is
published only where they stay near chance.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from models.errors import ModelsError
from models.figures import auc, interval
from models.images.samples import ImageBatches

Table = NDArray[np.float64]

BOUND = 0.6  # of the area under the curve; above it nothing is published
_FOLDS = 5
_ROUNDS = 60
_BINS = 32


class ShortcutFound(ModelsError):
    """What an image's file says tells genuine from synthetic; a network would learn that."""


@dataclass(frozen=True, eq=False)
class AuditPair:
    """A synthetic and a genuine image as stored; `group` keeps images of one patient in one fold."""

    synthetic: NDArray[Any]
    genuine: NDArray[Any]
    group: str


def pairs(batches: ImageBatches, seed: int, count: int = 600) -> list[AuditPair]:
    """Pairs as training draws them."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        _, genuine, both = batches.pair(rng)
        found.append(AuditPair(*both, f"{genuine.source}/{genuine.patient}"))
    return found


def audit(found: Sequence[AuditPair], seed: int = 1) -> dict[str, dict[str, Any]]:
    """The area under the curve of each view alone and of all together, the better of two classifiers, with interval."""
    images = [pair.synthetic for pair in found] + [pair.genuine for pair in found]
    labels = np.repeat([True, False], len(found))
    groups = np.array([pair.group for pair in found] * 2)
    tables = {name: np.array([view(image) for image in images]) for name, view in VIEWS.items()}
    tables["all together"] = np.hstack(list(tables.values()))
    return {name: _figures(table, labels, groups, seed) for name, table in tables.items()}


def _figures(table: Table, labels: NDArray[np.bool_], groups: NDArray[np.str_], seed: int) -> dict[str, Any]:
    def told(scores: Table, chosen: Any = slice(None)) -> float:
        made = labels[chosen]
        return auc(scores[chosen][made], scores[chosen][~made])

    best = max((_crossed(table, labels, groups, learn, seed) for learn in (_logistic, _stumps)), key=told)
    low, high = interval(list(groups), lambda chosen: told(best, chosen), seed)
    return {"auc": told(best), "interval": [low, high], "pairs": len(table) // 2}


def gate(figures: dict[str, dict[str, Any]]) -> None:
    """Raises ShortcutFound when any view tells more than BOUND allows."""
    loud = {name: row["auc"] for name, row in figures.items() if row["auc"] > BOUND}
    if loud:
        said = ", ".join(f"{name} {value:.2f}" for name, value in loud.items())
        raise ShortcutFound(
            f"after the save path these alone tell synthetic from genuine (AUC, at most {BOUND}): {said}; "
            "mend models/images/savepath.py and train again"
        )


def _file(image: NDArray[Any]) -> list[float]:
    """Bytes a pixel of usual encodings, and bytes."""
    eight = np.rint(image.astype(np.float32) * (255.0 / max(float(image.max()), 1.0))).astype(np.uint8)
    sizes = [len(cv2.imencode(".png", image)[1]), len(cv2.imencode(".png", eight)[1])]
    sizes += [len(cv2.imencode(".jpg", eight, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]) for quality in (75, 95)]
    return [np.log(size / image.size) for size in sizes] + [np.log(size) for size in sizes]


def _header(image: NDArray[Any]) -> list[float]:
    """What Image Pixel and VOI LUT modules would say (PS3.3 C.7.6.3, C.11.2)."""
    top = float(image.max())
    return [*image.shape, image.shape[0] / image.shape[1], image.itemsize, np.log2(top + 1), np.ceil(np.log2(top + 1))]


def _histogram(image: NDArray[Any]) -> list[float]:
    values = image.astype(np.float64).ravel()
    values /= max(values.max(), 1.0)
    shares = np.histogram(values, _BINS, (0, 1))[0] / values.size
    levels = np.unique(values).size
    entropy = -float((shares[shares > 0] * np.log(shares[shares > 0])).sum())
    return [
        *np.sqrt(shares),
        np.log(levels),
        entropy,
        (values == 0).mean(),
        (values == 1).mean(),
        values.mean(),
        values.std(),
    ]


def _border(image: NDArray[Any]) -> list[float]:
    """The outermost two rows and columns of each side, and how far a constant rim goes in."""
    picture = image.astype(np.float64) / max(float(image.max()), 1.0)
    sides = (picture[:2], picture[-2:], picture[:, :2], picture[:, -2:])
    rim = [
        int(np.argmax(np.ptp(side, axis=1) > 0.02)) / len(side)
        for side in (picture, picture[::-1], picture.T, picture.T[::-1])
    ]
    return [float(f(side)) for side in sides for f in (np.mean, np.std, np.min)] + rim


VIEWS: dict[str, Callable[[NDArray[Any]], list[float]]] = {
    "file size": _file,
    "header": _header,
    "histogram": _histogram,
    "border": _border,
}


def _crossed(
    table: Table,
    labels: NDArray[np.bool_],
    groups: NDArray[np.str_],
    learn: Callable[[Table, Any, Table], Table],
    seed: int,
) -> Table:
    """Scores of every row by a classifier that never saw its group."""
    names = np.random.default_rng(seed).permutation(np.unique(groups))
    fold = {str(name): place % _FOLDS for place, name in enumerate(names)}
    folds = np.array([fold[str(group)] for group in groups])
    scores = np.zeros(len(table))
    for k in range(_FOLDS):
        inside = folds != k
        if inside.all() or not inside.any():
            continue
        middle, spread = table[inside].mean(axis=0), table[inside].std(axis=0) + 1e-9
        scaled = np.clip((table - middle) / spread, -5, 5)
        scores[~inside] = learn(scaled[inside], labels[inside], scaled[~inside])
    return scores


def _logistic(seen: Table, labels: NDArray[np.bool_], asked: Table) -> Table:
    """Logistic regression on the features and their squares."""

    def wide(table: Table) -> Table:
        return np.hstack([table, table**2 - 1, np.ones((len(table), 1))])

    x, y = wide(seen), np.where(labels, 1.0, -1.0)

    def loss(weights: Table) -> tuple[float, Table]:
        margin = y * (x @ weights)
        slope = -y / (1 + np.exp(np.clip(margin, -50, 50)))
        return float(np.logaddexp(0, -margin).mean() + 0.01 * weights @ weights), x.T @ slope / len(y) + 0.02 * weights

    found = minimize(loss, np.zeros(x.shape[1]), jac=True, method="L-BFGS-B", options={"maxiter": 200})
    return np.asarray(wide(asked) @ found.x)


def _stumps(seen: Table, labels: NDArray[np.bool_], asked: Table) -> Table:
    """Boosted stumps (Friedman 2001): one feature and one threshold a round."""
    cuts = np.quantile(seen, np.linspace(0.1, 0.9, 9), axis=0)
    above = (seen[None] > cuts[:, None]).reshape(-1, len(seen), seen.shape[1]).transpose(0, 2, 1).reshape(-1, len(seen))
    sizes = above.sum(axis=1)
    said, answers = np.zeros(len(seen)), np.zeros(len(asked))
    for _ in range(_ROUNDS):
        rest = labels - 1 / (1 + np.exp(-said))
        inside = above @ rest
        outside = rest.sum() - inside
        gain = inside**2 / np.maximum(sizes, 1) + outside**2 / np.maximum(len(seen) - sizes, 1)
        best = int(gain.argmax())
        cut, feature = divmod(best, seen.shape[1])
        high, low = 4 * inside[best] / max(sizes[best], 1), 4 * outside[best] / max(len(seen) - sizes[best], 1)
        said += 0.3 * np.where(above[best], high, low)
        answers += 0.3 * np.where(asked[:, feature] > cuts[cut, feature], high, low)
    return answers
