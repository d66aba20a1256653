"""Arguments that make each kind of generator small enough for a test."""

from typing import Any

TINY: dict[str, dict[str, Any]] = {
    "autoencoder": {"adversarial_from": 1, "width": 8, "channels": 4, "crop": 32, "batch": 2},
    "vq": {"width": 8, "channels": 4, "codes": 16, "crop": 32, "batch": 2},
    "translation": {"adversarial_from": 1, "width": 8, "channels": 8, "crop": 32, "batch": 2},
    "vae": {"size": 32, "crop": 32, "channels": 4, "width": 4, "batch": 4},
    "gan_nearest": {"size": 32, "crop": 32, "channels": 4, "width": 4, "batch": 4, "adversarial_from": 1},
    "gan_transposed": {"size": 32, "crop": 32, "channels": 4, "width": 4, "batch": 4, "adversarial_from": 1},
    "gan_pixelshuffle": {"size": 32, "crop": 32, "channels": 4, "width": 4, "batch": 4, "adversarial_from": 1},
    "diffusion": {"size": 32, "width": 8, "batch": 3, "whole_from": 1},
}
