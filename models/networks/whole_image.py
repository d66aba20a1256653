"""What the whole-image networks have in common: a glance at the shrunken image, and a look at native tiles.

The glance names the organ; the look says whether a scanner made the image. The tiles' trunk is what differs between
networks. GroupNorm throughout: what is said of an image must not depend on its neighbours in a batch.
"""

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

_STRONGEST = 0.1  # share of an image's cells whose mean is its strongest evidence
_EMBEDDED = 32


class WholeImageOutput(NamedTuple):
    """`organ` (images, organs + 1), the last being none that is known; `synthesis` (images,): logits.

    `cells` (images, tiles, rows, columns): how much each cell of each tile speaks for synthesis, a logit.
    `embedding` (images, 32): where strangeness is measured.
    """

    organ: Tensor
    synthesis: Tensor
    cells: Tensor
    embedding: Tensor


class Residual(nn.Module):
    """Two 3×3 convolutions beside a short cut (He 2016), with GroupNorm."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.first_norm = nn.GroupNorm(8, outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.second_norm = nn.GroupNorm(8, outputs)
        self.short: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.short = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.first_norm(self.first(x)), inplace=True)
        return functional.relu(self.second_norm(self.second(y)) + self.short(x), inplace=True)


class Glance(nn.Module):
    """Views (images, 1, 96, 96) → organ logits and embedding; small, because an organ is plain to see."""

    def __init__(self, organs: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 16, 5, 2, 2)
        self.trunk = nn.Sequential(Residual(16, 24, 2), Residual(24, 48, 2), Residual(48, 96, 2))
        self.embed = nn.Linear(2 * 96, _EMBEDDED)
        self.organ = nn.Linear(_EMBEDDED, organs + 1)

    def forward(self, views: Tensor) -> tuple[Tensor, Tensor]:
        x = self.trunk(functional.relu(self.stem(views), inplace=True)).float()
        embedding = self.embed(torch.cat([x.mean(dim=(2, 3)), x.amax(dim=(2, 3))], dim=1))
        return cast("Tensor", self.organ(embedding)), cast("Tensor", embedding)


class Look(nn.Module):
    """Tiles (images, tiles, channels, rows, columns) → synthesis logit and cells, by mean and by top-k pooling."""

    def __init__(self, trunk: nn.Module, width: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.cell = nn.Conv2d(width, 1, 1)
        self.mean = nn.Linear(width, 1)
        self.evidence = nn.Parameter(torch.tensor([0.5, 0.5]))

    def forward(self, tiles: Tensor) -> tuple[Tensor, Tensor]:
        images, count = tiles.shape[:2]
        x = self.trunk(tiles.flatten(0, 1).contiguous(memory_format=torch.channels_last)).float()
        cells = self.cell(x).reshape(images, count, *x.shape[2:])
        every = cells.flatten(1)
        strongest = every.topk(max(1, round(_STRONGEST * every.shape[1])), dim=1).values.mean(dim=1)
        whole = self.mean(x.mean(dim=(2, 3)))[:, 0].reshape(images, count).mean(dim=1)
        return self.evidence[0] * every.mean(dim=1) + self.evidence[1] * strongest + whole, cells


class WholeImageNetwork(nn.Module):
    """A glance and a look; either may be asked alone, as training does."""

    def __init__(self, glance: Glance, look: Look) -> None:
        super().__init__()
        self.glance = glance
        self.look = look

    def forward(self, views: Tensor, tiles: Tensor) -> WholeImageOutput:
        organ, embedding = self.glance(views)
        synthesis, cells = self.look(tiles)
        return WholeImageOutput(organ, synthesis, cells, embedding)
