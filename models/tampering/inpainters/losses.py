"""What the inpainters are trained for; each returns the loss of the network and, where it has one, of its critic."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.tampering.inpainters.blocks import Critic
from models.tampering.inpainters.catalogue import Approach, Inpainter
from models.tampering.inpainters.crops import Holes
from models.tampering.inpainters.networks import SPREAD, mixture

_INSIDE = 5.0  # a pixel in the hole counts so much more than one outside


def objective(
    kind: Inpainter, network: nn.Module, critic: Critic | None, batch: Holes, generator: torch.Generator
) -> tuple[Tensor, Tensor | None]:
    """The two losses of a batch; the critic's is computed on what the network made, without its gradient."""
    if kind.approach is Approach.DIFFUSE:
        return _denoising(network, batch, generator), None
    made = network.fill(batch.image, batch.hole, batch.lesion, generator)  # type: ignore[operator]
    loss = _distance(made, batch, everywhere=kind.approach is Approach.RECONSTRUCT)
    if critic is None:
        return loss, None
    whole = torch.where(batch.hole > 0, made, batch.image)
    real, fake = (_shown(kind, image, batch) for image in (batch.image, whole))
    said, seen = critic(fake)
    loss = loss + kind.push * _fooled(kind.critic, said)
    if kind.critic == "cross_entropy":
        with torch.no_grad():
            wanted = critic(real)[1]
        loss = loss + 0.02 * sum((one - other).abs().mean() for one, other in zip(seen, wanted, strict=True))
    return loss, _judged(kind.critic, critic(real)[0], critic(fake.detach())[0])


def critic_for(kind: Inpainter) -> Critic | None:
    """The network that an adversarial inpainter is trained against."""
    return Critic(3 * (kind.planes or 1)) if kind.approach is Approach.ADVERSARIAL else None


def _shown(kind: Inpainter, image: Tensor, batch: Holes) -> Tensor:
    parts = (image, batch.hole, batch.lesion)
    if kind.three_dimensional:  # the critic judges plane by plane
        parts = tuple(part.flatten(0, 1).unsqueeze(1) for part in parts)  # type: ignore[assignment]
    return torch.cat(parts, dim=1)


def _distance(made: Tensor, batch: Holes, *, everywhere: bool) -> Tensor:
    """Mean absolute error, the hole weighing more, and that of the gradients."""
    weight = torch.ones_like(batch.hole) if everywhere else 1.0 + (_INSIDE - 1.0) * batch.hole
    error = (weight * (made - batch.image).abs()).mean()
    across = (weight * (_across(made) - _across(batch.image)).abs()).mean()
    down = (weight * (_down(made) - _down(batch.image)).abs()).mean()
    return error + 0.3 * (across + down)


def _across(image: Tensor) -> Tensor:
    return functional.pad(image[..., 1:] - image[..., :-1], (0, 1))


def _down(image: Tensor) -> Tensor:
    return functional.pad(image[..., 1:, :] - image[..., :-1, :], (0, 0, 0, 1))


def _fooled(loss: str, said: Tensor) -> Tensor:
    if loss == "hinge":
        return -said.mean()
    if loss == "least_squares":
        return (said - 1).square().mean()
    return functional.softplus(-said).mean()


def _judged(loss: str, real: Tensor, fake: Tensor) -> Tensor:
    if loss == "hinge":
        return functional.relu(1 - real).mean() + functional.relu(1 + fake).mean()
    if loss == "least_squares":
        return (real - 1).square().mean() + fake.square().mean()
    return functional.softplus(-real).mean() + functional.softplus(fake).mean()


def _denoising(network: nn.Module, batch: Holes, generator: torch.Generator) -> Tensor:
    clean = batch.image * SPREAD
    time = torch.rand(len(clean), generator=generator)
    keep, spoil = (share[:, None, None, None] for share in mixture(time))
    noise = torch.randn(clean.shape, generator=generator)
    noisy = keep * clean + spoil * noise
    said: Tensor = network(noisy, batch.image, batch.hole, batch.lesion, time)
    weight = 0.1 + batch.hole
    return (weight * (said - (keep * noise - spoil * clean)).square()).mean()
