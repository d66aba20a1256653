"""What every kind of generator can do: learn a step, and make images from genuine ones."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from models.tampering.generators.material import Material


class Generator(nn.Module, ABC):
    """A network with all that it is trained with. `size`: of the squares that it learns and makes; 0: any size."""

    size: int = 0

    @abstractmethod
    def learn(self, material: Material, step: int, optimiser: torch.optim.Optimizer, seed: int) -> dict[str, float]:
        """One step of training, drawn by `seed`; returns what was measured."""

    @abstractmethod
    def make(self, organs: Tensor, images: Tensor) -> Tensor:
        """An image for each genuine one of `images` (n, 1, rows, columns), which show these organs."""

    def critics(self) -> list[nn.Module]:
        """The parts that judge: they learn apart, and faster."""
        return []

    def descend(self, loss: Tensor, optimiser: torch.optim.Optimizer, *, critic: bool) -> None:
        """Step with the gradient of `loss` for the critics alone, or for all else alone."""
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        judging = {id(parameter) for part in self.critics() for parameter in part.parameters()}
        for parameter in self.parameters():
            if (id(parameter) in judging) is not critic:
                parameter.grad = None  # an optimiser leaves alone what has no gradient
        kept = [parameter for parameter in self.parameters() if parameter.grad is not None]
        torch.nn.utils.clip_grad_norm_(kept, 5.0)
        optimiser.step()
