"""A U-Net that marks edited pixels, says what kind of edit they are, and gives the slice one logit (Ronneberger 2015).

GroupNorm instead of BatchNorm: a study comes in batches of any size, and its result must not depend on its neighbours.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.networks.output import NetworkOutput

# The mean of so many strongest pixels: counts, not shares, so that crops and whole slices agree.
_EVIDENCE = (8, 32, 128)


class _Block(nn.Module):
    """Two 3×3 convolutions with GroupNorm."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.first_norm = nn.GroupNorm(4, outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.second_norm = nn.GroupNorm(4, outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.first_norm(self.first(x)), inplace=True)
        return functional.relu(self.second_norm(self.second(x)), inplace=True)


class EditUNet(nn.Module):
    """Input (slices, channels, rows, columns), rows and columns multiples of 16; 1.2 M parameters at width 16."""

    def __init__(self, channels: int, width: int = 16, types: int = 3) -> None:
        super().__init__()
        widths = [width, 2 * width, 4 * width, 8 * width, 8 * width]
        self.down = nn.ModuleList([_Block(a, b) for a, b in zip([channels, *widths[:-1]], widths, strict=True)])
        self.up = nn.ModuleList([_Block(a + b, b) for a, b in zip(widths[:0:-1], widths[-2::-1], strict=True)])
        self.pixel = nn.Conv2d(width, 1 + types, 1)
        self.image = nn.Sequential(
            nn.Linear(len(_EVIDENCE) + 2 * widths[-1], 32), nn.ReLU(inplace=True), nn.Linear(32, 1)
        )

    def forward(self, x: Tensor) -> NetworkOutput:
        return self._judged(*self._features(x))

    def _features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What is known of each pixel (slices, width, rows, columns), and of the slice at the deepest level."""
        kept: list[Tensor] = []
        for level, block in enumerate(self.down):
            x = block(x if level == 0 else functional.max_pool2d(x, 2))
            kept.append(x)
        deepest = kept.pop()
        for block in self.up:
            x = block(torch.cat([functional.interpolate(x, scale_factor=2.0), kept.pop()], dim=1))
        return x, deepest

    def _judged(self, x: Tensor, deepest: Tensor) -> NetworkOutput:
        pixel = self.pixel(x).float()
        strongest = pixel[:, 0].flatten(1).topk(min(max(_EVIDENCE), pixel[0, 0].numel()), dim=1).values
        evidence = torch.stack([strongest[:, :count].mean(dim=1) for count in _EVIDENCE], dim=1)
        whole = torch.cat([deepest.float().mean(dim=(2, 3)), deepest.float().amax(dim=(2, 3))], dim=1)
        image = cast("Tensor", self.image(torch.cat([evidence, whole], dim=1)))[:, 0].float()
        return NetworkOutput(edit=pixel[:, 0], edit_type=pixel[:, 1:], image=image)


class EditUNetDensity(EditUNet):
    """The same with a density map and a boundary; the weights of an EditUNet are all of its layers but `where`."""

    def __init__(self, channels: int, width: int = 16, types: int = 3) -> None:
        super().__init__(channels, width, types)
        self.where = nn.Sequential(
            nn.Conv2d(width, width // 2, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(width // 2, 2, 1)
        )

    def forward(self, x: Tensor) -> NetworkOutput:
        pixels, deepest = self._features(x)
        where = self.where(pixels).float()
        # Bounded by itself: divided by its own maximum, a map of noise would look like one of an edit.
        return self._judged(pixels, deepest)._replace(density=where[:, 0].sigmoid(), boundary=where[:, 1])
