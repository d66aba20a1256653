"""The parts that the inpainters are built of; how a network gets its pixels back is what leaves its trace."""

import torch
from torch import Tensor, nn
from torch.nn import functional


def block(inputs: int, outputs: int, dilation: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=dilation, dilation=dilation),
        nn.GroupNorm(4, outputs),
        nn.SiLU(),
    )


def down(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 4, stride=2, padding=1), nn.GroupNorm(4, outputs), nn.SiLU())


def enlarge(kind: str, inputs: int, outputs: int) -> nn.Module:
    """Twice the size: by transposed convolution, pixel shuffle, or interpolation and convolution."""
    if kind == "transposed":
        return nn.Sequential(nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1), nn.SiLU())
    if kind == "shuffle":
        return nn.Sequential(nn.Conv2d(inputs, 4 * outputs, 3, padding=1), nn.PixelShuffle(2), nn.SiLU())
    return nn.Sequential(nn.Upsample(scale_factor=2, mode=kind), nn.Conv2d(inputs, outputs, 3, padding=1), nn.SiLU())


class PartialConvolution(nn.Module):
    """A convolution over what is known, divided by how much is known; what it reaches is known afterwards."""

    def __init__(self, inputs: int, outputs: int, size: int, stride: int = 1) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(inputs, outputs, size, stride, size // 2)
        self._size, self._stride = size, stride

    def forward(self, image: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        window = known.new_ones(1, 1, self._size, self._size)
        count = functional.conv2d(known, window, stride=self._stride, padding=self._size // 2)
        reached = (count > 0).to(known.dtype)
        bias = self.convolution.bias
        assert bias is not None  # noqa: S101  for the type checker
        raw = self.convolution(image * known) - bias[:, None, None]
        share = self._size**2 / count.clamp(min=1.0)
        return (raw * share + bias[:, None, None]) * reached, reached


class Critic(nn.Module):
    """Judges patches of an image: real or made; also returns what it saw on the way (for feature matching)."""

    def __init__(self, channels: int, width: int = 16) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            [
                nn.Sequential(nn.Conv2d(channels, width, 4, 2, 1), nn.LeakyReLU(0.2)),
                nn.Sequential(nn.Conv2d(width, 2 * width, 4, 2, 1), nn.GroupNorm(4, 2 * width), nn.LeakyReLU(0.2)),
                nn.Sequential(nn.Conv2d(2 * width, 4 * width, 3, 1, 1), nn.GroupNorm(4, 4 * width), nn.LeakyReLU(0.2)),
            ]
        )
        self.last = nn.Conv2d(4 * width, 1, 3, 1, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        seen = []
        for layer in self.layers:
            image = layer(image)
            seen.append(image)
        return self.last(image), seen


def masked(image: Tensor, hole: Tensor, lesion: Tensor) -> Tensor:
    """What an inpainter is shown: the image without the hole, the hole, and the lesion that is asked for."""
    return torch.cat([image * (1 - hole), hole, lesion], dim=1)
