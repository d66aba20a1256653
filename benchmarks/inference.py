"""Slices of 256×256 through both edit networks, beside torchvision's stock Mask R-CNN at the same size, on two cores.

`python -m benchmarks.inference [--json] [--quick] [--threads N]`. The peer is `maskrcnn_resnet50_fpn` as torchvision
ships it, but for its size: it may not enlarge the slice. Rounds alternate between us and the peer, the figures are
medians; beside the time of the wall stands the time that the processor was busy, by which a machine with other work is
fairly measured. How long a Mask R-CNN takes depends on what it finds: both are measured with nothing found and with
sixteen instances, masks included. The U-Net is asked in squares where its card says so. Weights do not change the
time: what is found is set by hand, all else is random in the peer, and in ours where no weights ship. Memory is that of
a process of its own that looks at 16 slices of 256×256 and of 512×512. Where a GPU is visible, slices a second in
batches of 1 and 32 as well.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, cast

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torchvision.models.detection import maskrcnn_resnet50_fpn

from models import inputs, instance_training, networks, registry, tiles
from models.card import INSTANCES, ModelCard
from models.networks.maskrcnn import EditMaskRCNN

MATRIX, MOST = 256, 16
TARGET_SECONDS, TARGET_TIMES, TARGET_BYTES, TARGET_FILE, TARGET_FILES = 0.12, 8.0, 2e9, 20e6, 45e6
PEER = "stock maskrcnn_resnet50_fpn"
INJECTED = torch.tensor([[40.0, 40, 80, 80], [120, 60, 150, 90], [90, 150, 130, 180]])

Call = Callable[[], Any]


def shipped_unet() -> ModelCard | None:
    return next((card for card in registry.available() if card.network.startswith("edit_unet")), None)


def unet() -> nn.Module:
    """The shipped U-Net, or one with random weights where none is shipped."""
    card = shipped_unet()
    if card is None:
        return networks.build("edit_unet_density", channels=len(inputs.CHANNELS)).eval()
    return registry.load_verified(card.name, registry.SHIPPED, ModelCard)[1].eval()


def maskrcnn(*, finds: bool) -> EditMaskRCNN:
    """Our Mask R-CNN in the size that is trained; it finds `MOST` instances, or nothing."""
    shipped = next((card for card in registry.available() if card.task == INSTANCES), None)
    arguments = shipped.arguments if shipped else instance_training.ARGUMENTS
    network = networks.build(instance_training.NETWORK, **arguments).eval()
    assert isinstance(network, EditMaskRCNN)
    # The bias alone decides how much is found, and boxes that overlap may all stay.
    heads = network.roi_heads.box_predictor
    heads.lesion.weight.data.zero_()
    heads.edited.weight.data.zero_()
    heads.lesion.bias.data.fill_(3.0 if finds else -9.0)
    heads.edited.bias.data.fill_(-9.0)
    network.roi_heads.nms_thresh = 1.0
    return network


def stock(*, finds: bool) -> nn.Module:
    """The peer, at our size and with as many instances."""
    torch.manual_seed(0)
    network = maskrcnn_resnet50_fpn(
        weights=None,
        weights_backbone=None,
        min_size=MATRIX,
        max_size=MATRIX,
        box_detections_per_img=MOST,
    )
    heads = network.roi_heads.box_predictor
    heads.cls_score.weight.data.zero_()
    heads.cls_score.bias.data[1 if finds else 0] = 20.0
    heads.bbox_pred.weight.data.zero_()
    network.roi_heads.nms_thresh = 1.0
    return cast("nn.Module", network.eval())


def channels(slices: int, device: str = "cpu") -> Tensor:
    """Slices as our networks see them."""
    torch.manual_seed(1)
    made = torch.rand(slices, len(inputs.CHANNELS), MATRIX, MATRIX, device=device)
    return made.contiguous(memory_format=torch.channels_last)


def squares(slices: int, device: str = "cpu") -> Tensor:
    """Slices as the U-Net is asked about them: in squares where its card says so, of tissue everywhere."""
    card = shipped_unet()
    if card is None or card.tile is None:
        return channels(slices, device)
    size = min(card.tile, MATRIX)
    cut = [
        channels(slices, device)[..., row : row + size, column : column + size]
        for row in tiles.starts(MATRIX, size)
        for column in tiles.starts(MATRIX, size)
    ]
    return torch.cat(cut).contiguous(memory_format=torch.channels_last)


@torch.inference_mode()
def timed(calls: dict[str, Call], rounds: int) -> dict[str, tuple[float, float]]:
    """Median seconds of wall and of processor of each call, the calls taking turns."""
    wall: dict[str, list[float]] = {name: [] for name in calls}
    busy: dict[str, list[float]] = {name: [] for name in calls}
    for count in range(rounds + 1):
        for name, call in calls.items():
            began = time.perf_counter(), time.process_time()
            call()
            if count:  # the first warms up
                wall[name].append(time.perf_counter() - began[0])
                busy[name].append(time.process_time() - began[1])
    return {name: (statistics.median(wall[name]), statistics.median(busy[name])) for name in calls}


def calls(device: str = "cpu", slices: int = 1, *, finds: bool) -> dict[str, Call]:
    """What is measured: our two networks, and the peer, each on as many slices at once."""
    first, second, peer = (network.to(device) for network in (unet(), maskrcnn(finds=finds), stock(finds=finds)))
    first, second = (network.to(memory_format=torch.channels_last) for network in (first, second))
    seen, parts, plain = (
        channels(slices, device),
        squares(slices, device),
        list(torch.rand(slices, 3, MATRIX, MATRIX, device=device)),
    )
    injected = [INJECTED.to(device)] * slices

    def with_end(call: Call) -> Call:
        def ended() -> None:
            call()
            if device == "cuda":
                torch.cuda.synchronize()

        return ended

    return {
        "U-Net": with_end(lambda: first(parts)),
        "Mask R-CNN": with_end(lambda: second(seen, injected)),
        PEER: with_end(lambda: peer(plain)),
    }


def row(case: str, ours: float, peer: str, value: float, unit: str) -> dict[str, Any]:
    return {
        "case": case,
        "ours": round(ours, 4),
        "peer": peer,
        "peer_value": round(value, 4),
        "ratio": round(ours / value, 3),
        "unit": unit,
    }


def speed(found: dict[str, tuple[float, float]], words: str, slices: int = 1) -> list[dict[str, Any]]:
    """Slices a second of each network and of both, beside the peer."""
    rows = []
    for place, kind in ((0, "wall"), (1, "processor")):
        peer = slices / found[PEER][place]
        first, second = (found[name][place] for name in ("U-Net", "Mask R-CNN"))
        for name, seconds in (("U-Net", first), ("Mask R-CNN", second), ("both networks", first + second)):
            rows.append(row(f"{name}, {words}, {kind}", slices / seconds, PEER, peer, "slices/s"))
    return rows


def rows_of(rounds: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for finds, words in ((False, "nothing found"), (True, f"{MOST} instances")):
        found = timed(calls(finds=finds), rounds)
        together = found["U-Net"][0] + found["Mask R-CNN"][0]
        rows.append(row(f"both networks, a slice, {words}", together, "target", TARGET_SECONDS, "s"))
        rows += speed(found, words)
        times = [sum(found[name][kind] for name in ("U-Net", "Mask R-CNN")) for kind in (0, 1)]
        for kind, ours, word in zip((0, 1), times, ("wall", "processor"), strict=True):
            rows.append(
                row(f"times as fast as the stock model, {words}, {word}", found[PEER][kind] / ours, "target",
                    TARGET_TIMES, "×")
            )  # fmt: skip
    sizes = {"U-Net": bytes_of(unet()), "Mask R-CNN": bytes_of(maskrcnn(finds=False))}
    for name, size in sizes.items():
        rows.append(row(f"weights of the {name}", size / 1e6, "target", TARGET_FILE / 1e6, "MB"))
    rows.append(row("weights of both", sum(sizes.values()) / 1e6, "target", TARGET_FILES / 1e6, "MB"))
    rows.append(row("memory at its peak, resident", memory() / 1e9, "target", TARGET_BYTES / 1e9, "GB"))
    if torch.cuda.is_available():
        torch.backends.cudnn.benchmark = True
        for slices in (1, 32):
            found = timed(calls("cuda", slices, finds=True), rounds)
            rows += speed(found, f"GPU, {MOST} instances, batch of {slices}", slices)[:3]
    return rows


def bytes_of(network: nn.Module) -> int:
    return sum(value.numel() * value.element_size() for value in network.state_dict().values())


def memory() -> int:
    """The most that a process took that looked at small and at large slices with both networks, and at nothing else."""
    command = [sys.executable, "-m", "benchmarks.inference", "--child"]
    return int(subprocess.run(command, capture_output=True, check=True, text=True).stdout.split()[-1])


@torch.inference_mode()
def child() -> None:
    import numpy as np

    from models.instance_model import InstanceModel
    from models.registry import LoadedModel

    about = {"version": "0", "network": "none", "arguments": {}, "digest": "0" * 64, "licence": "none"}
    pixels = LoadedModel(ModelCard(name="u", tile=getattr(shipped_unet(), "tile", None), **about), unet(), "cpu")
    instances = InstanceModel(ModelCard(name="m", task=INSTANCES, **about), maskrcnn(finds=True), "cpu")
    for matrix in (256, 512):
        volume = np.random.default_rng(1).gamma(2, 50, (16, matrix, matrix)).astype(np.float32)
        pixels.predict(volume)
        instances.predict(volume)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--quick", action="store_true", help="three rounds instead of fifteen")
    parser.add_argument("--threads", type=int, default=2, help="of the processor; 2 is what the target speaks of")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    if chosen.child:
        child()
        return
    rows = rows_of(3 if chosen.quick else 15)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, {chosen.threads} threads, load {os.getloadavg()[0]:.1f}"
    if chosen.json:
        print(json.dumps({"name": "inference", "machine": machine, "rows": rows}, indent=2))
        return
    table = Table("case", "ours", "peer", "peer's", "ratio", "unit", title=f"A slice of {MATRIX}×{MATRIX} ({machine})")
    for each in rows:
        table.add_row(*(str(each[key]) for key in ("case", "ours", "peer", "peer_value", "ratio", "unit")))
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
