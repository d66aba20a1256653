"""The kinds of generators that there are, and how each is trained; a new kind is a line here."""

from dataclasses import dataclass
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
    pace: float = 1.0  # of the critics, in learning rates
    images: tuple[int, int, int] = (150, 40, 80)  # of each source: train, calibration, test

    def build(self, **changes: Any) -> Generator:
        return self.network(**(self.arguments | changes))


_DEAR = (100, 25, 50)  # at native resolution an image takes as long as forty free samples
_GAN_FROM = 300

KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("autoencoder", Autoencoder, {"adversarial_from": 500}, 1100, "pixel shuffle, critic", images=_DEAR),
        Kind("gan_nearest", Latent, {"way": "nearest", "adversarial_from": _GAN_FROM}, 900, "nearest, 3 × 3", pace=2),
        Kind("vae", Latent, {"way": "bilinear", "adversarial_from": None}, 1000, "bilinear, no critic"),
        Kind("vq", Quantised, {"revive": 600}, 1600, "nearest, codes out of two books", images=_DEAR),
        Kind(
            "gan_transposed",
            Latent,
            {"way": "transposed", "adversarial_from": _GAN_FROM, "levels": 2},
            900,
            "lattice of 4 × 4",
            pace=2,
        ),
        Kind("translation", Translation, {"adversarial_from": 300}, 700, "transposed, content changed", images=_DEAR),
        Kind("diffusion", Diffusion, {"whole_from": 1600}, 2200, "what a denoiser leaves out", images=(60, 15, 40)),
        Kind(
            "gan_pixelshuffle",
            Latent,
            {"way": "pixelshuffle", "adversarial_from": _GAN_FROM, "levels": 2},
            900,
            "grid of phases",
            pace=2,
        ),
    )
}


def kind_of(name: str) -> Kind:
    """Raises UnknownKind."""
    if name not in KINDS:
        raise UnknownKind(f"no kind of generator is named {name}; there are {', '.join(KINDS)}")
    return KINDS[name]
