"""Audits of what must be equal to the last bit: an edit that changes nothing, and headers of a tampered study."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pydicom

from models.audits.audit import Audit
from models.datasets import Case
from models.errors import NoPlaceToEdit
from models.figures import interval
from models.tampering import regions
from models.tampering.compose import compose
from models.tampering.families import EditType, Family
from models.tampering.material import FloatArray, Mask, Material
from models.tampering.phantom import make_phantom_study
from models.tampering.study import tamper_study

_SLABS = 24
_FAMILIES = ("telea", "painted", "smoothed")  # one of each claim


def _unchanged(slab: FloatArray, mask: Mask, material: Material, rng: np.random.Generator) -> FloatArray:  # noqa: ARG001
    return slab


IDENTITY = Family("identity", EditType.RESYNTHESISED, _unchanged, "the patch itself, unchanged")


def identity(cases: Sequence[Case], seed: int) -> Audit:
    """Edits that put back what was there, through the whole lab: whatever then differs is the lab's own trace."""
    rng = np.random.default_rng(seed)
    differs, groups = [], []
    for _ in range(_SLABS):
        case = cases[int(rng.integers(len(cases)))]
        index = int(rng.integers(len(case.images)))
        stored = np.array(case.images[index : index + (1 if case.separate else 3)])
        slab = stored.astype(np.float32)
        material = Material.of(slab)
        try:
            mask = regions.draw(slab, material, rng, spacing=case.spacing)
        except NoPlaceToEdit:
            continue
        limits = (float(stored.min()), float(stored.max()))
        edited = compose(slab, mask, IDENTITY, material, rng, touched_up=False, limits=limits)
        differs.append(bool((edited.astype(stored.dtype) != stored).any()))
        groups.append(f"{case.source}/{case.patient}")
    return _traces(
        differs,
        groups,
        "identity edits",
        "edits that put back the very same patch: in how many any pixel differs afterwards",
        "the lab leaves a trace of its own, such as another rounding: models/tampering/compose",
    )


def headers(seed: int) -> Audit:
    """A generated study and its tampered copies, file by file: any element but the pixels, and the length."""
    differs, groups = [], []
    with TemporaryDirectory() as folder:
        genuine = Path(folder) / "genuine"
        make_phantom_study(genuine, np.random.default_rng(seed), slices=5, matrix=96)
        for family in _FAMILIES:
            tampered = Path(folder) / family
            made = tamper_study(genuine, tampered, family, np.random.default_rng(seed))
            for path in made.edited:
                differs.append(_differs(genuine / path.relative_to(tampered), path))
                groups.append(family)
    return _traces(
        differs,
        groups,
        "headers of a study",
        "files of a tampered study beside the genuine ones: in how many a header element or the length differs",
        "a tampered copy keeps every header: models/tampering/study",
    )


def _differs(one: Path, other: Path) -> bool:
    first, second = pydicom.dcmread(one), pydicom.dcmread(other)
    if one.stat().st_size != other.stat().st_size or first.file_meta != second.file_meta:
        return True
    del first.PixelData, second.PixelData
    return bool(first != second)


def _traces(differs: Sequence[bool], groups: Sequence[str], name: str, about: str, remedy: str) -> Audit:
    """Where a trace tells the edited one of two twins, that is certain; where there is none, it is a guess."""
    right = np.where(np.array(differs, dtype=bool), 1.0, 0.5)
    if not len(right):
        return Audit(name, float("nan"), float("nan"), float("nan"), 0.5, 0, about, remedy)
    low, high = interval(groups, lambda chosen: float(right[chosen].mean()), seed=1)
    return Audit(name, float(right.mean()), low, high, 0.5, len(right), about, remedy)
