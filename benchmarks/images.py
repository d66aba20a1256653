"""Time of whole-image networks for one image on two cores, beside torchvision's stock resnet18; at most 1.2 × its time.

`python -m benchmarks.images [--json] [--quick]`. Ours is all that happens to an image of stored integers: what the
network sees is made of it, the network asked, the organ named. The peer is a bare forward pass of resnet18 on a tensor
of the same size. Both take turns in one process; milliseconds are medians. A large image is seen by a bounded number of
tiles: its time is held against that of 256×256. Weights are held against 12 MB. Time does not hang on what the weights
say, so a network that is not shipped is measured untrained.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import cv2
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torchvision.models import resnet18

from models import networks, registry
from models.images import inputs
from models.images.card import ImageModelCard
from models.images.registry import LoadedImageModel, load_image_model

NETWORKS = ("organ_resnet", "organ_attention")
CORES = 2
TARGET_MS, TARGET_RATIO, TARGET_MB = 25.0, 1.2, 12.0
SIDES = (256, 512, 6000)


def model_of(network: str) -> LoadedImageModel:
    """The shipped model with this network, or an untrained one."""
    for card in registry.available_image_models():
        if card.network == network:
            return load_image_model(card.name)
    arguments = {"channels": len(inputs.CHANNELS)}
    card = ImageModelCard(
        name=network, version="0", network=network, arguments=arguments, digest="0" * 64, licence="untrained"
    )
    return LoadedImageModel(card, networks.build(network, **arguments))


def megabytes(network: str) -> float:
    """The weights as 32-bit numbers."""
    return sum(each.numel() for each in networks.build(network, channels=len(inputs.CHANNELS)).parameters()) * 4 / 1e6


def medians(calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Milliseconds of each call; they take turns, so that what else the machine does weighs on all alike."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for round_ in range(rounds + 2):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            if round_ > 1:
                taken[name].append(1000 * (time.perf_counter() - started))
    return {name: statistics.median(values) for name, values in taken.items()}


def rows_of(rounds: int) -> list[dict[str, Any]]:
    """Rows of milliseconds and megabytes."""
    torch.set_num_threads(CORES)
    cv2.setNumThreads(CORES)
    rng = np.random.default_rng(1)
    stock = resnet18().eval()
    models = {name: model_of(name) for name in NETWORKS}
    rows: list[dict[str, Any]] = []

    def add(case: str, ours: float, peer: str, value: float, unit: str) -> None:
        rows.append(
            {"case": case, "ours": round(ours, 2), "peer": peer, "peer_value": round(value, 2),
             "ratio": round(ours / value, 3), "unit": unit}
        )  # fmt: skip

    smallest: dict[str, float] = {}
    for side in SIDES:
        field = cv2.resize(rng.integers(0, 4096, (side // 4, side // 4)).astype(np.float32), (side, side))
        image = field.astype(np.uint16)
        calls: dict[str, Callable[[], Any]] = {name: partial(model.predict, [image]) for name, model in models.items()}
        if side <= 512:
            calls["resnet18"] = partial(_forward, stock, torch.rand(1, 3, side, side))
        found = medians(calls, rounds if side <= 512 else max(3, rounds // 4))
        for name in NETWORKS:
            if "resnet18" in found:
                add(f"{name}, {side}×{side}", found[name], "resnet18", found["resnet18"], "ms")
            else:
                add(f"{name}, {side}×{side}", found[name], "itself, 256×256", smallest[name], "ms")
            smallest.setdefault(name, found[name])
    for name in NETWORKS:
        add(f"{name}, weights", megabytes(name), "limit", TARGET_MB, "MB")
    return rows


@torch.inference_mode()
def _forward(network: torch.nn.Module, tensor: torch.Tensor) -> Any:
    return network(tensor)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--quick", action="store_true", help="few rounds")
    chosen = parser.parse_args()
    rows = rows_of(5 if chosen.quick else 41)
    if chosen.json:
        print(json.dumps({"name": "images", "machine": platform.platform(), "rows": rows}))
        return
    title = f"One image on {CORES} cores (targets {TARGET_MS:g} ms and {TARGET_RATIO:g} of resnet18 at 256×256)"
    table = Table("case", "ours", "peer", "peer's", "ratio", "unit", title=title)
    for row in rows:
        table.add_row(*(str(row[key]) for key in ("case", "ours", "peer", "peer_value", "ratio", "unit")))
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
