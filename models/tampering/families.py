"""The registry of edit families: a new one is a function (slab, mask, material, rng) → slab, and an entry here.

A slab is (slices, rows, columns) float32 in stored units, a little larger than the edit; only what lies in the mask
is kept.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import numpy as np

from models.errors import UnknownFamily
from models.tampering import addition, ctgan, removal, resynthesis
from models.tampering.inpainters import weights_present
from models.tampering.inpainters.catalogue import INPAINTERS, Approach
from models.tampering.learned import Fill
from models.tampering.material import FloatArray, Mask, Material

Edit = Callable[[FloatArray, Mask, Material, np.random.Generator], FloatArray]


class Region(Protocol):
    """Where a procedure of its own edits: a mask around `centre` (slice, row, column), or somewhere in tissue."""

    def __call__(
        self,
        volume: FloatArray,
        material: Material,
        rng: np.random.Generator,
        *,
        centre: tuple[float, float, float] | None = None,
        size_mm: float | None = None,
    ) -> Mask: ...


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
    """One way to edit. `trained` is False for families that are kept for tests only.

    `inpainter` names the network without whose weights the family raises MissingInpainter. `region` makes it a
    procedure of its own: it is given the whole slab, chooses its region and brings its own touch-up. `on_lesion`: it
    makes sense on bright tissue only. `slow`: training takes it from a bank on disk.
    """

    name: str
    edit_type: EditType
    edit: Edit
    about: str
    trained: bool = True
    inpainter: str | None = None
    region: Region | None = None
    on_lesion: bool = False
    slow: bool = False

    @property
    def ready(self) -> bool:
        """Whether everything that it needs is here."""
        return self.inpainter is None or weights_present(self.inpainter)


_ADDED, _REMOVED, _RESYNTHESISED = EditType

# Kept for tests: what adds to an image instead of replacing it, a block transform, and two whole approaches, the
# published procedure and diffusion, with the only network that sees all planes.
_HELD_OUT_INPAINTERS = ("gan_volume", "diffusion")


def _learned() -> list[Family]:
    """Each inpainter as one family, or as two where it can paint lesions."""
    made = []
    for kind in INPAINTERS.values():
        trained, slow = kind.name not in _HELD_OUT_INPAINTERS, kind.approach is Approach.DIFFUSE
        if kind.approach is Approach.RECONSTRUCT:
            edit, about = Fill(kind.name), f"the patch itself through an {kind.about}"
            made.append(Family(kind.name, _RESYNTHESISED, edit, about, trained, kind.name))
        elif not kind.lesions:
            made.append(Family(kind.name, _REMOVED, Fill(kind.name), kind.about, trained, kind.name))
        else:
            for edit_type in (_ADDED, _REMOVED):
                edit = Fill(kind.name, lesion=edit_type is _ADDED)
                name = f"{kind.name}_{edit_type.value}"
                made.append(Family(name, edit_type, edit, kind.about, trained, kind.name, slow=slow))
    return made


FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family("telea", _REMOVED, removal.telea, "fast marching (Telea 2004)"),
        Family("navier_stokes", _REMOVED, removal.navier_stokes, "isophotes carried on (Bertalmío 2001)"),
        Family("smooth_fill", _REMOVED, removal.smooth_fill, "a membrane with a little invented texture"),
        Family("crossfade", _REMOVED, removal.crossfade, "a Gaussian cross-fade into other tissue of the scan"),
        Family("copy_move", _REMOVED, removal.copy_move, "tissue from elsewhere in the scan, Poisson-cloned"),
        Family("exemplar", _REMOVED, removal.exemplar, "a patchwork of several places of the scan"),
        Family("poisson_clone", _ADDED, addition.poisson_clone, "a lesion of another patient, Poisson-cloned"),
        Family("painted", _ADDED, addition.painted, "a texture-matched painted lesion"),
        Family("painted_onto", _ADDED, addition.painted_onto, "a lesion added onto the noise underneath", False),
        Family("resampled", _RESYNTHESISED, resynthesis.resampled, "the patch itself through another grid"),
        Family("smoothed", _RESYNTHESISED, resynthesis.smoothed, "the patch itself, denoised"),
        Family("renoised", _RESYNTHESISED, resynthesis.renoised, "the patch itself with more noise"),
        Family("bottleneck", _RESYNTHESISED, resynthesis.bottleneck, "what a decoder leaves, without one"),
        Family("elastic", _RESYNTHESISED, resynthesis.elastic, "an elastic warp, outwards or inwards"),
        Family("truncated_dct", _RESYNTHESISED, resynthesis.truncated_dct, "8×8 cosines above a level alone", False),
        Family("ring", _ADDED, addition.ring, "a painted ring-enhancing lesion with a dark core"),
        Family("spiculated", _ADDED, addition.spiculated, "a painted lesion with spikes"),
        Family("growth", _RESYNTHESISED, resynthesis.growth, "a real lesion made larger", on_lesion=True),
        Family("shrinkage", _RESYNTHESISED, resynthesis.shrinkage, "a real lesion made smaller", on_lesion=True),
        Family("gained", _RESYNTHESISED, resynthesis.gained, "the patch itself, brighter or darker"),
        Family("medianed", _RESYNTHESISED, resynthesis.medianed, "the patch itself after a median"),
        Family("ctgan_added", _ADDED, ctgan.inject, "CT-GAN's procedure: injection", False, region=ctgan.cuboid),
        Family("ctgan_removed", _REMOVED, ctgan.remove, "CT-GAN's procedure: removal", False, region=ctgan.cuboid),
        *_learned(),
    )
}
TRAINED = tuple(name for name, family in FAMILIES.items() if family.trained)
HELD_OUT = tuple(name for name, family in FAMILIES.items() if not family.trained)


def family(name: str, edit_type: EditType | None = None) -> Family:
    """The family of this name; `ctgan` with an edit type is `ctgan_added` or `ctgan_removed`.

    Raises UnknownFamily with the names that there are, or when the family does something else.
    """
    both = [f"{name}_{each.value}" for each in (_ADDED, _REMOVED) if f"{name}_{each.value}" in FAMILIES]
    if name not in FAMILIES and both:
        if edit_type is None:
            raise UnknownFamily(f"edit family {name!r} adds or removes; say which, or name {' or '.join(both)}")
        name = f"{name}_{edit_type.value}"
    if name not in FAMILIES:
        raise UnknownFamily(f"edit family {name!r} is not known; known: {', '.join(FAMILIES)}")
    found = FAMILIES[name]
    if edit_type is not None and found.edit_type is not edit_type:
        able = ", ".join(each.name for each in FAMILIES.values() if each.edit_type is edit_type)
        raise UnknownFamily(
            f"edit family {name!r} makes an edit of the type {found.edit_type.value}, not {edit_type.value}; "
            f"those that do: {able}"
        )
    return found


def ready(names: Iterable[str]) -> tuple[str, ...]:
    """Those of these families whose inpainters were trained here, in the same order."""
    return tuple(name for name in names if FAMILIES[name].ready)
