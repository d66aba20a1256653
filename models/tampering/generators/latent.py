"""Images from a vector: two GANs and a VAE that share an encoder and differ in how they enlarge and what judges them.

The GANs begin as autoencoders, so that so few images and steps suffice; then a critic alone, with a little of the
reconstruction, forms them. All sample from a Gaussian over the training images' vectors, one for each organ.
"""

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.images.organs import KNOWN
from models.tampering.generators.adversarial import Critic, augmented, hinge_of_critic
from models.tampering.generators.base import Generator
from models.tampering.generators.layers import Enlarge, Grain, Modulation, Upsampling
from models.tampering.generators.losses import reconstruction
from models.tampering.generators.material import Material

_CONDITION = 32


class Encoder(nn.Module):
    """An image of `size` pixels, 4 × 2^n, to mean and log variance of its vector."""

    def __init__(self, size: int, latent: int, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before, side = 1, size
        out = width
        while side > 4:
            layers += [nn.Conv2d(before, out, 4, stride=2, padding=1), nn.GroupNorm(4, out), nn.SiLU()]
            before, side, out = out, side // 2, min(2 * out, 8 * width)
        self.features = nn.Sequential(*layers)
        self.answer = nn.Linear(before * 16 + len(KNOWN), 2 * latent)

    def forward(self, images: Tensor, organs: Tensor) -> tuple[Tensor, Tensor]:
        told = functional.one_hot(organs, len(KNOWN)).float()
        flat = torch.cat([self.features(images).float().flatten(1), told], dim=1)
        mean, spread = self.answer(flat).float().chunk(2, dim=1)
        return mean, spread.clamp(-8, 4)


class Decoder(nn.Module):
    """A vector and an organ to an image."""

    def __init__(self, size: int, latent: int, width: int, way: Upsampling, *, grain: bool) -> None:
        super().__init__()
        self.organ = nn.Embedding(len(KNOWN), _CONDITION)
        stages = int(np.log2(size // 4))
        widths = [min(width * 2 ** max(stages - 1 - stage, 0), 10 * width) for stage in range(stages)]
        self.start = nn.Linear(latent + _CONDITION, widths[0] * 16)
        self.condition = nn.Linear(latent + _CONDITION, 64)
        self.stages = nn.ModuleList()
        for stage, out in enumerate(widths):
            before = widths[max(stage - 1, 0)]
            self.stages.append(
                nn.ModuleDict(
                    {
                        "enlarge": Enlarge(before, out, way),
                        "grain": Grain(out) if grain else nn.Identity(),
                        "modulation": Modulation(out, 64, normalise=True),
                    }
                )
            )
        self.image = nn.Conv2d(widths[-1], 1, 3, padding=1)

    def forward(self, vectors: Tensor, organs: Tensor) -> Tensor:
        told = torch.cat([vectors, self.organ(organs)], dim=1)
        condition = functional.silu(self.condition(told))
        features = self.start(told).reshape(len(vectors), -1, 4, 4)
        for stage in self.stages:
            enlarge, grain, modulation = stage["enlarge"], stage["grain"], stage["modulation"]  # type: ignore[index]
            features = functional.leaky_relu(modulation(grain(enlarge(features)), condition), 0.2)
        return torch.tanh(self.image(features).float())


class Latent(Generator):
    """A VAE; with `adversarial_from` steps behind it, a GAN."""

    from_images: ClassVar[bool] = False

    def __init__(
        self,
        way: Upsampling,
        adversarial_from: int | None,
        size: int = 128,
        latent: int = 64,
        width: int = 12,
        batch: int = 8,
        divergence: float = 0.002,
    ) -> None:
        super().__init__()
        self.adversarial_from, self.batch, self.divergence = adversarial_from, batch, divergence
        self.encoder = Encoder(size, latent, 16 if width > 4 else width)
        self.decoder = Decoder(size, latent, width, way, grain=adversarial_from is not None)
        self.critic = None
        if adversarial_from is not None:
            widths = (2 * width, 4 * width, 6 * width, 8 * width)
            self.critic = Critic(widths, whole=True)
        self.mean: Tensor
        self.factor: Tensor
        self.register_buffer("mean", torch.zeros(len(KNOWN), latent))
        self.register_buffer("factor", torch.eye(latent).repeat(len(KNOWN), 1, 1))

    def critics(self) -> list[nn.Module]:
        return [self.critic] if self.critic is not None else []

    def learn(self, material: Material, step: int, optimiser: torch.optim.Optimizer, seed: int) -> dict[str, float]:
        rng = np.random.default_rng(seed)
        batch = material.whole(rng, self.batch)
        if self.critic is None or self.adversarial_from is None or step < self.adversarial_from:
            loss = self._autoencoding(batch.images, batch.organs)
            self.descend(loss, optimiser, critic=False)
            return {"loss": float(loss.detach())}
        if step == self.adversarial_from or step % 200 == 0:
            self.settle(material)
        made = self.decoder(self._vectors(batch.organs), batch.organs)
        loss = -self.critic(augmented(made, seed), batch.organs).mean()
        if step % 3 == 0:
            loss = loss + 2 * self._autoencoding(batch.images, batch.organs)
        self.descend(loss, optimiser, critic=False)
        genuine = self.critic(augmented(batch.images, seed + 1), batch.organs)
        judged = hinge_of_critic(genuine, self.critic(augmented(made.detach(), seed + 2), batch.organs))
        self.descend(judged, optimiser, critic=True)
        return {"loss": float(loss.detach()), "critic": float(judged.detach())}

    def _autoencoding(self, images: Tensor, organs: Tensor) -> Tensor:
        mean, spread = self.encoder(images, organs)
        vectors = mean + torch.randn_like(mean) * (0.5 * spread).exp()
        divergence = 0.5 * (mean.square() + spread.exp() - 1 - spread).sum(dim=1).mean()
        return reconstruction(self.decoder(vectors, organs), images) + self.divergence * divergence

    @torch.no_grad()
    def settle(self, material: Material) -> None:
        """Mean and Cholesky factor of the vectors of each organ's training images."""
        for organ in material.organs:
            images = material.every(organ)[:400]
            mean, spread = self.encoder(images, torch.full((len(images),), organ))
            covariance = torch.cov(mean.T) + torch.diag(spread.exp().mean(dim=0)) + 1e-4 * torch.eye(mean.shape[1])
            self.mean[organ] = mean.mean(dim=0)
            self.factor[organ] = torch.linalg.cholesky(covariance)

    def _vectors(self, organs: Tensor) -> Tensor:
        noise = torch.randn(len(organs), self.mean.shape[1], 1)
        return self.mean[organs] + (self.factor[organs] @ noise).squeeze(-1)

    def make(self, organs: Tensor, images: Tensor | None = None) -> Tensor:  # noqa: ARG002  made of nothing
        return torch.as_tensor(self.decoder(self._vectors(organs), organs))
