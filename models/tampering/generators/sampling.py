"""Fills a folder with synthetic images of every kind that is trained: KIND/SOURCE/SPLIT/*.png and one index.

Each is made from genuine images of one split, names the patient of the first of them, and stays in that split. Where
two instances of a kind were trained, the second makes those of the test split, so that a classifier is never tested on
the instance that it learned from. Every image gets the distribution of grey values of its original, so that no
histogram and no level of the background tells the made from the genuine.
"""

import csv
import fcntl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from models.errors import MissingData
from models.images.organs import KNOWN
from models.images.synthetic import FIELDS, INDEX
from models.splits import Split
from models.tampering.generators.base import Generator
from models.tampering.generators.kinds import KINDS, kind_of
from models.tampering.generators.material import SOURCES, Example, grey, scaled, specified, squared
from models.tampering.generators.native import Translation
from models.tampering.generators.training import load

_AT_ONCE = 50  # blends are of neighbours among so many
_LARGE = 400  # of larger ones every second is halved before it is made anew: two resolutions, and less time


@dataclass(frozen=True)
class Instance:
    """A trained generator: where its weights are, and its seed."""

    kind: str
    seed: int
    path: Path

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.seed}"


def instances(folder: Path) -> dict[str, list[Instance]]:
    """What is trained in `folder`, by kind, in order of seed."""
    found: dict[str, list[Instance]] = {}
    for kind in KINDS:
        for path in folder.glob(f"{kind}-*/generator.safetensors"):
            seed = path.parent.name.removeprefix(f"{kind}-")
            if seed.isdecimal():
                found.setdefault(kind, []).append(Instance(kind, int(seed), path))
    return {kind: sorted(each, key=lambda one: one.seed) for kind, each in found.items()}


def sample(
    kind: str, trained: Path, output: Path, examples: Sequence[Example], *, images: tuple[int, int, int] | None = None
) -> int:
    """Make the images of one kind, and put them into the index in place of earlier ones; returns how many.

    Raises UnknownKind, and MissingData when no instance of the kind is trained.
    """
    wanted = images or kind_of(kind).images
    known = instances(trained).get(kind, [])
    if not known:
        raise MissingData(f"no {kind} is trained in {trained}; train it with `scanwarden generators train {kind}`")
    torch.set_num_threads(1)
    rows: list[dict[str, str]] = []
    loaded: dict[int, Generator] = {}
    for number, source in enumerate(SOURCES):
        mine = [example for example in examples if example.image.source == source]
        if not mine:
            continue
        for place, split in enumerate(Split):
            instance = known[-1] if split is Split.TEST else known[0]
            if instance.seed not in loaded:
                loaded[instance.seed] = load(instance.path)[0]
            seed = instance.seed * 1009 + number * 31 + place
            made = _made(loaded[instance.seed], mine, split, wanted[place], seed)
            folder = Path(kind) / source / split.value
            (output / folder).mkdir(parents=True, exist_ok=True)
            for index, (pixels, patient) in enumerate(made):
                path = folder / f"{index:04d}.png"
                _write(output / path, pixels)
                rows.append(
                    {
                        "path": path.as_posix(),
                        "kind": kind,
                        "source": source,
                        "organ": mine[0].image.organ.value,
                        "split": split.value,
                        "patient": patient,
                        "instance": instance.name,
                        "seed": str(instance.seed),
                    }
                )
    _enter(output / INDEX, kind, rows)
    named = {output / row["path"] for row in rows}
    for path in (output / kind).glob("*/*/*.png"):
        if path not in named:
            path.unlink()
    return len(rows)


def _made(
    network: Generator, examples: Sequence[Example], split: Split, count: int, seed: int
) -> Iterator[tuple[NDArray[np.uint8], str]]:
    """Images and the patients that they were made from."""
    torch.manual_seed(seed)
    organ = KNOWN.index(examples[0].image.organ)
    chosen = originals(examples, split, count, seed, healthy=isinstance(network, Translation))
    if network.size:
        for start in range(0, len(chosen), _AT_ONCE):
            few = chosen[start : start + _AT_ONCE]
            pixels = np.stack([squared(grey(example.image.pixels), network.size) for example in few])
            for made, original, example in zip(remade(network, organ, pixels), pixels, few, strict=True):
                yield specified(made, original), example.image.patient
        return
    for index, example in enumerate(chosen):
        image = grey(example.image.pixels)
        if max(image.shape) > _LARGE and index % 2:
            image = np.asarray(cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), np.uint8)
        yield specified(remade(network, organ, image[np.newaxis])[0], image), example.image.patient


def originals(
    examples: Sequence[Example], split: Split, count: int, seed: int, *, healthy: bool = False
) -> list[Example]:
    """Genuine images of a split, spread evenly; those that are not known to be diseased, where `healthy`."""
    allowed = [example for example in examples if example.image.split is split]
    if healthy:
        allowed = [example for example in allowed if example.diseased is not True] or allowed
    order = np.random.default_rng(seed).permutation(len(allowed))[:count]
    return [allowed[index] for index in sorted(order)]


def remade(network: Generator, organ: int, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(n, rows, columns) of one organ made anew, in single precision: half of it would leave a trace of its own."""
    with torch.no_grad():
        made = network.make(torch.full((len(images),), organ), scaled(images))
    return np.asarray(made.squeeze(1).numpy(), dtype=np.float32)


def _write(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Under another name first: who reads meanwhile gets the earlier image or this one."""
    partial = path.with_suffix(".partial")
    partial.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
    partial.replace(path)


def _enter(index: Path, kind: str, rows: Sequence[dict[str, str]]) -> None:
    """Replace the rows of a kind; a reader never sees half an index, and two that sample wait for each other."""
    with index.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        kept: list[dict[str, str]] = []
        if index.is_file():
            with index.open(encoding="utf-8", newline="") as file:
                kept = [row for row in csv.DictReader(file) if row["kind"] != kind]
        partial = index.with_suffix(".partial")
        with partial.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, FIELDS)
            writer.writeheader()
            writer.writerows([*kept, *rows])
        partial.replace(index)
