"""The classifier of every audit: logistic regression, never tried on patients that it learned from."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from models.audits.audit import Audit
from models.figures import auc, interval

Table = NDArray[np.float64]
_FOLDS = 5
_RIDGE = 0.02


def judged(
    first: Table, second: Table, groups: Sequence[str], *, name: str, bound: float, about: str, remedy: str
) -> Audit:
    """How well the rows of `second` are told from those of `first`, each of (cases, features), by group."""
    table = np.vstack([first, second])
    label = np.repeat([False, True], [len(first), len(second)])
    scores = crossed(table, label, groups)

    def told(chosen: NDArray[np.int64]) -> float:
        return auc(scores[chosen][label[chosen]], scores[chosen][~label[chosen]])

    low, high = interval(groups, told, seed=1)
    return Audit(name, told(np.arange(len(table))), low, high, bound, len(table), about, remedy)


def told_apart(
    genuine: Table, edited: Table, groups: Sequence[str], *, name: str, bound: float, about: str, remedy: str
) -> Audit:
    """In how many pairs the edited twin has the higher score, ties counting half: twins are compared with each other.

    Stricter than an AUC over all images, in which what two twins share drowns what tells them apart.
    """
    difference = edited - genuine
    table = np.vstack([difference, -difference])
    label = np.repeat([True, False], len(difference))
    scores = crossed(table, label, [*groups, *groups], centred=True)[: len(difference)]
    right = np.where(scores == 0, 0.5, scores > 0)
    low, high = interval(groups, lambda chosen: float(right[chosen].mean()), seed=1)
    return Audit(name, float(right.mean()), low, high, bound, len(right), about, remedy)


def crossed(table: Table, label: NDArray[np.bool_], groups: Sequence[str], *, centred: bool = False) -> Table:
    """Scores of every row by a classifier that never saw its group; `centred`: without an offset, 0 is undecided."""
    names = np.random.default_rng(1).permutation(np.unique(groups))
    fold = {name: place % _FOLDS for place, name in enumerate(names)}
    place = np.array([fold[group] for group in groups])
    scores = np.zeros(len(table))
    for held in np.unique(place):
        learn, test = place != held, place == held
        if len(np.unique(label[learn])) < 2:
            continue
        middle = np.zeros(table.shape[1]) if centred else table[learn].mean(axis=0)
        spread = np.sqrt(((table[learn] - middle) ** 2).mean(axis=0))
        scaled = np.divide(table - middle, spread, out=np.zeros_like(table), where=spread > 1e-12)
        weights = _logistic(scaled[learn], label[learn], offset=not centred)
        scores[test] = scaled[test] @ weights[:-1] + weights[-1]
    return scores


def _logistic(table: Table, label: NDArray[np.bool_], *, offset: bool) -> Table:
    """Weights and offset; both labels weigh the same."""
    x = np.clip(table, -8, 8)
    sign = np.where(label, 1.0, -1.0)
    weight = np.where(label, 0.5 / max(int(label.sum()), 1), 0.5 / max(int((~label).sum()), 1))

    def loss(parameters: Table) -> tuple[float, Table]:
        z = sign * (x @ parameters[:-1] + (parameters[-1] if offset else 0.0))
        slope = -sign * weight / (1 + np.exp(np.clip(z, -50, 50)))
        value = float((weight * np.logaddexp(0, -z)).sum() + _RIDGE * (parameters[:-1] ** 2).sum())
        return value, np.append(x.T @ slope + 2 * _RIDGE * parameters[:-1], slope.sum() if offset else 0.0)

    found = minimize(loss, np.zeros(x.shape[1] + 1), jac=True, method="L-BFGS-B", options={"maxiter": 300})
    return np.asarray(found.x, dtype=np.float64)
