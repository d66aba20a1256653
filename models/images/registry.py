"""A whole-image network with verified weights: what `ImageModel` promises, kept whatever an image holds."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models.images import inputs, strangeness
from models.images.card import ImageModelCard
from models.images.organs import Organ
from models.images.prediction import ImagePrediction
from models.networks import WholeImageOutput
from models.registry import SHIPPED, load_verified

_NO_ORGAN = "no organ that this model knows"


def load_image_model(name: str, device: str = "cpu", *, folder: Path = SHIPPED) -> "LoadedImageModel":
    """A whole-image model by its card's name.

    Raises UnknownModel when there is no such card or its weights are absent, WeightsMismatch when the SHA-256 of the
    weights is not the card's or the weights do not fit the network that the card names.
    """
    card, network = load_verified(name, folder, ImageModelCard)
    return LoadedImageModel(card, network, device)


class LoadedImageModel:
    """An `ImageModel` on a device. Images are looked at one by one: what is said of one never depends on another."""

    def __init__(self, card: ImageModelCard, network: nn.Module, device: str = "cpu") -> None:
        self._card = card
        self._device = torch.device(device)
        self._network = network.eval().to(self._device).to(memory_format=torch.channels_last)

    @property
    def card(self) -> ImageModelCard:
        return self._card

    def predict(self, images: Sequence[NDArray[Any]], *, saliency: bool = False) -> list[ImagePrediction]:
        """Look at grey images (rows, columns) of any size and real dtype, as a viewer would show them."""
        return [self._one(np.asarray(image), saliency=saliency) for image in images]

    def _one(self, image: NDArray[Any], *, saliency: bool) -> ImagePrediction:
        reason = inputs.fault(image)
        if reason:
            even = np.full(len(self._card.organs), 1 / len(self._card.organs), dtype=np.float32)
            blank = np.zeros(image.shape, dtype=np.float32) if saliency and image.ndim == 2 else None
            return ImagePrediction(Organ.UNKNOWN, even, 0.0, reason, blank, is_none=True)
        seen = inputs.see(image)
        output = self.look(seen)
        organ, organs, reason = self._named(output)
        picture = _drawn(output.cells[0].sigmoid().cpu().numpy(), seen.corners, image.shape) if saliency else None
        return ImagePrediction(organ, organs, float(output.synthesis[0]), reason, picture, is_none=reason == _NO_ORGAN)

    @torch.inference_mode()
    def look(self, seen: inputs.Seen) -> WholeImageOutput:
        """What the network itself says of one image: logits and embedding, nothing calibrated."""
        view, tiles = (torch.from_numpy(array[np.newaxis]).to(self._device) for array in (seen.view, seen.tiles))
        output: WholeImageOutput = self._network(view, tiles)
        return output

    @torch.inference_mode()
    def embedding(self, image: NDArray[Any]) -> NDArray[np.float32]:
        """Where strangeness is measured, of an image that has no `fault`; without a look at its tiles."""
        view = torch.from_numpy(inputs.view(image, *inputs.intensity(image))[np.newaxis]).to(self._device)
        embedded: NDArray[np.float32] = self._network.glance(view)[1][0].cpu().numpy()  # type: ignore[operator]
        return embedded

    def _named(self, output: WholeImageOutput) -> tuple[Organ, NDArray[np.float32], str]:
        card = self._card
        logits = output.organ[0].cpu().numpy().astype(np.float64) / card.organ_temperature
        shares = np.exp(logits - logits.max())
        shares /= shares.sum()
        known = shares[:-1] / max(float(shares[:-1].sum()), 1e-12)
        organs = known.astype(np.float32)
        best = int(known.argmax())
        distance = float(strangeness.distances(output.embedding.cpu().numpy(), card.strangeness)[0])
        if shares[-1] >= shares[best]:
            return Organ.UNKNOWN, organs, _NO_ORGAN
        if strangeness.strange(distance, card.strangeness):
            limit = card.strangeness["limit"]
            reason = f"unlike all that the model was trained on: distance {distance:.1f}, at most {limit:.1f} is usual"
            return Organ.UNKNOWN, organs, reason
        if shares[best] < card.thresholds.organ:
            return Organ.UNKNOWN, organs, f"not sure of the organ: {card.organs[best]} at {shares[best]:.2f}"
        return card.organs[best], organs, ""


def _drawn(
    cells: NDArray[np.float32], corners: tuple[tuple[int, int], ...], shape: tuple[int, ...]
) -> NDArray[np.float32]:
    """The cells of all tiles as one picture of the image; 0 where no tile was looked at, the mean where two overlap."""
    total, times = np.zeros(shape, dtype=np.float32), np.zeros(shape, dtype=np.uint8)
    for (row, column), tile in zip(corners, cells, strict=True):
        large = cv2.resize(tile, (inputs.TILE, inputs.TILE), interpolation=cv2.INTER_LINEAR)
        rows, columns = min(inputs.TILE, shape[0] - row), min(inputs.TILE, shape[1] - column)
        total[row : row + rows, column : column + columns] += large[:rows, :columns]
        times[row : row + rows, column : column + columns] += 1
    return np.divide(total, times, out=total, where=times > 0)
