"""A small diffusion model of 128 pixels: a U-Net that predicts v (Salimans 2022), sampled by DDIM (Song 2021).

So small a network trained for minutes makes no plausible organ of pure noise. Its images start from genuine ones under
strong noise (Meng 2021): the place of things stays, every pixel is made anew.
"""

import math
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.images.organs import KNOWN
from models.tampering.generators.base import Generator
from models.tampering.generators.layers import Residual
from models.tampering.generators.material import Material

_CONDITION = 64


class UNet(nn.Module):
    """Three levels under a stem that rearranges 2 × 2 pixels into channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        widths = (width, 2 * width, 3 * width)
        self.organ = nn.Embedding(len(KNOWN), _CONDITION)
        self.time = nn.Sequential(nn.Linear(16, _CONDITION), nn.SiLU(), nn.Linear(_CONDITION, _CONDITION))
        self.stem = nn.Conv2d(4, width, 3, padding=1)
        self.down_blocks = nn.ModuleList([Residual(each, _CONDITION, normalise=True) for each in widths])
        self.shrink = nn.ModuleList([nn.Conv2d(one, other, 3, stride=2, padding=1) for one, other in pairwise(widths)])
        self.middle = Residual(widths[-1], _CONDITION, normalise=True)
        self.up_blocks = nn.ModuleList([Residual(each, _CONDITION, normalise=True) for each in widths])
        self.grow = nn.ModuleList([nn.Conv2d(other, one, 3, padding=1) for one, other in pairwise(widths)])
        self.join = nn.ModuleList([nn.Conv2d(2 * each, each, 1) for each in widths])
        self.answer = nn.Conv2d(width, 4, 3, padding=1)
        nn.init.zeros_(self.answer.weight)

    def forward(self, images: Tensor, times: Tensor, organs: Tensor) -> Tensor:
        waves = times[:, None] * torch.exp(torch.linspace(0, math.log(200), 8))[None]
        condition = self.time(torch.cat([waves.sin(), waves.cos()], dim=1)) + self.organ(organs)
        features = self.stem(functional.pixel_unshuffle(images, 2))
        kept = []
        for level, block in enumerate(self.down_blocks):
            if level:
                features = self.shrink[level - 1](features)
            features = block(features, condition)
            kept.append(features)
        features = self.middle(features, condition)
        for level in reversed(range(len(kept))):
            if level < len(kept) - 1:
                features = self.grow[level](functional.interpolate(features, scale_factor=2))
            features = self.join[level](torch.cat([features, kept[level]], dim=1))
            features = self.up_blocks[level](features, condition)
        return functional.pixel_shuffle(self.answer(functional.silu(features)).float(), 2)


class Diffusion(Generator):
    """Learns on crops of 64 pixels for the first `whole_from` steps, which is cheap, then on whole images."""

    def __init__(
        self,
        whole_from: int,
        size: int = 128,
        width: int = 32,
        batch: int = 16,
        strengths: tuple[float, ...] = (0.3, 0.5),
        steps: int = 8,
    ) -> None:
        super().__init__()
        self.whole_from, self.size, self.batch = whole_from, size, batch
        self.strengths, self.steps = strengths, steps
        self.network = UNet(width)

    def learn(self, material: Material, step: int, optimiser: torch.optim.Optimizer, seed: int) -> dict[str, float]:
        rng = np.random.default_rng(seed)
        crops = step < self.whole_from
        batch = material.whole(rng, self.batch if crops else max(1, self.batch // 3))
        images = batch.images
        if crops:
            half = self.size // 2
            y, x = (int(value) for value in rng.integers(0, half + 1, size=2))
            images = images[:, :, y : y + half, x : x + half]
        times = torch.rand(len(images)) * 0.98 + 0.01
        noise = torch.randn_like(images)
        signal, spread = _share(times)
        wanted = signal * noise - spread * images
        loss = (self.network(signal * images + spread * noise, times, batch.organs) - wanted).square().mean()
        self.descend(loss, optimiser, critic=False)
        return {"loss": float(loss.detach())}

    def make(self, organs: Tensor, images: Tensor) -> Tensor:
        """From `images` under noise, of the strengths in turn; a strength is a share of the way to pure noise."""
        start = torch.tensor([self.strengths[place % len(self.strengths)] for place in range(len(images))])
        signal, spread = _share(start)
        noisy = signal * images + spread * torch.randn_like(images)
        for now, then in pairwise(torch.linspace(1, 0, self.steps + 1)):
            signal, spread = _share(start * now)
            answer = self.network(noisy, start * now, organs)
            clean = (signal * noisy - spread * answer).clamp(-1, 1)
            noise = (noisy - signal * clean) / spread
            signal, spread = _share(start * then)
            noisy = signal * clean + spread * noise
        return noisy.clamp(-1, 1)


def _share(times: Tensor) -> tuple[Tensor, Tensor]:
    """Share of image and of noise at a time from 0 to 1 (cosine schedule)."""
    angle = times[:, None, None, None] * (math.pi / 2)
    return angle.cos(), angle.sin()
