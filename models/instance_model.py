"""A Mask R-CNN of the registry at work: tumours of a volume as instances, each with class, score, box and mask."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.detection.roi_heads import paste_masks_in_image
from torchvision.ops import batched_nms

from models import inputs, registry
from models.card import INSTANCES, ModelCard
from models.density import DensityBox
from models.errors import UnknownModel
from models.networks.maskrcnn import INSTANCE_CLASSES, STRIDE

TILE, OVERLAP = 512, 128  # pixels; slices up to TILE are looked at whole
_PIXELS_AT_ONCE = 8 * 256 * 256  # bounds the memory of a forward pass, whatever the matrix
_SAME = 0.4  # overlap of boxes of two tiles that are one instance

Square = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Instance:
    """One tumour on one slice.

    `kind` is one of INSTANCE_CLASSES, `score` the network's probability of it, uncalibrated. `box` (row0, column0,
    row1, column1) is half-open; `mask` (rows, columns) of the box holds the probability that a pixel belongs to it.
    """

    kind: str
    score: float
    box: tuple[int, int, int, int]
    mask: NDArray[np.float32] = field(repr=False)


class InstanceModel:
    """A Mask R-CNN with its verified weights, ready on a device."""

    def __init__(self, card: ModelCard, network: nn.Module, device: str) -> None:
        self.card = card
        self.device = torch.device(device)
        self._network = network.eval().to(self.device).to(memory_format=torch.channels_last)

    def predict(
        self,
        volume: NDArray[np.float32],
        proposals: Sequence[Sequence[DensityBox]] | None = None,
        *,
        batch: int = 8,
        only: Sequence[int] | None = None,
    ) -> list[list[Instance]]:
        """The instances of every slice of a volume in rescaled units, (slices, rows, columns) in order of position.

        `proposals` are boxes of a density map for each slice of the volume: where lesions were removed. `batch` slices
        go through the network at once, fewer where the matrix is large; `only` these are looked at, and returned.
        Raises UnusableVolume when the matrix is outside what the card covers.
        """
        whole = inputs.as_volume(volume)
        rows, columns = whole.shape[1:]
        self.card.require(rows, columns)
        wanted = list(range(len(whole)) if only is None else only)
        intensity = inputs.intensity_range(whole)
        squares = [(row, column) for row in _tiles(rows) for column in _tiles(columns)]
        size = max(1, min(batch, _PIXELS_AT_ONCE // (min(rows, TILE) * min(columns, TILE))))
        found: list[list[Instance]] = []
        for first in range(0, len(wanted), size):
            chosen = wanted[first : first + size]
            channels = inputs.channels(whole, chosen, intensity=intensity)
            boxes = [_as_tensor(proposals[index] if proposals is not None else ()) for index in chosen]
            seen = [self._tile(channels, boxes, square) for square in squares]
            found += [_instances([tile[k] for tile in seen], (rows, columns)) for k in range(len(chosen))]
        return found

    @torch.inference_mode()
    def _tile(self, channels: NDArray[np.float32], boxes: Sequence[Tensor], corner: Square) -> list[dict[str, Tensor]]:
        """What is on one tile of some slices, boxes counted on the slice."""
        row, column = corner
        part = torch.from_numpy(channels[:, :, row : row + TILE, column : column + TILE]).to(self.device)
        down, across = -part.shape[2] % STRIDE, -part.shape[3] % STRIDE
        if down or across:
            part = functional.pad(part, (0, across, 0, down), mode="replicate")
        shift = torch.tensor([column, row, column, row], dtype=torch.float32)
        limit = torch.tensor([part.shape[3], part.shape[2]] * 2, dtype=torch.float32)
        injected = [(each - shift).clamp(min=0).minimum(limit) for each in boxes]
        injected = [each[(each[:, 2:] - each[:, :2] >= 2).all(dim=1)].to(self.device) for each in injected]
        output = self._network(part.contiguous(memory_format=torch.channels_last), injected)
        return [
            {name: value.cpu() + shift if name == "boxes" else value.cpu() for name, value in each.items()}
            for each in output
        ]


def load(name: str, device: str = "cpu", *, folder: Path = registry.SHIPPED) -> InstanceModel:
    """A model of instances by its card's name; raises what registry.load raises, and UnknownModel for another task."""
    card, network = registry.load_verified(name, folder, ModelCard)
    if card.task != INSTANCES:
        raise UnknownModel(f"model {name!r} finds no instances, its task is {card.task}; see `scanwarden models list`")
    return InstanceModel(card, network, device)


def _instances(tiles: Sequence[dict[str, Tensor]], shape: Square) -> list[Instance]:
    """The instances of one slice (rows, columns) from those of its tiles, the likeliest first."""
    seen = {name: torch.cat([tile[name] for tile in tiles]) for name in ("boxes", "labels", "scores", "masks")}
    seen["boxes"][:, 0::2].clamp_(0, shape[1])
    seen["boxes"][:, 1::2].clamp_(0, shape[0])
    kept = batched_nms(seen["boxes"], seen["scores"], seen["labels"], _SAME)
    return list(_cut_out({name: value[kept] for name, value in seen.items()}, shape))


def _cut_out(seen: dict[str, Tensor], shape: Square) -> Iterator[Instance]:
    pasted = paste_masks_in_image(seen["masks"], seen["boxes"], shape)[:, 0].numpy()
    for box, label, score, mask in zip(seen["boxes"], seen["labels"], seen["scores"], pasted, strict=True):
        column0, row0 = (max(0, int(value)) for value in box[:2].floor())
        column1, row1 = (min(end, int(value)) for end, value in zip(shape[::-1], box[2:].ceil(), strict=True))
        if row1 > row0 and column1 > column0:
            inside = np.ascontiguousarray(mask[row0:row1, column0:column1], dtype=np.float32)
            yield Instance(INSTANCE_CLASSES[int(label) - 1], float(score), (row0, column0, row1, column1), inside)


def _tiles(length: int) -> list[int]:
    """Where tiles begin along one axis: they overlap, and the last ends with the image."""
    if length <= TILE:
        return [0]
    return [*range(0, length - TILE, TILE - OVERLAP), length - TILE]


def _as_tensor(boxes: Sequence[DensityBox]) -> Tensor:
    corners = [(column0, row0, column1, row1) for row0, column0, row1, column1 in (each.box for each in boxes)]
    return torch.tensor(corners, dtype=torch.float32).reshape(-1, 4)
