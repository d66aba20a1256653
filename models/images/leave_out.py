"""Networks that were trained without one kind of generator, asked about that kind: what an unknown one would meet.

Such a network lies in RUNS/NAME-without-KIND, as published (`cards/`, `weights/`) or as its training run left it
(`weights.safetensors`); then the card of NAME stands in, and only what needs no calibration is its own: AUC and
sensitivity at a rate of false alarms.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from models import registry
from models.fitting import WEIGHTS, trained
from models.images import measures, subjects, trials
from models.images.card import ImageModelCard
from models.images.evaluation import Images
from models.images.measures import Figures
from models.images.prediction import ImageModel
from models.images.registry import LoadedImageModel, load_image_model
from models.images.treatments import UNTREATED
from models.reports.plain import plain, read_json, write_json

WAYS: Final = {"clean": UNTREATED, "JPEG 80": "JPEG 80"}
_FILE = "left-out.json"
_GENUINE = 50  # images of each organ


def folder_of(name: str, kind: str, runs: Path) -> Path:
    return runs / f"{name}-without-{kind}"


def missing(name: str, kinds: Sequence[str], runs: Path) -> list[str]:
    """The kinds without which no network was trained yet."""
    return [kind for kind in kinds if not _weights(folder_of(name, kind, runs))]


def load(card: ImageModelCard, kind: str, runs: Path) -> ImageModel:
    """The network that was trained without `kind`, beside the one of this card.

    Raises what `load_image_model` raises, and FileNotFoundError when it is `missing`.
    """
    folder = folder_of(card.name, kind, runs)
    published = registry.available_image_models(folder)
    if published:
        return load_image_model(published[0].name, folder=folder)
    return LoadedImageModel(card, trained(card.network, card.arguments, folder))


def measure(model: ImageModel, kind: str, images: Images, seed: int, *, quiet: bool = True) -> Figures:
    """`separation` of this kind's images from genuine ones, also after JPEG 80: made alike, and as they came."""
    made = [subject for subject in images.synthetic if subject.kind == kind]
    pairs = trials.pairs(made, images.known, seed)
    whole = [*made, *subjects.few(images.known, _GENUINE)]
    found = {}
    for name, way in WAYS.items():
        said = trials.ask_pairs(model, pairs, seed, way, quiet=quiet, what=f"without {kind}")
        found[name] = measures.separation(said, model.card)
        said = trials.ask(model, whole, way, seed=seed, quiet=quiet, what=f"without {kind}, as they came")
        found[f"{name}, as they came"] = measures.separation(said, model.card)
    return found


def figures(card: ImageModelCard, images: Images, runs: Path, seed: int, *, quiet: bool = True) -> dict[str, Figures]:
    """What every network that was trained without a kind says of it; measured once for each state of its weights."""
    found = {}
    kinds = sorted({subject.kind for subject in images.synthetic})
    for kind in kinds:
        if missing(card.name, [kind], runs):
            continue
        path = folder_of(card.name, kind, runs) / _FILE
        state = _state(card, folder_of(card.name, kind, runs), seed, images, kind)
        kept = read_json(path) if path.is_file() else {}
        if kept.get("state") != state:
            measured = measure(load(card, kind, runs), kind, images, seed, quiet=quiet)
            kept = plain({"state": state, "kind": kind, "figures": measured})
            write_json(kept, path)
        found[kind] = kept["figures"]
    return found


def _weights(folder: Path) -> list[Path]:
    return sorted((folder / "weights").glob("*.safetensors")) or sorted(folder.glob(WEIGHTS))


def _state(card: ImageModelCard, folder: Path, seed: int, images: Images, kind: str) -> str:
    """A digest of all that the figures hang on: weights, cards, images, seed."""
    state = hashlib.sha256(f"{seed} {kind} {card.image_calibration} {card.thresholds}".encode())
    for path in (*_weights(folder), *sorted((folder / "cards").glob("*.json"))):
        state.update(path.read_bytes())
    for subject in (*images.known, *(subject for subject in images.synthetic if subject.kind == kind)):
        state.update(subject.key.encode())
        state.update(subject.pixels.tobytes())
    return state.hexdigest()
