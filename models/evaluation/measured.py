"""Every figure of a model from its trials; the same trials give the same figures."""

import hashlib
from collections.abc import Sequence

import numpy as np

from models.card import ModelCard
from models.evaluation import families, groups, regions
from models.evaluation.classes import classes
from models.evaluation.reliability import reliability
from models.evaluation.series import series
from models.evaluation.slices import Figures, alarms, images
from models.splits import UNSEEN
from models.trials import ScanTrial, SliceTrial, Trials


def report(trials: Trials, card: ModelCard, *, unseen: Sequence[str] = UNSEEN) -> Figures:
    """Every figure, by source and by family; `card` gives families, calibration and thresholds.

    `unseen` are the sources of which no patient was trained or calibrated on; `known` figures leave them out.
    """
    own = families.trained(card)
    slices = trials.slices
    trained = [trial for trial in slices if trial.family in own]
    strange = [trial for trial in slices if trial.family in families.own(card) and trial.family not in own]
    known = [trial for trial in trained if trial.source not in unseen]
    genuine = [trial for trial in slices if trial.family is None]
    quiet = [trial for trial in genuine if trial.source not in unseen]
    sources = sorted({trial.source for trial in slices})
    tried, later = (
        [name for name in names if any(t.family == name for t in slices)]
        for names in (families.own(card), families.more(card))
    )
    scans, boxes = (
        [scan for scan in group if scan.family is None or scan.family in own] for group in (trials.scans, trials.boxes)
    )
    overall, at_home = images(trained, card, bounds=True), images(known, card, bounds=True)
    error = reliability(trained, genuine, card)
    return {
        "edited_slices": len(trained),
        "genuine_slices": len(genuine),
        "patients": len({(trial.source, trial.patient) for trial in slices}),
        "edits": _digest(trials),
        "overall": overall | {"auc_interval": overall["intervals"]["auc"]},
        "known_sources": at_home | {"auc_interval": at_home["intervals"]["auc"]},
        "unseen": {
            "families, known sources": images([t for t in strange if t.source not in unseen], card, bounds=True),
            "sources, trained families": images([t for t in trained if t.source in unseen], card, bounds=True),
            "families and sources": images([t for t in strange if t.source in unseen], card, bounds=True),
            "families, known sources, touched up": images(
                [t for t in strange if t.source not in unseen and t.touched_up], card, bounds=True
            ),
        },
        "sources": {name: images([t for t in trained if t.source == name], card, bounds=True) for name in sources},
        "families": {name: images([t for t in slices if t.family == name], card, bounds=True) for name in tried},
        "never_trained": [name for name in (*tried, *later) if name not in own],
        "later_families": {name: images([t for t in slices if t.family == name], card, bounds=True) for name in later},
        "touched_up": images([t for t in trained if t.touched_up], card),
        "as_edited": images([t for t in trained if not t.touched_up], card),
        "false_alarms": {
            name: alarms([t for t in genuine if name in (t.source, "all")], card) for name in (*sources, "all")
        },
        "studies": {
            name: series([t for t in trials.studies if name in (t.source, "all")], own, card)
            for name in (*sorted({trial.source for trial in trials.studies}), "all")
        },
        "calibration_error": error["error"],
        "reliability": {
            "all": error,
            "known sources": reliability(known, quiet, card),
            **{name: _calibrated(name, trained, genuine, card) for name in sources},
        },
        "classes": classes([*known, *quiet], card),
        "froc": _froc(scans, unseen),
        "froc_boxes": _froc(boxes, unseen) if boxes else {},
        **groups.groups(known, quiet, card),
        "by_condition": groups.conditions([t for t in trials.conditions if t.source not in unseen], card),
    }


def _froc(scans: Sequence[ScanTrial], unseen: Sequence[str]) -> Figures:
    names = sorted({scan.source for scan in scans})
    return {
        "known sources": regions.froc([s for s in scans if not s.alone and s.source not in unseen]),
        **{name: regions.froc([s for s in scans if s.source == name]) for name in names},
    }


def _calibrated(name: str, edited: Sequence[SliceTrial], genuine: Sequence[SliceTrial], card: ModelCard) -> Figures:
    return reliability(
        [trial for trial in edited if trial.source == name], [trial for trial in genuine if trial.source == name], card
    )


def _digest(trials: Trials) -> str:
    """SHA-256 over the checksums of every edited image: equal digests mean that the very same edits were tried."""
    return hashlib.sha256(np.array(trials.edits, dtype="<u4").tobytes()).hexdigest()
