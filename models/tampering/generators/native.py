"""Images made anew at native resolution: an autoencoder judged by a critic, and a VQ autoencoder (van den Oord 2017).

Both shrink an image to a quarter of its rows and columns. They train on crops and run on images of any size whose sides
are padded to multiples of four.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.images.organs import KNOWN
from models.tampering.generators.adversarial import Critic, hinge_of_critic
from models.tampering.generators.base import Generator
from models.tampering.generators.layers import Enlarge, Residual, Upsampling
from models.tampering.generators.losses import reconstruction
from models.tampering.generators.material import Material

_CONDITION = 16
_GROUPS = 2  # an encoding is two codes: as many pairs as one codebook of the square of its size


class Shrink(nn.Module):
    def __init__(self, width: int, channels: int, conditions: int) -> None:
        super().__init__()
        self.condition = nn.Embedding(conditions, _CONDITION)
        self.stem = nn.Conv2d(1, width, 4, stride=2, padding=1)
        self.down = nn.Conv2d(width, 2 * width, 4, stride=2, padding=1)
        self.residual = Residual(2 * width, _CONDITION, normalise=False)
        self.code = nn.Conv2d(2 * width, channels, 1)

    def forward(self, images: Tensor, organs: Tensor) -> Tensor:
        features = self.down(functional.silu(self.stem(images)))
        return torch.as_tensor(self.code(self.residual(features, self.condition(organs))))


class Grow(nn.Module):
    def __init__(self, width: int, channels: int, way: Upsampling, conditions: int) -> None:
        super().__init__()
        self.condition = nn.Embedding(conditions, _CONDITION)
        self.code = nn.Conv2d(channels, 2 * width, 3, padding=1)
        self.residual = Residual(2 * width, _CONDITION, normalise=False)
        self.first = Enlarge(2 * width, width, way)
        self.second = Enlarge(width, width // 2, way)
        self.image = nn.Conv2d(width // 2, 1, 3, padding=1)

    def forward(self, codes: Tensor, organs: Tensor) -> Tensor:
        features = self.residual(self.code(codes), self.condition(organs))
        features = functional.silu(self.second(functional.silu(self.first(features))))
        return torch.as_tensor(self.image(features).float())


class Autoencoder(Generator):
    """Reconstruction through few channels; from `adversarial_from` steps on, a critic sharpens it."""

    def __init__(
        self, adversarial_from: int, width: int = 32, channels: int = 8, crop: int = 96, batch: int = 8
    ) -> None:
        super().__init__()
        self.adversarial_from, self.crop, self.batch = adversarial_from, crop, batch
        self.encoder = Shrink(width, channels, len(KNOWN))
        self.decoder = Grow(width, channels, "pixelshuffle", len(KNOWN))
        self.critic = Critic((width, 2 * width, 2 * width))

    def critics(self) -> list[nn.Module]:
        return [self.critic]

    def learn(self, material: Material, step: int, optimiser: torch.optim.Optimizer, seed: int) -> dict[str, float]:
        batch = material.crops(np.random.default_rng(seed), self.batch, self.crop)
        made = self.decoder(self.encoder(batch.images, batch.organs), batch.organs)
        loss = reconstruction(made, batch.images)
        if step < self.adversarial_from:
            self.descend(loss, optimiser, critic=False)
            return {"loss": float(loss.detach())}
        total = loss - 0.05 * self.critic(made, batch.organs).mean()
        self.descend(total, optimiser, critic=False)
        judged = hinge_of_critic(self.critic(batch.images, batch.organs), self.critic(made.detach(), batch.organs))
        self.descend(judged, optimiser, critic=True)
        return {"loss": float(loss.detach()), "critic": float(judged.detach())}

    def make(self, organs: Tensor, images: Tensor) -> Tensor:
        return at_native(images, lambda padded: self.decoder(self.encoder(padded, organs), organs))


class Quantised(Generator):
    """Reconstruction from codes out of two codebooks."""

    def __init__(
        self, width: int = 32, channels: int = 8, codes: int = 512, crop: int = 96, batch: int = 8, revive: int = 600
    ) -> None:
        super().__init__()
        self.crop, self.batch, self.revive = crop, batch, revive
        self.encoder = Shrink(width, _GROUPS * channels, len(KNOWN))
        self.decoder = Grow(width, _GROUPS * channels, "nearest", len(KNOWN))
        self.books = nn.Parameter(torch.randn(_GROUPS, codes, channels))
        self.used: Tensor
        self.register_buffer("used", torch.zeros(_GROUPS, codes))

    def learn(self, material: Material, step: int, optimiser: torch.optim.Optimizer, seed: int) -> dict[str, float]:
        batch = material.crops(np.random.default_rng(seed), self.batch, self.crop)
        encoded = self.encoder(batch.images, batch.organs).float()
        if step % 40 == 0 and step < self.revive:
            self._revive(encoded.detach())
        nearest, chosen = self._quantise(encoded)
        for group in range(_GROUPS):
            self.used[group] += torch.bincount(chosen[group], minlength=self.books.shape[1])
        passed = encoded + (nearest - encoded).detach()  # straight through
        loss = reconstruction(self.decoder(passed, batch.organs), batch.images)
        committed = (nearest - encoded.detach()).square().mean() + 0.25 * (nearest.detach() - encoded).square().mean()
        self.descend(loss + committed, optimiser, critic=False)
        return {"loss": float(loss.detach())}

    def _quantise(self, encoded: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The codes nearest to `encoded` (n, channels, rows, columns), and which they are."""
        images, _, rows, columns = encoded.shape
        nearest, chosen = [], []
        for book, part in zip(self.books, encoded.chunk(_GROUPS, dim=1), strict=True):
            flat = part.permute(0, 2, 3, 1).reshape(-1, book.shape[1])
            with torch.no_grad():
                index = (book.square().sum(dim=1) - 2 * flat @ book.T).argmin(dim=1)
            chosen.append(index)
            nearest.append(book[index].reshape(images, rows, columns, -1).permute(0, 3, 1, 2))
        return torch.cat(nearest, dim=1), chosen

    @torch.no_grad()
    def _revive(self, encoded: Tensor) -> None:
        """Give codes that nothing came near to a place among the encodings."""
        for group, part in enumerate(encoded.chunk(_GROUPS, dim=1)):
            flat = part.permute(0, 2, 3, 1).reshape(-1, self.books.shape[2])
            unused = self.used[group] < 1
            places = torch.randint(len(flat), (int(unused.sum()),))
            self.books[group, unused] = flat[places] + 0.01 * torch.randn(len(places), flat.shape[1])
        self.used.zero_()

    def make(self, organs: Tensor, images: Tensor) -> Tensor:
        return at_native(
            images, lambda padded: self.decoder(self._quantise(self.encoder(padded, organs).float())[0], organs)
        )


class Translation(Generator):
    """The image of a healthy organ as that of a diseased one, and back (cycle and identity, Zhu 2017; one network)."""

    def __init__(
        self, adversarial_from: int, width: int = 32, channels: int = 24, crop: int = 96, batch: int = 6
    ) -> None:
        super().__init__()
        self.adversarial_from, self.crop, self.batch = adversarial_from, crop, batch
        states = 2 * len(KNOWN)
        self.encoder = Shrink(width, channels, len(KNOWN))
        self.decoder = Grow(width, channels, "transposed", states)
        self.bend = nn.ModuleList([Residual(channels, _CONDITION, normalise=False) for _ in range(2)])
        self.state = nn.Embedding(states, _CONDITION)
        self.critic = Critic((width, 2 * width, 3 * width, 3 * width), states)

    def critics(self) -> list[nn.Module]:
        return [self.critic]

    def translate(self, images: Tensor, organs: Tensor, diseased: Tensor) -> Tensor:
        states = 2 * organs + diseased.long()
        codes = self.encoder(images, organs)
        for block in self.bend:
            codes = block(codes, self.state(states))
        return torch.as_tensor(self.decoder(codes, states))

    def learn(self, material: Material, step: int, optimiser: torch.optim.Optimizer, seed: int) -> dict[str, float]:
        batch = material.crops(np.random.default_rng(seed), self.batch, self.crop, labelled=True)
        loss = reconstruction(self.translate(batch.images, batch.organs, batch.diseased), batch.images)
        if step < self.adversarial_from:
            self.descend(loss, optimiser, critic=False)
            return {"loss": float(loss.detach())}
        other = 1 - batch.diseased
        made = self.translate(batch.images, batch.organs, other)
        again = reconstruction(self.translate(made, batch.organs, batch.diseased), batch.images)
        judgement = -self.critic(made, 2 * batch.organs + other.long()).mean()
        self.descend(0.5 * loss + again + 0.15 * judgement, optimiser, critic=False)
        genuine = self.critic(batch.images, 2 * batch.organs + batch.diseased.long())
        judged = hinge_of_critic(genuine, self.critic(made.detach(), 2 * batch.organs + other.long()))
        self.descend(judged, optimiser, critic=True)
        return {"loss": float(loss.detach()), "critic": float(judged.detach())}

    def make(self, organs: Tensor, images: Tensor) -> Tensor:
        """Towards the diseased state."""
        return at_native(images, lambda padded: self.translate(padded, organs, torch.ones(len(padded))))


def at_native(images: Tensor, network: Callable[[Tensor], Tensor]) -> Tensor:
    """Pad to sides that can be quartered, run, and cut back to the size that came."""
    rows, columns = images.shape[2:]
    padded = functional.pad(images, (0, -columns % 4, 0, -rows % 4), mode="replicate")
    return torch.as_tensor(network(padded)[:, :, :rows, :columns])
