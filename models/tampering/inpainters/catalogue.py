"""Which inpainters there are: one line each says how it is built, how it is trained, and with which seed.

They differ on purpose in dimension, up-sampling, loss and seed: a detector that has seen many small ones holds better
on one that it has not seen than a detector that has seen one good one.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from models.errors import UnknownInpainter


class Approach(StrEnum):
    """How an inpainter is trained."""

    RECONSTRUCT = "reconstruct"  # an auto-encoder: the whole image through few numbers
    ADVERSARIAL = "adversarial"
    PARTIAL = "partial"  # partial convolutions (Liu 2018)
    DIFFUSE = "diffuse"  # a denoiser (Ho 2020), asked a few times (Song 2021)


@dataclass(frozen=True)
class Inpainter:
    """One network: `planes` that it sees at once (0: as many as there are), and its arguments.

    `critic` names the adversarial loss, `push` is its weight. `lesions`: it paints a lesion where it is asked to.
    """

    name: str
    about: str
    approach: Approach
    network: str
    arguments: dict[str, Any] = field(default_factory=dict)
    planes: int = 1
    critic: str = "hinge"
    push: float = 0.04
    lesions: bool = False
    steps: int = 800
    batch: int = 12
    seed: int = 1

    @property
    def three_dimensional(self) -> bool:
        return self.planes == 0


INPAINTERS: dict[str, Inpainter] = {
    each.name: each
    for each in (
        Inpainter(
            "autoencoder_4",
            "auto-encoder, 4 numbers for each 8×8 pixels",
            Approach.RECONSTRUCT,
            "autoencoder",
            {"width": 16, "levels": 3, "code": 4, "up": "transposed"},
            steps=300,
            seed=11,
        ),
        Inpainter(
            "autoencoder_16",
            "auto-encoder, 16 numbers for each 8×8 pixels",
            Approach.RECONSTRUCT,
            "autoencoder",
            {"width": 16, "levels": 3, "code": 16, "up": "nearest"},
            steps=300,
            seed=12,
        ),
        Inpainter(
            "autoencoder_fine",
            "auto-encoder, 6 numbers for each 4×4 pixels",
            Approach.RECONSTRUCT,
            "autoencoder",
            {"width": 16, "levels": 2, "code": 6, "up": "shuffle"},
            steps=300,
            seed=13,
        ),
        Inpainter(
            "gan_transposed",
            "adversarial, a plane alone, transposed convolutions, hinge loss",
            Approach.ADVERSARIAL,
            "generator",
            {"width": 16, "up": "transposed"},
            lesions=True,
            seed=21,
        ),
        Inpainter(
            "gan_nearest",
            "adversarial, a plane alone, nearest neighbours and convolution, least squares",
            Approach.ADVERSARIAL,
            "generator",
            {"width": 16, "up": "nearest"},
            critic="least_squares",
            push=0.15,
            lesions=True,
            steps=500,
            seed=22,
        ),
        Inpainter(
            "gan_shuffle",
            "adversarial, a plane alone, pixel shuffle, cross-entropy",
            Approach.ADVERSARIAL,
            "generator",
            {"width": 16, "up": "shuffle"},
            critic="cross_entropy",
            push=0.12,
            lesions=True,
            steps=500,
            seed=23,
        ),
        Inpainter(
            "gan_slab",
            "adversarial, three planes at once (2.5D), bilinear, hinge loss",
            Approach.ADVERSARIAL,
            "generator",
            {"width": 16, "planes": 3, "up": "bilinear"},
            planes=3,
            push=0.08,
            lesions=True,
            seed=24,
        ),
        Inpainter(
            "gan_volume",
            "adversarial, all planes at once (3D), nearest neighbours, least squares",
            Approach.ADVERSARIAL,
            "volume_generator",
            {"width": 12},
            planes=0,
            critic="least_squares",
            push=0.2,
            lesions=True,
            steps=500,
            batch=4,
            seed=25,
        ),
        Inpainter(
            "partial",
            "partial convolutions, a plane alone, no adversary",
            Approach.PARTIAL,
            "partial",
            {"width": 16},
            seed=31,
        ),
        Inpainter(
            "diffusion",
            "a small denoiser, a plane alone, asked 12 times",
            Approach.DIFFUSE,
            "denoiser",
            {"width": 20},
            lesions=True,
            steps=1400,
            seed=41,
        ),
    )
}


def inpainter(name: str) -> Inpainter:
    """The inpainter of this name; raises UnknownInpainter with the names that there are."""
    if name not in INPAINTERS:
        raise UnknownInpainter(f"inpainter {name!r} is not known; known: {', '.join(INPAINTERS)}")
    return INPAINTERS[name]
