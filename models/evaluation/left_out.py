"""Leave one out: what models that were trained without a family, or without a source, make of it.

Each is a training run of its own, `scanwarden train NAME --without-family F`, in a folder whose name says what was left
out; nothing is trained here. Thresholds are those of the model that was trained on everything.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from models import datasets, fitting
from models.card import ModelCard
from models.errors import ModelsError
from models.evaluation import families, regions
from models.evaluation.running import Wanted, made
from models.evaluation.slices import Figures, images
from models.evaluation.tabulated import bounded
from models.registry import LoadedModel
from models.reports import Cell, Measured, Section, Table
from models.splits import UNSEEN, Split
from models.training import TrainingConfig
from models.trials import Plan

_LONGEST = 120  # characters of a folder's name; file systems end at 255 bytes
PLAN = Plan(
    edits=1,
    native_edits=4,
    single_edits=40,
    conditions=0,
    native_conditions=0,
    single_conditions=0,
    through_plane=False,
)


class NothingToLeaveOut(ModelsError):
    """A family or source that training does not see anyway."""


@dataclass(frozen=True)
class LeftOut:
    """What a training run did not see; either may be empty."""

    families: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()

    def folder(self, name: str) -> str:
        """The run's folder: `edit-unet-without-family-telea-source-brain-ms`."""
        parts = [f"{kind}-{value}" for kind, value in self._parts()]
        label = "-".join([name, "without", *parts]) if parts else name
        if len(label) <= _LONGEST:
            return label
        return f"{label[:_LONGEST]}-{hashlib.sha256(label.encode()).hexdigest()[:8]}"

    def command(self, name: str) -> str:
        """What trains such a run."""
        return " ".join(["scanwarden train", name, *(f"--without-{kind} {value}" for kind, value in self._parts())])

    def __str__(self) -> str:
        return " and ".join(value for _, value in self._parts())

    def _parts(self) -> list[tuple[str, str]]:
        named = (("family", self.families), ("source", self.sources))
        return [(kind, value) for kind, values in named for value in values]


def without(config: TrainingConfig, left_out: LeftOut) -> TrainingConfig:
    """The same training run without them, in a folder of its own beside `config.output`.

    Raises NothingToLeaveOut when training sees no such family or source, or when none would be left.
    """
    for kind, gone, known in (
        ("family", left_out.families, config.families),
        ("source", left_out.sources, config.sources),
    ):
        strange = [name for name in gone if name not in known]
        if strange or not set(known) - set(gone):
            raise NothingToLeaveOut(
                f"{kind} {', '.join(strange or gone)} cannot be left out; training sees {', '.join(known)}"
            )
    return replace(
        config,
        output=config.output.with_name(left_out.folder(config.output.name)),
        families=tuple(name for name in config.families if name not in left_out.families),
        sources=tuple(name for name in config.sources if name not in left_out.sources),
    )


def wanted(card: ModelCard) -> list[LeftOut]:
    """Every run that a whole leave-one-out needs: each trained family, each trained source."""
    sources = [name for name in card.data if name not in UNSEEN and name in datasets.SOURCES]
    return [
        *(LeftOut(families=(name,)) for name in families.trained(card) if name in families.own(card)),
        *(LeftOut(sources=(name,)) for name in sources),
    ]


def leave_one_out(
    card: ModelCard,
    runs: Path,
    data: Path,
    cache: Path,
    *,
    seed: int = 7,
    plan: Plan = PLAN,
    workers: int = 1,
    device: str = "cpu",
    quiet: bool = True,
) -> Figures:
    """What the runs in `runs` make of what they never saw, on held-out patients; `missing` are the commands to train.

    Pairs, of a family and a source at once, are measured where there are any. Raises WeightsMismatch when a run's
    weights are not of the card's network.
    """
    expected = wanted(card)
    found = [
        each for each in (*expected, *_pairs(expected)) if (runs / each.folder(card.name) / fitting.WEIGHTS).is_file()
    ]
    known = tuple(source for each in expected for source in each.sources)
    results = {}
    for each in found:
        model = LoadedModel(card, fitting.trained(card.network, card.arguments, runs / each.folder(card.name)), device)
        own = each.families or families.trained(card)
        of = Wanted(data, cache, Split.TEST, seed, plan, own, sources=each.sources or known)
        trials = made(model, of, quiet=quiet, workers=workers)
        edited = [trial for trial in trials.slices if trial.family is not None]
        touched = [trial for trial in edited if trial.touched_up]
        results[each] = images(edited, card, bounds=True) | {
            "touched_up_auc": images(touched, card)["auc"],
            "froc": regions.froc([scan for scan in trials.scans if not scan.alone]),
        }
    return {
        "families": {str(each): row for each, row in results.items() if not each.sources},
        "sources": {str(each): row for each, row in results.items() if not each.families},
        "both": {str(each): row for each, row in results.items() if each.families and each.sources},
        "missing": [each.command(card.name) for each in expected if each not in found],
    }


def section(figures: Figures) -> Section:
    """The runs that there are as a table, and what has to be trained for the rest."""
    rows: list[list[Cell]] = [
        [
            f"without {name}",
            row["edited_slices"],
            bounded(row, "auc"),
            Measured(row["touched_up_auc"]),
            bounded(row, "sensitivity_at_5_percent", 2),
            Measured(row["pixel_f1_mean"], digits=2),
            *(Measured(value, digits=2) for value in row["froc"]["sensitivity"].values()),
        ]
        for kind in ("families", "sources", "both")
        for name, row in figures[kind].items()
    ]
    columns = ["trained", "slices", "AUC", "touched up", "found at 5 %", "pixel F1"]
    columns += [f"FROC {rate}" for rate in regions.RATES]
    missing = figures["missing"]
    words = ["Each row is a model that never saw what its row names, tried on nothing else, on held-out patients."]
    if missing:
        words.append(f"{len(missing)} runs are missing; train them with: " + "; ".join(missing))
    return Section("Leave one out", words, [Table("What was never seen", columns, rows)] if rows else [])


def _pairs(single: Sequence[LeftOut]) -> Iterator[LeftOut]:
    for one in single:
        yield from (LeftOut(one.families, other.sources) for other in single if one.families and other.sources)
