"""Critics, and what makes them stable with few images: spectral norm, hinge loss, augmentation on both sides."""

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

from models.images.organs import KNOWN


class Critic(nn.Module):
    """Judges each place of an image, and the whole where `whole` is set; told the organ by projection (Miyato 2018)."""

    def __init__(self, widths: tuple[int, ...], classes: int = len(KNOWN), *, whole: bool = False) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 1
        for width in widths:
            layers += [spectral_norm(nn.Conv2d(before, width, 4, stride=2, padding=1)), nn.LeakyReLU(0.2)]
            before = width
        self.features = nn.Sequential(*layers)
        self.local = spectral_norm(nn.Conv2d(before, 1, 1))
        self.whole = spectral_norm(nn.Linear(before, 1)) if whole else None
        self.organ = spectral_norm(nn.Embedding(classes, before))

    def forward(self, images: Tensor, organs: Tensor) -> Tensor:
        """Scores (images, places); above 0: taken for genuine."""
        features = self.features(images)
        pooled = features.float().mean(dim=(2, 3))
        told = (self.organ(organs) * pooled).sum(dim=1, keepdim=True)
        scores = self.local(features).float().flatten(1) + told
        if self.whole is not None:
            scores = torch.cat([scores, self.whole(pooled).float() + told], dim=1)
        return torch.as_tensor(scores)


def hinge_of_critic(genuine: Tensor, made: Tensor) -> Tensor:
    return functional.relu(1 - genuine).mean() + functional.relu(1 + made).mean()


def augmented(images: Tensor, seed: int) -> Tensor:
    """Shift and cut out (Zhao 2020): the same kind of change for genuine and made images, differentiable."""
    chance = torch.Generator().manual_seed(seed)
    count, _, rows, columns = images.shape
    reach = rows // 10
    padded = functional.pad(images, (reach, reach, reach, reach), mode="replicate")
    shifts = torch.randint(0, 2 * reach + 1, (count, 2), generator=chance)
    moved = torch.stack([padded[k, :, y : y + rows, x : x + columns] for k, (y, x) in enumerate(shifts.tolist())])
    keep = torch.ones_like(moved)
    size = rows // 4
    corners = torch.randint(0, rows - size + 1, (count, 2), generator=chance)
    for index, (y, x) in enumerate(corners.tolist()):
        if index % 2:
            keep[index, :, y : y + size, x : x + size] = 0
    return moved * keep
