"""Runs the trials of a split, on as many processes as wanted: the same seed gives the same edits on any number."""

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.progress import track

from models import datasets
from models.datasets import Case
from models.evaluation import families
from models.evaluation.measured import report
from models.evaluation.slices import Figures
from models.registry import LoadedModel
from models.splits import Split
from models.tampering import donors
from models.tampering.material import Donor
from models.trials import Plan, Trials, run


@dataclass(frozen=True)
class Wanted:
    """Which trials: of which images, with which edits. `own` families decide the edits, `more` come after them."""

    data: Path
    cache: Path
    split: Split
    seed: int
    plan: Plan
    own: tuple[str, ...]
    more: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()

    def cases(self) -> list[Case]:
        return [case for case in datasets.load(self.data, self.cache, self.sources) if case.split is self.split]

    def donors(self, cases: Sequence[Case]) -> list[Donor]:
        """Lesions to clone come from the same split."""
        return donors.of_cases(cases, np.random.default_rng(self.seed), limit=200)


def evaluate(
    model: LoadedModel,
    data: Path,
    cache: Path,
    *,
    split: Split = Split.TEST,
    seed: int = 7,
    plan: Plan | None = None,
    quiet: bool = False,
    workers: int = 1,
) -> Figures:
    """Try every edit family on every series of `split` and report; the same seed gives the same edits.

    Raises MissingData when a source is absent.
    """
    trials = trials_of(model, data, cache, split=split, seed=seed, plan=plan, quiet=quiet, workers=workers)
    return report(trials, model.card)


def trials_of(
    model: LoadedModel,
    data: Path,
    cache: Path,
    *,
    split: Split,
    seed: int,
    plan: Plan | None = None,
    quiet: bool = False,
    workers: int = 1,
) -> Trials:
    """The trials that `evaluate` reports on: the families of the model's card, and those that came after it."""
    own, more = families.own(model.card), families.more(model.card)
    return made(model, Wanted(data, cache, split, seed, plan or Plan(), own, more), quiet=quiet, workers=workers)


def made(model: LoadedModel, wanted: Wanted, *, quiet: bool = True, workers: int = 1) -> Trials:
    """The trials of all cases in their order; `workers` above 1 are processes of one thread each, on the CPU."""
    cases = wanted.cases()
    parts = _alone(model, wanted, cases) if workers == 1 else _shared(model, wanted, cases, workers)
    trials = dict(track(parts, f"trials on {wanted.split.value} patients", total=len(cases), disable=quiet))
    whole = Trials()
    for index in range(len(cases)):
        whole.add(trials[index])
    return whole


def _alone(model: LoadedModel, wanted: Wanted, cases: Sequence[Case]) -> Iterator[tuple[int, Trials]]:
    found = wanted.donors(cases)
    yield from enumerate(run(model, cases, wanted.own, found, wanted.plan, wanted.seed, more=wanted.more))


def _shared(model: LoadedModel, wanted: Wanted, cases: Sequence[Case], workers: int) -> Iterator[tuple[int, Trials]]:
    """The largest cases first, so that none is left over for one process at the end."""
    order = sorted(range(len(cases)), key=lambda index: -cases[index].images.nbytes)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_prepare, initargs=(model, wanted)) as pool:
        yield from pool.map(_one, order)


_ready: tuple[LoadedModel, Wanted, list[Case], list[Donor]] | None = None


def _prepare(model: LoadedModel, wanted: Wanted) -> None:
    import torch

    global _ready
    torch.set_num_threads(1)
    cases = wanted.cases()
    _ready = model, wanted, cases, wanted.donors(cases)


def _one(index: int) -> tuple[int, Trials]:
    if _ready is None:
        raise RuntimeError("_prepare has not run in this process")
    model, wanted, cases, found = _ready
    part = run(model, [cases[index]], wanted.own, found, wanted.plan, wanted.seed, more=wanted.more)
    return index, next(part)
