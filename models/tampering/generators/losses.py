"""How like its original an image is: by grey value, by edges at three scales, by structure."""

from torch import Tensor
from torch.nn import functional


def reconstruction(made: Tensor, genuine: Tensor) -> Tensor:
    """L1, L1 of what a blur takes away at three scales, and 1 - SSIM (Wang 2004) of windows of 7 pixels."""
    made = made.float()
    loss = (made - genuine).abs().mean()
    one, other = made, genuine
    for _ in range(3):
        low, wanted = functional.avg_pool2d(one, 2), functional.avg_pool2d(other, 2)
        lost = one - functional.interpolate(low, scale_factor=2)
        loss = loss + (lost - (other - functional.interpolate(wanted, scale_factor=2))).abs().mean()
        one, other = low, wanted
    return loss + 0.3 * (1 - similarity(made, genuine))


def similarity(one: Tensor, other: Tensor) -> Tensor:
    """Mean SSIM of images from -1 to 1."""
    means, wanted = functional.avg_pool2d(one, 7, 2), functional.avg_pool2d(other, 7, 2)
    spread = functional.avg_pool2d(one * one, 7, 2) - means * means
    spread_wanted = functional.avg_pool2d(other * other, 7, 2) - wanted * wanted
    shared = functional.avg_pool2d(one * other, 7, 2) - means * wanted
    small, smaller = 0.02**2, 0.06**2
    light = (2 * means * wanted + small) / (means * means + wanted * wanted + small)
    return (light * (2 * shared + smaller) / (spread + spread_wanted + smaller)).mean()
