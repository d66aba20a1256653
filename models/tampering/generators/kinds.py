"""The kinds of generators that there are, and how each is trained; a new kind is a line here."""

from dataclasses import dataclass, field
from typing import Any

from models.errors import ModelsError
from models.tampering.generators.base import Generator
from models.tampering.generators.diffusion import Diffusion
from models.tampering.generators.latent import Latent
from models.tampering.generators.native import Autoencoder, Quantised, Translation


class UnknownKind(ModelsError):
    """No kind of generator of this name."""


@dataclass(frozen=True)
class Kind:
    """`steps` of training at `learning_rate`; `arguments` of the network; `trace` is what it leaves in an image."""

    name: str
    network: type[Generator]
    arguments: dict[str, Any]
    steps: int
    trace: str
    learning_rate: float = 1e-3
    images: dict[str, int] = field(default_factory=lambda: {"train": 150, "calibration": 40, "test": 80})

    def build(self, **changes: Any) -> Generator:
        return self.network(**(self.arguments | changes))


_GAN_FROM = 350

KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("autoencoder", Autoencoder, {"adversarial_from": 500}, 1100, "pixel shuffle, critic's texture"),
        Kind("gan_nearest", Latent, {"way": "nearest", "adversarial_from": _GAN_FROM}, 800, "nearest, 3 × 3"),
        Kind("vae", Latent, {"way": "bilinear", "adversarial_from": None}, 900, "bilinear, soft"),
        Kind("vq", Quantised, {"revive": 400}, 900, "nearest, codes out of two books"),
        Kind("gan_transposed", Latent, {"way": "transposed", "adversarial_from": _GAN_FROM}, 800, "lattice of 4 × 4"),
        Kind("translation", Translation, {"adversarial_from": 350}, 800, "transposed, content changed"),
        Kind("diffusion", Diffusion, {"whole_from": 800}, 1100, "what a denoiser leaves out"),
        Kind("gan_pixelshuffle", Latent, {"way": "pixelshuffle", "adversarial_from": _GAN_FROM}, 800, "grid of phases"),
    )
}


def kind_of(name: str) -> Kind:
    """Raises UnknownKind."""
    if name not in KINDS:
        raise UnknownKind(f"no kind of generator is named {name}; there are {', '.join(KINDS)}")
    return KINDS[name]
