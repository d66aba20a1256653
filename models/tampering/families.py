"""The registry of edit families: a new one is a function (slab, mask, material, rng) → slab, and an entry here.

A slab is (slices, rows, columns) float32 in stored units, a little larger than the edit; only what lies in the mask
is kept.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from models.errors import UnknownFamily
from models.tampering import addition, removal, resynthesis
from models.tampering.material import FloatArray, Mask, Material

Edit = Callable[[FloatArray, Mask, Material, np.random.Generator], FloatArray]


class EditType(StrEnum):
    """What an edit claims about a tumour; the order is the order of a network's type channels."""

    ADDED = "added"
    REMOVED = "removed"
    RESYNTHESISED = "resynthesised"

    @property
    def channel(self) -> int:
        return list(EditType).index(self)


@dataclass(frozen=True)
class Family:
    """One way to edit. `trained` is False for families that are kept for tests only."""

    name: str
    edit_type: EditType
    edit: Edit
    trained: bool = True


FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family("telea", EditType.REMOVED, removal.telea),
        Family("navier_stokes", EditType.REMOVED, removal.navier_stokes),
        Family("smooth_fill", EditType.REMOVED, removal.smooth_fill),
        Family("crossfade", EditType.REMOVED, removal.crossfade),
        Family("copy_move", EditType.REMOVED, removal.copy_move),
        Family("exemplar", EditType.REMOVED, removal.exemplar),
        Family("poisson_clone", EditType.ADDED, addition.poisson_clone),
        Family("painted", EditType.ADDED, addition.painted),
        Family("painted_onto", EditType.ADDED, addition.painted_onto, trained=False),
        Family("resampled", EditType.RESYNTHESISED, resynthesis.resampled),
        Family("smoothed", EditType.RESYNTHESISED, resynthesis.smoothed),
        Family("renoised", EditType.RESYNTHESISED, resynthesis.renoised),
        Family("bottleneck", EditType.RESYNTHESISED, resynthesis.bottleneck),
        Family("elastic", EditType.RESYNTHESISED, resynthesis.elastic),
        Family("truncated_dct", EditType.RESYNTHESISED, resynthesis.truncated_dct, trained=False),
    )
}
TRAINED = tuple(name for name, family in FAMILIES.items() if family.trained)
HELD_OUT = tuple(name for name, family in FAMILIES.items() if not family.trained)


def family(name: str) -> Family:
    """The family of this name; raises UnknownFamily with the names that there are."""
    if name not in FAMILIES:
        raise UnknownFamily(f"edit family {name!r} is not known; known: {', '.join(FAMILIES)}")
    return FAMILIES[name]
