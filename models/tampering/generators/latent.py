"""Images from a coarse grid of values: a VAE and GANs that differ in how they enlarge and in what judges them.

A grid of an eighth or a quarter of the rows and columns is what so few images and minutes can teach. New images come
from grids that blend the encodings of two similar images of one organ from place to place, with the encodings' own
spread: every pixel is made by the decoder, and what it shows is in neither image. The GANs' critic sees only blends.
"""

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.images.organs import KNOWN
from models.tampering.generators.adversarial import Critic, augmented, hinge_of_critic
from models.tampering.generators.base import Generator
from models.tampering.generators.layers import Enlarge, Grain, Residual, Upsampling
from models.tampering.generators.losses import reconstruction
from models.tampering.generators.material import Batch, Material

_CONDITION = 16
_NEIGHBOURS = 4


class Encoder(nn.Module):
    """An image, halved `levels` times, to mean and log variance of each value of its grid."""

    def __init__(self, width: int, channels: int, levels: int) -> None:
        super().__init__()
        self.condition = nn.Embedding(len(KNOWN), _CONDITION)
        self.shrink = nn.ModuleList(
            [
                nn.Conv2d(before, after, 4, stride=2, padding=1)
                for before, after in pairwise([1] + [width * 2**level for level in range(levels)])
            ]
        )
        wide = width * 2 ** (levels - 1)
        self.residual = Residual(wide, _CONDITION, normalise=False)
        self.answer = nn.Conv2d(wide, 2 * channels, 1)

    def forward(self, images: Tensor, organs: Tensor) -> tuple[Tensor, Tensor]:
        features = images
        for layer in self.shrink:
            features = functional.silu(layer(features))
        mean, spread = self.answer(self.residual(features, self.condition(organs))).float().chunk(2, dim=1)
        return mean, spread.clamp(-8, 2)


class Decoder(nn.Module):
    """A grid and an organ to an image."""

    def __init__(self, width: int, channels: int, levels: int, way: Upsampling, *, grain: bool) -> None:
        super().__init__()
        self.condition = nn.Embedding(len(KNOWN), _CONDITION)
        pairs = list(pairwise(width * factor for factor in range(levels + 1, 0, -1)))
        self.start = nn.Conv2d(channels, pairs[0][0], 3, padding=1)
        self.residual = Residual(pairs[0][0], _CONDITION, normalise=False)
        self.enlarge = nn.ModuleList([Enlarge(before, after, way) for before, after in pairs])
        self.grain = nn.ModuleList([Grain(after) if grain else nn.Identity() for _, after in pairs])
        self.image = nn.Conv2d(width, 1, 3, padding=1)

    def forward(self, grids: Tensor, organs: Tensor) -> Tensor:
        features = self.residual(self.start(grids), self.condition(organs))
        for enlarge, grain in zip(self.enlarge, self.grain, strict=True):
            features = functional.silu(grain(enlarge(features)))
        return torch.as_tensor(self.image(features).float())


class Latent(Generator):
    """A VAE; with a critic from step `adversarial_from` on, a GAN. Learns on crops of images of `size` pixels."""

    def __init__(
        self,
        way: Upsampling,
        adversarial_from: int | None,
        size: int = 192,
        crop: int = 96,
        levels: int = 3,
        channels: int = 8,
        width: int = 16,
        batch: int = 10,
        divergence: float = 1e-4,
    ) -> None:
        super().__init__()
        self.adversarial_from, self.size, self.crop, self.levels = adversarial_from, size, crop, levels
        self.batch, self.divergence = batch, divergence
        self.encoder = Encoder(width, channels, levels)
        self.decoder = Decoder(width, channels, levels, way, grain=adversarial_from is not None)
        self.critic = Critic((2 * width, 4 * width, 4 * width), whole=True) if adversarial_from is not None else None

    def critics(self) -> list[nn.Module]:
        return [self.critic] if self.critic is not None else []

    def learn(self, material: Material, step: int, optimiser: torch.optim.Optimizer, seed: int) -> dict[str, float]:
        batch = self._crops(material, np.random.default_rng(seed))
        mean, spread = self.encoder(batch.images, batch.organs)
        grids = mean + torch.randn_like(mean) * (0.5 * spread).exp()
        divergence = 0.5 * (mean.square() + spread.exp() - 1 - spread).sum(dim=(1, 2, 3)).mean()
        loss = reconstruction(self.decoder(grids, batch.organs), batch.images) + self.divergence * divergence
        if self.critic is None or self.adversarial_from is None or step < self.adversarial_from:
            self.descend(loss, optimiser, critic=False)
            return {"loss": float(loss.detach())}
        turn = len(material.organs)  # organs come in turn: so far on is one of the same organ
        share = blend(grids)
        made = self.decoder(torch.lerp(grids, grids.roll(turn, dims=0), share), batch.organs)
        cell = 2**self.levels
        wanted = functional.avg_pool2d(batch.images, cell)  # what a blend shows is free, how bright it is there is not
        wanted = torch.lerp(wanted, wanted.roll(turn, dims=0), share)
        strayed = (functional.avg_pool2d(made, cell) - wanted).abs().mean()
        total = loss + strayed - 0.03 * self.critic(augmented(made, seed), batch.organs).mean()
        self.descend(total, optimiser, critic=False)
        genuine = self.critic(augmented(batch.images, seed + 1), batch.organs)
        judged = hinge_of_critic(genuine, self.critic(augmented(made.detach(), seed + 2), batch.organs))
        self.descend(judged, optimiser, critic=True)
        return {"loss": float(loss.detach()), "critic": float(judged.detach())}

    def _crops(self, material: Material, rng: np.random.Generator) -> Batch:
        whole = material.whole(rng, self.batch)
        y, x = (int(rng.integers(0, self.size - self.crop + 1)) for _ in range(2))
        return Batch(whole.images[:, :, y : y + self.crop, x : x + self.crop], whole.organs, whole.diseased)

    def make(self, organs: Tensor, images: Tensor) -> Tensor:
        """One image for each of `images`, which are of one organ: its grid blended with that of one similar to it."""
        mean, spread = self.encoder(images, organs)
        grids = mean + torch.randn_like(mean) * (0.5 * spread).exp()
        if len(images) > 1:
            flat = mean.flatten(1)
            distances = torch.cdist(flat, flat) + torch.eye(len(flat)) * 1e9
            nearest = distances.topk(min(_NEIGHBOURS, len(flat) - 1), largest=False).indices
            chosen = nearest.gather(1, torch.randint(nearest.shape[1], (len(flat), 1))).squeeze(1)
            grids = torch.lerp(grids, grids[chosen], blend(grids))
        return torch.as_tensor(self.decoder(grids, organs))


def blend(grids: Tensor) -> Tensor:
    """How much of the other image each place of a grid gets, (n, 1, rows, columns): a few smooth patches, at random."""
    coarse = torch.randn(len(grids), 1, 4, 4)
    smooth = functional.interpolate(coarse, size=grids.shape[2:], mode="bicubic", align_corners=False)
    return smooth.mul(1.5).sigmoid()
