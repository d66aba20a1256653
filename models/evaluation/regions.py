"""FROC: the share of edits that some region hits, against the false alarms that a genuine scan costs.

False alarms are counted on genuine scans alone: an edited scan is, outside its edit, the same scan once more.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.evaluation.slices import Figures, between, patients
from models.trials import ScanTrial

RATES = (0.1, 0.5, 1.0)  # false alarms a scan


def froc(scans: Sequence[ScanTrial]) -> Figures:
    """Sensitivity at each of RATES; `found_at_all` where every region counts."""
    genuine = [scan for scan in scans if scan.family is None]
    ends = between(patients(scans), lambda chosen: _sensitivities([scans[k] for k in chosen]), len(RATES))
    found = _sensitivities(scans)
    _, curve = points(scans)
    return {
        "genuine_scans": len(genuine),
        "edits": len(scans) - len(genuine),
        "sensitivity": {f"{rate:g}": found[k] for k, rate in enumerate(RATES)},
        "intervals": {f"{rate:g}": ends[k] for k, rate in enumerate(RATES)},
        "found_at_all": float(curve[-1]) if len(curve) else float("nan"),
    }


def points(scans: Sequence[ScanTrial]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(false alarms a scan, sensitivity) at every score, in the order of rising false alarms."""
    alarms, hits, count = _parts(scans)
    if not count or not len(hits):
        return np.zeros(0), np.zeros(0)
    levels = np.unique(np.concatenate([alarms, hits[np.isfinite(hits)]]))[::-1]
    rates = (len(alarms) - np.searchsorted(np.sort(alarms), levels, side="left")) / count
    found = (len(hits) - np.searchsorted(np.sort(hits), levels, side="left")) / len(hits)
    return np.append(0.0, rates), np.append(0.0, found)


def _sensitivities(scans: Sequence[ScanTrial]) -> list[float]:
    alarms, hits, count = _parts(scans)
    if not count or not len(hits):
        return [float("nan")] * len(RATES)
    loudest = np.sort(alarms)[::-1]
    sensitivities = []
    for rate in RATES:
        allowed = int(np.floor(rate * count + 1e-9))
        level = loudest[allowed] if allowed < len(loudest) else -np.inf
        sensitivities.append(float((hits > level).mean()))
    return sensitivities


def _parts(scans: Sequence[ScanTrial]) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """Scores of all false alarms, the best hit of each edit (-inf: missed), and how many genuine scans there are."""
    genuine = [scan.scores for scan in scans if scan.family is None]
    hits = [float(scan.scores[0]) if len(scan.scores) else -np.inf for scan in scans if scan.family is not None]
    alarms = np.concatenate(genuine) if genuine else np.zeros(0)
    return alarms.astype(np.float64), np.array(hits, dtype=np.float64), len(genuine)
