"""What the generators are put together from: blocks that know the organ, and four ways to enlarge an image.

Each way leaves its own trace in the spectrum: transposed convolutions a lattice, nearest neighbours images of the band
below, bilinear ones a missing upper band, rearranged channels (pixel shuffle) a grid of phases.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

Upsampling = Literal["transposed", "nearest", "bilinear", "pixelshuffle"]


class Modulation(nn.Module):
    """Scale and shift by condition, after GroupNorm where whole images are always of one size.

    Networks that train on crops and run on whole images have no normalisation: its statistics would differ there.
    """

    def __init__(self, channels: int, condition: int, *, normalise: bool) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(4, channels) if normalise else nn.Identity()
        self.affine = nn.Linear(condition, 2 * channels)
        nn.init.zeros_(self.affine.weight)
        nn.init.zeros_(self.affine.bias)

    def forward(self, features: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.affine(condition)[:, :, None, None].chunk(2, dim=1)
        return torch.as_tensor(self.norm(features) * (1 + scale) + shift)


class Residual(nn.Module):
    """Two convolutions beside a way through."""

    def __init__(self, channels: int, condition: int, *, normalise: bool) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.modulation = Modulation(channels, condition, normalise=normalise)
        self.again = Modulation(channels, condition, normalise=normalise)
        nn.init.zeros_(self.second.bias)  # type: ignore[arg-type]
        with torch.no_grad():
            self.second.weight.mul_(0.1)

    def forward(self, features: Tensor, condition: Tensor) -> Tensor:
        inner = self.first(functional.silu(self.modulation(features, condition)))
        return features + torch.as_tensor(self.second(functional.silu(self.again(inner, condition))))


class Enlarge(nn.Module):
    """Twice the rows and columns."""

    def __init__(self, channels: int, out: int, way: Upsampling) -> None:
        super().__init__()
        self.way = way
        self.convolution: nn.Module
        if way == "transposed":
            self.convolution = nn.ConvTranspose2d(channels, out, 4, stride=2, padding=1)
        elif way == "pixelshuffle":
            self.convolution = nn.Conv2d(channels, 4 * out, 3, padding=1)
        else:
            self.convolution = nn.Conv2d(channels, out, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        if self.way == "nearest":
            features = functional.interpolate(features, scale_factor=2, mode="nearest")
        elif self.way == "bilinear":
            features = functional.interpolate(features, scale_factor=2, mode="bilinear", align_corners=False)
        features = self.convolution(features)
        return functional.pixel_shuffle(features, 2) if self.way == "pixelshuffle" else features


class Grain(nn.Module):
    """Noise of a learned strength, as a source of texture that the latent vector does not have to carry."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.strength = nn.Parameter(torch.zeros(channels))

    def forward(self, features: Tensor) -> Tensor:
        rows, columns = features.shape[2:]
        noise = torch.randn(len(features), 1, rows, columns)
        return features + self.strength[None, :, None, None] * noise
