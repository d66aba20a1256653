"""What a whole-image network says of images, and the protocol that inference relies on."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from models.images.card import ImageModelCard
from models.images.organs import Organ


@dataclass(frozen=True, eq=False)
class ImagePrediction:
    """One image's answer.

    `organs`: calibrated probability of each of `organs.KNOWN`, which sum to 1. `organ` is UNKNOWN where the image is
    unlike all that the network was trained on; `reason` says why then. `is_none`: it is not merely strange, but taken
    for no image of an organ (a page of text, a screen, noise, a drawing). `synthesis_logit` is uncalibrated; the card
    turns it into probabilities, of one image or of a series. `at_own_detail` is the lowest one of the same image on
    smaller matrices that its detail fills (models.images.fineness), None where it fills its own. `saliency` (rows,
    columns), 0 to 1, says where the synthesis score rests; only where it was asked for.
    """

    organ: Organ
    organs: NDArray[np.float32]
    synthesis_logit: float
    reason: str = ""
    is_none: bool = field(default=False, kw_only=True)
    saliency: NDArray[np.float32] | None = field(default=None, repr=False)
    at_own_detail: float | None = field(default=None, kw_only=True)

    @property
    def surest(self) -> float:
        """The logit that does not rest on a lack of detail, which interpolating scanners share with generators."""
        return self.synthesis_logit if self.at_own_detail is None else min(self.synthesis_logit, self.at_own_detail)


@runtime_checkable
class ImageModel(Protocol):
    """A whole-image network with verified weights, ready on its device."""

    @property
    def card(self) -> ImageModelCard: ...

    def predict(self, images: Sequence[NDArray[Any]], *, saliency: bool = False) -> list[ImagePrediction]:
        """Look at grey images (rows, columns) of any size and real dtype, as a viewer would show them.

        Never raises for what an image holds: what cannot be judged (too small, constant, not finite) is UNKNOWN.
        """
        ...
