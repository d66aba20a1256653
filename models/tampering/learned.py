"""Families made by small networks that were trained here; without their weights each says what is missing."""

import numpy as np

from models.tampering.inpainters.catalogue import INPAINTERS
from models.tampering.material import FloatArray, Mask, Material


class Fill:
    """An edit by one inpainter; a class and not a closure, so that it can be handed to other processes."""

    def __init__(self, inpainter: str, *, lesion: bool = False) -> None:
        self.inpainter, self.lesion = inpainter, lesion
        self.__doc__ = INPAINTERS[inpainter].about

    def __call__(self, slab: FloatArray, mask: Mask, material: Material, rng: np.random.Generator) -> FloatArray:
        from models.tampering.inpainters.fill import fill  # torch, only where a network is used

        return fill(self.inpainter, slab, mask, material, rng, lesion=self.lesion)
