"""What a model of instances was measured to do on patients kept from it: real lesions, edits found, false alarms.

A lesion is a connected part of a series' mask; it is found when instances called real cover a third of its voxels. On
a slice a part counts as found when one instance overlaps it by an intersection over union of 0.3. Edits are judged on
each edited slice, at the score that one in twenty genuine slices passes. Nothing here is used to train.
"""

import zlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import track
from scipy import ndimage

from models import density
from models.datasets import Case
from models.density import DensityBox
from models.errors import NoPlaceToEdit
from models.instance_model import Instance, InstanceModel
from models.instances import parts
from models.registry import LoadedModel
from models.tampering.compose import tamper_volume
from models.tampering.families import FAMILIES, EditType
from models.tampering.material import Donor, Mask

THRESHOLDS = np.round(np.arange(0.1, 1.0, 0.05), 2)
FALSE_ALARMS = 0.05
_OVERLAP, _COVERED = 0.3, 1 / 3
_LEAST_VOXELS, _LEAST_EDITED = 100, 30

Report = dict[str, Any]


@dataclass
class _Lesions:
    """What was seen of real lesions at each of THRESHOLDS, over the series of one source."""

    whole: list[NDArray[np.bool_]] = field(default_factory=list)  # a lesion: found?
    parts: list[NDArray[np.bool_]] = field(default_factory=list)  # a lesion on a slice: found?
    dice: list[NDArray[np.float64]] = field(default_factory=list)  # a series
    false: list[NDArray[np.bool_]] = field(default_factory=list)  # a slice without a lesion: one seen?


@dataclass
class Seen:
    """Everything that was tried in one run."""

    lesions: dict[str, _Lesions] = field(default_factory=lambda: defaultdict(_Lesions))
    genuine: list[float] = field(default_factory=list)  # the highest score of an edited instance on a genuine slice
    edits: list[tuple[str, float, bool]] = field(default_factory=list)  # family, score where it lies, class right


def evaluate(
    model: InstanceModel,
    proposer: LoadedModel | None,
    cases: Sequence[Case],
    donors: Sequence[Donor],
    families: Sequence[str],
    *,
    seed: int = 7,
    lesion: float | None = None,
    quiet: bool = False,
) -> Report:
    """Look at every series of `cases`, and at one edit of each of `families` in it, drawn by the seed.

    `proposer` is the U-Net whose density map proposes regions. `lesion` is the score from which a real tumour counts;
    None: the one of the highest Dice here, which is only right on patients kept for choosing it.
    """
    seen = Seen()
    for case in track(cases, "instances", disable=quiet):
        rng = np.random.default_rng([seed, zlib.crc32(case.series.encode())])
        if case.separate:
            continue  # single slices have boxes, and no mask that a Dice could be of
        _genuine(model, proposer, case, seen)
        for family in families:
            _edited(model, proposer, case, family, donors, rng, seen)
    return _report(seen, lesion if lesion is not None else _best(seen))


def _looked(
    model: InstanceModel, proposer: LoadedModel | None, volume: NDArray[Any], case: Case, only: list[int]
) -> list[list[Instance]]:
    values = volume.astype(np.float32)
    proposals: list[list[DensityBox]] = [[] for _ in range(len(values))]
    if proposer is not None:
        said = proposer.predict(values, case.spacing, only=only)
        maps = said.density if said.density is not None else density.of_probabilities(said.edit)
        for index, plane in zip(only, maps, strict=True):
            proposals[index] = density.boxes(plane)
    return model.predict(values, proposals, only=only)


def _genuine(model: InstanceModel, proposer: LoadedModel | None, case: Case, seen: Seen) -> None:
    volume = np.array(case.images)
    found = _looked(model, proposer, volume, case, list(range(len(volume))))
    seen.genuine += [max((each.score for each in on if each.kind != "real"), default=0.0) for on in found]
    if case.lesion is None:
        return
    truth, here = np.asarray(case.lesion), seen.lesions[case.source]
    said = np.stack([lesion_map(on, truth.shape[1:]) for on in found])
    at = [said >= threshold for threshold in THRESHOLDS]
    if truth.any():
        here.dice.append(np.array([2 * (mask & truth).sum() / max(1, mask.sum() + truth.sum()) for mask in at]))
    marks, count = ndimage.label(truth, structure=np.ones((3, 3, 3)))
    for label in range(1, count + 1):
        lesion = marks == label
        if lesion.sum() >= _LEAST_VOXELS:
            here.whole.append(np.array([(mask & lesion).sum() >= _COVERED * lesion.sum() for mask in at]))
    for index, on in enumerate(found):
        real = [(each.score, painted(each, truth.shape[1:])) for each in on if each.kind == "real"]
        for part in parts(truth[index]):
            best = max((score for score, mask in real if iou(mask, part) >= _OVERLAP), default=0.0)
            here.parts.append(best >= THRESHOLDS)
        if not truth[index].any():
            here.false.append(max((score for score, _ in real), default=0.0) >= THRESHOLDS)


def _edited(
    model: InstanceModel,
    proposer: LoadedModel | None,
    case: Case,
    family: str,
    donors: Sequence[Donor],
    rng: np.random.Generator,
    seen: Seen,
) -> None:
    try:
        made = tamper_volume(np.array(case.images), family, rng, spacing=case.spacing, donors=donors)
    except NoPlaceToEdit:
        return
    chosen = [int(index) for index in np.flatnonzero(made.mask.sum(axis=(1, 2)) >= _LEAST_EDITED)]
    wanted = "added" if made.edit_type is EditType.ADDED else "removed"
    for index, on in zip(chosen, _looked(model, proposer, made.volume, case, chosen), strict=True):
        mask = made.mask[index]
        there = [each for each in on if each.kind != "real" and iou(painted(each, mask.shape), mask) >= _OVERLAP]
        surest = max(there, key=lambda each: each.score, default=None)
        seen.edits.append((family, surest.score if surest else 0.0, surest is not None and surest.kind == wanted))


def painted(instance: Instance, shape: tuple[int, ...]) -> Mask:
    """The pixels (rows, columns) that an instance claims."""
    mask = np.zeros(shape, dtype=np.bool_)
    row0, column0, row1, column1 = instance.box
    mask[row0:row1, column0:column1] = instance.mask >= 0.5
    return mask


def lesion_map(instances: Sequence[Instance], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """For each pixel (rows, columns) the score of the surest real tumour that claims it."""
    result = np.zeros(shape, dtype=np.float32)
    for each in instances:
        if each.kind == "real":
            mask = painted(each, shape)
            result[mask] = np.maximum(result[mask], each.score)
    return result


def iou(one: Mask, other: Mask) -> float:
    return float((one & other).sum() / max(1, (one | other).sum()))


def _best(seen: Seen) -> float:
    dice = [values for lesions in seen.lesions.values() for values in lesions.dice]
    return float(THRESHOLDS[int(np.mean(dice, axis=0).argmax())]) if dice else 0.5


def _report(seen: Seen, lesion: float) -> Report:
    at = int(np.abs(THRESHOLDS - lesion).argmin())
    bound = float(np.quantile(seen.genuine, 1 - FALSE_ALARMS)) if seen.genuine else 1.0

    def edits(chosen: Sequence[tuple[str, float, bool]]) -> Report:
        found = [(score > bound, right) for _, score, right in chosen]
        return {
            "edited_slices": len(found),
            "found_at_5_percent": _share([hit for hit, _ in found]),
            "of_these_class_right": _share([right for hit, right in found if hit]),
        }

    families = sorted({family for family, _, _ in seen.edits})
    kinds = {kind: [each for each in seen.edits if FAMILIES[each[0]].edit_type is kind] for kind in EditType}
    return {
        "lesion_threshold": lesion,
        "real": {
            source: {
                "series": len(lesions.dice),
                "lesions": len(lesions.whole),
                "lesions_found": _share([values[at] for values in lesions.whole]),
                "slices_with_a_lesion": len(lesions.parts),
                "found_on_slices": _share([values[at] for values in lesions.parts]),
                "dice_mean": _share([values[at] for values in lesions.dice]),
                "slices_without": len(lesions.false),
                "false_on_slices": _share([values[at] for values in lesions.false]),
            }
            for source, lesions in sorted(seen.lesions.items())
        },
        "edit_score_at_5_percent": bound,
        "genuine_slices": len(seen.genuine),
        "kinds": {kind.value: edits(chosen) for kind, chosen in kinds.items() if chosen},
        "families": {family: edits([each for each in seen.edits if each[0] == family]) for family in families},
    }


def _share(values: Sequence[Any]) -> float:
    return float(np.mean(values)) if len(values) else float("nan")
