"""Runs the audits on what training is given, and refuses to go on where one fails."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from models import datasets
from models.audits import exact, shortcuts
from models.audits.audit import Audit, AuditFailed
from models.datasets import Case
from models.reports import Cell, Measured, Section, Table
from models.samples import Crops, PairBatches, StoredTwins
from models.splits import Split
from models.tampering import donors
from models.tampering.families import ready

_PAIRS = 480
_CROP, _WHOLE = 128, 256  # pixels: what the networks train on, and a whole slice of the sources that mark tumours
_AT_ONCE = 8
SEED = 5


def audit(
    data: Path, cache: Path, families: Sequence[str], sources: Sequence[str], *, pairs: int = _PAIRS, seed: int = SEED
) -> list[Audit]:
    """Every audit, on twins of the patients that are trained on, made as training makes them.

    Raises MissingData when a source is absent.
    """
    cases = [case for case in datasets.load(data, cache, tuple(sources)) if case.split is Split.TRAIN]
    return audit_cases(cases, families, pairs=pairs, seed=seed)


def audit_cases(
    cases: Sequence[Case], families: Sequence[str], *, pairs: int = _PAIRS, seed: int = SEED
) -> list[Audit]:
    """The audits on cases that are already there; place and size are judged where tumours are marked."""
    here = ready(families)
    found = donors.of_cases(cases, np.random.default_rng(seed), limit=100)
    marked = [case for case in cases if case.lesion is not None]
    twins = _twins(PairBatches(cases, found, here, [(pairs, Crops(_CROP, _AT_ONCE))], seed), pairs)
    made = [
        shortcuts.outside_the_mask(twins),
        shortcuts.surface(twins),
        exact.identity(cases, seed),
        exact.headers(seed),
    ]
    if marked:
        whole = _twins(PairBatches(marked, found, here, [(pairs, Crops(_WHOLE, _AT_ONCE))], seed), pairs)
        made.append(shortcuts.priors(whole))
    return made


def require(audits: Sequence[Audit]) -> None:
    """Raises AuditFailed that names every audit that did not pass, with its figure and where to look."""
    failed = [each for each in audits if not each.passed]
    if failed:
        said = "; ".join(f"{each.sentence()}; {each.remedy}" for each in failed)
        raise AuditFailed(f"nothing is published, for edited images can be told without their edits: {said}")


def audit_section(audits: Sequence[Audit]) -> Section:
    """The audits as a part of a report."""
    rows: list[list[Cell]] = [
        [
            each.name,
            Measured(each.auc, each.low, each.high),
            f"at most {each.bound:g}",
            each.cases,
            each.passed,
            each.about,
        ]
        for each in audits
    ]
    columns = ["audit", "AUC", "allowed", "cases", "passed", "what it is"]
    words = (
        "What a classifier tells that sees no edit; 0.5 is chance. One that fails keeps a model from being published."
    )
    return Section("Shortcut audits", words, [Table("Shortcuts", columns, rows)])


def _twins(batches: PairBatches, pairs: int) -> list[StoredTwins]:
    return [twin for step in range(-(-pairs // _AT_ONCE)) for twin in batches.stored(step)]
