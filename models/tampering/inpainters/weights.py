"""Where trained inpainters lie, and how one is loaded: half precision, safetensors, never pickle, never committed."""

import json
from functools import lru_cache
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from models.errors import MissingInpainter, WeightsMismatch
from models.tampering.inpainters import networks, weights_file
from models.tampering.inpainters.catalogue import Inpainter, inpainter


def load(name: str) -> nn.Module:
    """The trained network. Raises MissingInpainter when its weights are absent, WeightsMismatch when they misfit."""
    kind = inpainter(name)
    path = weights_file(name)
    if not path.is_file():
        raise MissingInpainter(
            f"the weights of inpainter {name} are absent: {path}. They are trained on images that may not be shipped: "
            f"run `scanwarden inpainters train {name} --data DATA`, or point SCANWARDEN_INPAINTERS to where they are"
        )
    return _loaded(kind.name, path, path.stat().st_mtime_ns)


@lru_cache(maxsize=16)
def _loaded(name: str, path: Path, _changed: int) -> nn.Module:
    kind = inpainter(name)
    network = networks.build(kind.network, **kind.arguments)
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118  a file is no mapping
        network.load_state_dict(tensors)
    except (RuntimeError, SafetensorError) as fault:
        raise WeightsMismatch(
            f"{path} does not fit the inpainter {name}; remove it and run `scanwarden inpainters train {name}`"
        ) from fault
    return network.eval().requires_grad_(requires_grad=False)


def save(kind: Inpainter, tensors: dict[str, Tensor], steps: int, into: Path) -> Path:
    """Write weights in half precision, under another name first."""
    into.mkdir(parents=True, exist_ok=True)
    path = into / f"{kind.name}.safetensors"
    about = {"inpainter": kind.name, "steps": str(steps), "arguments": json.dumps(kind.arguments, sort_keys=True)}
    halves = {key: value.detach().to(torch.float16).contiguous() for key, value in tensors.items()}
    partial = path.with_suffix(".partial")
    save_file(halves, partial, metadata=about)
    partial.replace(path)
    return path
