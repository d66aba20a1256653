"""Small networks that fill a hole, with a lesion or without: what an attacker trains on a laptop.

Their weights are made by `scanwarden inpainters train` from the training patients and are never shipped.
"""

import os
from pathlib import Path


def folder() -> Path:
    """Where the weights are: SCANWARDEN_INPAINTERS, or runs/inpainters where the command runs."""
    return Path(os.environ.get("SCANWARDEN_INPAINTERS", "runs/inpainters"))


def weights_file(name: str) -> Path:
    return folder() / f"{name}.safetensors"


def weights_present(name: str) -> bool:
    """Whether this inpainter was trained here; asks the disk alone, no network is loaded."""
    return weights_file(name).is_file()
