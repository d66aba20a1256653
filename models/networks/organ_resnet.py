"""A light ResNet over native tiles: organ and synthesis of a whole image."""

from torch import nn

from models.networks.whole_image import Glance, Look, Residual, WholeImageNetwork


class OrganResNet(WholeImageNetwork):
    """0.56 M parameters at width 24; tiles shrink by 8, so that a cell covers 8×8 pixels and sees about 60×60."""

    def __init__(self, channels: int, width: int = 24, organs: int = 5) -> None:
        trunk = nn.Sequential(
            nn.Conv2d(channels, width, 5, 2, 2, bias=False),
            nn.GroupNorm(8, width),
            nn.ReLU(inplace=True),
            Residual(width, width),
            Residual(width, 2 * width, 2),
            Residual(2 * width, 2 * width),
            Residual(2 * width, 4 * width, 2),
            Residual(4 * width, 4 * width),
        )
        super().__init__(Glance(organs), Look(trunk, 4 * width))
