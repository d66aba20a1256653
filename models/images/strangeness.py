"""How far an image lies from all that was trained on: Mahalanobis distance to the nearest organ (Lee 2018)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_SHRINK = 0.05  # of the mean variance, added to each: directions that training never showed are not infinitely far


def fit(embeddings: NDArray[np.float32], organs: NDArray[np.int64]) -> dict[str, Any]:
    """Means of each organ and one whitening for all, as a card keeps them; `limit` is still infinite.

    embeddings (images, features); organs (images,), places in `organs.KNOWN`.
    """
    means = np.stack([embeddings[organs == organ].mean(axis=0) for organ in np.unique(organs)]).astype(np.float64)
    centred = embeddings - means[np.searchsorted(np.unique(organs), organs)]
    covariance = centred.T @ centred / len(centred)
    covariance += _SHRINK * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    whitening = np.linalg.cholesky(np.linalg.inv(covariance))
    return {"means": np.round(means, 5).tolist(), "whitening": np.round(whitening, 5).tolist(), "limit": None}


def distances(embeddings: NDArray[np.float32], fitted: Mapping[str, Any]) -> NDArray[np.float64]:
    """The distance of each embedding to the nearest organ, in standard deviations; zeros where nothing was fitted."""
    if not fitted:
        return np.zeros(len(embeddings))
    means, whitening = np.asarray(fitted["means"]), np.asarray(fitted["whitening"])
    gaps = (embeddings[:, None, :] - means[None]) @ whitening
    return np.asarray(np.sqrt((gaps**2).sum(axis=2)).min(axis=1) / np.sqrt(gaps.shape[2]))


def strange(distance: float, fitted: Mapping[str, Any]) -> bool:
    limit = fitted.get("limit") if fitted else None
    return limit is not None and distance > float(limit)


def limit_of(found: Sequence[float] | NDArray[np.float64], share: float, margin: float) -> float:
    """The distance that `share` of the images of calibration patients stay within, times `margin`."""
    return round(float(np.quantile(found, share)) * margin, 4)
