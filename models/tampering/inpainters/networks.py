"""The inpainters' networks. Each has `fill(image, hole, lesion, generator)`, all (images, planes, rows, columns).

The image is scaled so that tissue lies about -0.5 to 0.5; `hole` is 0 or 1; `lesion` is the wanted brightness plus
LIFT where a lesion is wanted, else 0. Rows and columns are multiples of MULTIPLE.
"""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.tampering.inpainters.blocks import PartialConvolution, block, down, enlarge, masked

MULTIPLE = 8
LIFT = 1.0  # a lesion as bright as the middle of the scale is 1 in its map, so that no lesion is 0
_QUESTIONS = 12  # times that the denoiser is asked


class Autoencoder(nn.Module):
    """The whole image through `code` numbers for each 2^levels × 2^levels pixels."""

    def __init__(self, width: int, levels: int, code: int, up: str) -> None:
        super().__init__()
        sizes = [width * 2**level for level in range(levels + 1)]
        sizes[-1] = min(sizes[-1], 4 * width)
        pairs = list(pairwise(sizes))
        self.encoder = nn.Sequential(
            block(1, width), *(down(*pair) for pair in pairs), nn.Conv2d(sizes[-1], code, 1), nn.Tanh()
        )
        self.decoder = nn.Sequential(
            block(code, sizes[-1]), *(_decode(up, *pair) for pair in reversed(pairs)), nn.Conv2d(width, 1, 3, padding=1)
        )

    def forward(self, image: Tensor) -> Tensor:
        return cast(Tensor, self.decoder(self.encoder(image)))

    def fill(self, image: Tensor, hole: Tensor, lesion: Tensor, generator: torch.Generator) -> Tensor:  # noqa: ARG002
        return self.forward(image)


def _decode(kind: str, outputs: int, inputs: int) -> nn.Sequential:
    return nn.Sequential(enlarge(kind, inputs, outputs), block(outputs, outputs))


class Generator(nn.Module):
    """A U-Net with a dilated middle; noise on its finest level lets it make grain instead of a mean."""

    def __init__(self, width: int, up: str, planes: int = 1) -> None:
        super().__init__()
        self.first = block(3 * planes, width)
        self.downs = nn.ModuleList([down(width, 2 * width), down(2 * width, 3 * width), down(3 * width, 3 * width)])
        self.middle = nn.Sequential(block(3 * width, 3 * width, 2), block(3 * width, 3 * width, 4))
        self.ups = nn.ModuleList(
            [enlarge(up, 3 * width, 3 * width), enlarge(up, 3 * width, 2 * width), enlarge(up, 2 * width, width)]
        )
        self.mixes = nn.ModuleList(
            [block(6 * width, 3 * width), block(4 * width, 2 * width), block(2 * width + 2, width)]
        )
        self.last = nn.Conv2d(width, planes, 3, padding=1)

    def forward(self, image: Tensor, hole: Tensor, lesion: Tensor, noise: Tensor) -> Tensor:
        levels = [self.first(masked(image, hole, lesion))]
        for step in self.downs:
            levels.append(step(levels[-1]))
        found = self.middle(levels.pop())
        for step, mix in zip(self.ups, self.mixes, strict=True):
            grain = [noise] if len(levels) == 1 else []
            found = mix(torch.cat([step(found), levels.pop(), *grain], dim=1))
        return cast(Tensor, self.last(found))

    def fill(self, image: Tensor, hole: Tensor, lesion: Tensor, generator: torch.Generator) -> Tensor:
        return self.forward(image, hole, lesion, noise_for(image, generator))


def noise_for(image: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(len(image), 2, *image.shape[2:], generator=generator)


class VolumeGenerator(nn.Module):
    """A U-Net over all planes at once: convolutions in the plane and through the planes take turns."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = _volume_block(4, width)
        self.downs = nn.ModuleList([_volume_block(width, 2 * width), _volume_block(2 * width, 4 * width)])
        self.middle = _volume_block(4 * width, 4 * width)
        self.mixes = nn.ModuleList([_volume_block(6 * width, 2 * width), _volume_block(3 * width, width)])
        self.last = nn.Conv3d(width, 1, (1, 3, 3), padding=(0, 1, 1))

    def forward(self, image: Tensor, hole: Tensor, lesion: Tensor, noise: Tensor) -> Tensor:
        found = self.first(torch.stack([image * (1 - hole), hole, lesion, noise], dim=1))
        levels = [found]
        for step in self.downs:
            levels.append(step(functional.avg_pool3d(levels[-1], (1, 2, 2))))
        found = self.middle(levels.pop())
        for mix in self.mixes:
            larger = functional.interpolate(found, scale_factor=(1, 2, 2), mode="nearest")
            found = mix(torch.cat([larger, levels.pop()], dim=1))
        return cast(Tensor, self.last(found)[:, 0])

    def fill(self, image: Tensor, hole: Tensor, lesion: Tensor, generator: torch.Generator) -> Tensor:
        return self.forward(image, hole, lesion, torch.randn(image.shape, generator=generator))


def _volume_block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(inputs, outputs, (1, 3, 3), padding=(0, 1, 1)),
        nn.Conv3d(outputs, outputs, (3, 1, 1), padding=(1, 0, 0)),
        nn.GroupNorm(4, outputs),
        nn.SiLU(),
    )


class Partial(nn.Module):
    """A U-Net of partial convolutions: it looks at nothing that is not known."""

    def __init__(self, width: int) -> None:
        super().__init__()
        sizes = ((1, width, 5), (width, 2 * width, 3), (2 * width, 4 * width, 3), (4 * width, 4 * width, 3))
        self.downs = nn.ModuleList([PartialConvolution(*size, stride=2 if k else 1) for k, size in enumerate(sizes)])
        back = ((8 * width, 2 * width), (4 * width, width), (2 * width, width))
        self.ups = nn.ModuleList([PartialConvolution(*size, 3) for size in back])
        self.norms = nn.ModuleList([nn.GroupNorm(4, size[1]) for size in (*sizes, *back)])
        self.last = nn.Conv2d(width, 1, 3, padding=1)

    def forward(self, image: Tensor, hole: Tensor) -> Tensor:
        found, known = image, 1 - hole
        levels = []
        norms = iter(self.norms)
        for step in self.downs:
            found, known = step(found, known)
            found = functional.silu(next(norms)(found))
            levels.append((found, known))
        found, known = levels.pop()
        for step in self.ups:
            beside, beside_known = levels.pop()
            found = torch.cat([functional.interpolate(found, scale_factor=2.0), beside], dim=1)
            known = torch.maximum(functional.interpolate(known, scale_factor=2.0), beside_known)
            found, known = step(found, known)
            found = functional.silu(next(norms)(found))
        return cast(Tensor, self.last(found))

    def fill(self, image: Tensor, hole: Tensor, lesion: Tensor, generator: torch.Generator) -> Tensor:  # noqa: ARG002
        return self.forward(image, hole)


class Denoiser(nn.Module):
    """Says how a noisy hole has to change (v of Salimans 2022) at the moment `time`, 0 clean to 1 noise alone."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.moment = nn.Sequential(nn.Linear(8, 32), nn.SiLU(), nn.Linear(32, 3 * width))
        self.first = block(4, width)
        self.downs = nn.ModuleList([down(width, 2 * width), down(2 * width, 3 * width)])
        self.middle = nn.Sequential(block(3 * width, 3 * width, 2), block(3 * width, 3 * width, 4))
        self.ups = nn.ModuleList([enlarge("nearest", 3 * width, 2 * width), enlarge("nearest", 2 * width, width)])
        self.mixes = nn.ModuleList([block(4 * width, 2 * width), block(2 * width, width)])
        self.last = nn.Conv2d(width, 1, 3, padding=1)

    def forward(self, noisy: Tensor, image: Tensor, hole: Tensor, lesion: Tensor, time: Tensor) -> Tensor:
        waves = time[:, None] * math.pi * 2.0 ** torch.arange(4)
        moment = self.moment(torch.cat([waves.sin(), waves.cos()], dim=1))[:, :, None, None]
        levels = [self.first(torch.cat([masked(image, hole, lesion), noisy], dim=1))]
        for step in self.downs:
            levels.append(step(levels[-1]))
        found = self.middle(levels.pop() + moment)
        for step, mix in zip(self.ups, self.mixes, strict=True):
            found = mix(torch.cat([step(found), levels.pop()], dim=1))
        return cast(Tensor, self.last(found))

    def fill(self, image: Tensor, hole: Tensor, lesion: Tensor, generator: torch.Generator) -> Tensor:
        """From noise to an image in a few deterministic steps (DDIM); what is known is put back at each of them."""
        scaled = image * SPREAD
        noise = torch.randn(image.shape, generator=generator)
        state = noise
        times = torch.linspace(1.0, 0.0, _QUESTIONS + 1)
        clean = scaled
        for now, then in pairwise(times):
            keep, spoil = mixture(now)
            known = keep * scaled + spoil * noise
            state = torch.where(hole > 0, state, known)
            said = self(state, image, hole, lesion, now.expand(len(image)))
            clean, made_noise = keep * state - spoil * said, spoil * state + keep * said
            keep, spoil = mixture(then)
            state = keep * clean + spoil * made_noise
        return clean / SPREAD


SPREAD = 2.5  # brings a scaled image to about unit variance


def mixture(time: Tensor) -> tuple[Tensor, Tensor]:
    """Shares of image and noise at a moment (cosine schedule)."""
    angle = time * (math.pi / 2)
    return angle.cos(), angle.sin()


NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "autoencoder": Autoencoder,
    "generator": Generator,
    "volume_generator": VolumeGenerator,
    "partial": Partial,
    "denoiser": Denoiser,
}


def build(network: str, **arguments: Any) -> nn.Module:
    """A network of the catalogue, with random weights."""
    return NETWORKS[network](**arguments)
