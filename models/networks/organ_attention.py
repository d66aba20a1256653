"""An EfficientNet-type network over native tiles, with channel and spatial attention.

MBConv blocks with squeeze-and-excitation (Tan & Le 2019) and, after each stage, spatial attention (Woo 2018, CBAM).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.networks.whole_image import Glance, Look, WholeImageNetwork


class _Channels(nn.Module):
    """Squeeze and excitation: each channel weighed by what the whole tile shows."""

    def __init__(self, width: int, squeezed: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(width, squeezed, 1)
        self.up = nn.Conv2d(squeezed, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        weight = functional.silu(self.down(x.mean(dim=(2, 3), keepdim=True)))
        return x * torch.sigmoid(self.up(weight))


class _Places(nn.Module):
    """Each place weighed by the mean and the maximum of its channels around it."""

    def __init__(self) -> None:
        super().__init__()
        self.weigh = nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, x: Tensor) -> Tensor:
        seen = torch.cat([x.mean(dim=1, keepdim=True), x.amax(dim=1, keepdim=True)], dim=1)
        return x * (2 * torch.sigmoid(self.weigh(seen)))


class _MBConv(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inputs * expansion
        self.body = nn.Sequential(
            nn.Conv2d(inputs, wide, 1, bias=False),
            nn.GroupNorm(8, wide),
            nn.SiLU(inplace=True),
            nn.Conv2d(wide, wide, 3, stride, 1, groups=wide, bias=False),
            nn.GroupNorm(8, wide),
            nn.SiLU(inplace=True),
            _Channels(wide, max(8, inputs // 4)),
            nn.Conv2d(wide, outputs, 1, bias=False),
            nn.GroupNorm(8, outputs),
        )
        self.keeps = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x)
        return x + y if self.keeps else y


class OrganAttention(WholeImageNetwork):
    """0.30 M parameters at width 24; the same frame and cells as OrganResNet."""

    def __init__(self, channels: int, width: int = 24, organs: int = 5, expansion: int = 2) -> None:
        trunk = nn.Sequential(
            nn.Conv2d(channels, width, 5, 2, 2, bias=False),
            nn.GroupNorm(8, width),
            nn.SiLU(inplace=True),
            _MBConv(width, width, 1, 2),
            _Places(),
            _MBConv(width, 2 * width, 2, expansion),
            _MBConv(2 * width, 2 * width, 1, expansion),
            _Places(),
            _MBConv(2 * width, 4 * width, 2, expansion),
            _MBConv(4 * width, 4 * width, 1, expansion),
            _Places(),
        )
        super().__init__(Glance(organs), Look(trunk, 4 * width))
