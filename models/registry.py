"""Which models there are, and how one is loaded: card first, digest next, weights last (safetensors, never pickle)."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load as parse_weights
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from models import inputs, networks, tiles
from models.card import EDITS, ModelCard
from models.errors import UnknownModel, WeightsMismatch
from models.images.card import TASK as WHOLE_IMAGES
from models.images.card import ImageModelCard

AnyCard = TypeVar("AnyCard", ModelCard, ImageModelCard)
SHIPPED = Path(__file__).resolve().parent
_PIXELS_AT_ONCE = 16 * 256 * 256  # bounds the memory of a forward pass, whatever the matrix
_UNSEEN = -20.0  # logit of pixels that no square showed: air


class _Answer(NamedTuple):
    """What a network said of some images: edit logits, shares of edit types, an image logit each, densities."""

    edit: NDArray[np.float32]
    types: NDArray[np.float32]
    image: NDArray[np.float32]
    density: NDArray[np.float32] | None

    @classmethod
    def of(cls, parts: "Sequence[_Answer]") -> "_Answer":
        """The answers about several batches as one."""
        dense = [part.density for part in parts if part.density is not None]
        edit, types, image = (np.concatenate([part[place] for part in parts]) for place in range(3))
        return cls(edit, types, image, np.concatenate(dense) if dense else None)


@dataclass(frozen=True)
class SlicePredictions:
    """What a network says of a volume.

    `edit`: probability that a pixel was edited, (slices, rows, columns). `image_logit`: (slices,), uncalibrated; the
    card turns it into probabilities. `edit_type`: (slices, types, rows, columns), shares of `card.edit_types` that sum
    to 1, meaningful only where `edit` is high. `density` (slices, rows, columns) is models.density's map of how much of
    each pixel's surroundings was edited; None of a network without one.
    """

    edit: NDArray[np.float32]
    image_logit: NDArray[np.float32]
    edit_type: NDArray[np.float32]
    density: NDArray[np.float16] | None = None


class LoadedModel:
    """A network with its verified weights, ready on a device."""

    def __init__(self, card: ModelCard, network: nn.Module, device: str) -> None:
        self.card = card
        self.device = torch.device(device)
        self._network = network.eval().to(self.device).to(memory_format=torch.channels_last)

    def predict(
        self,
        volume: NDArray[np.float32],
        spacing: tuple[float, float, float] | None = None,  # noqa: ARG002  networks to come use it
        *,
        batch: int = 8,
        only: Sequence[int] | None = None,
    ) -> SlicePredictions:
        """Look at every slice of a volume in rescaled units, (slices, rows, columns) in order of position.

        `spacing` is (slices, rows, columns) in mm, None where unknown. `batch` slices go through the network at once,
        fewer where the matrix is large. `only` these slices are looked at, and returned. Raises UnusableVolume when the
        matrix is outside what the card covers.
        """
        whole = inputs.as_volume(volume)
        rows, columns = whole.shape[1:]
        self.card.require(rows, columns)
        wanted = list(range(len(whole)) if only is None else only)
        count = len(wanted)
        edit = np.empty((count, rows, columns), dtype=np.float32)
        edit_type = np.empty((count, len(self.card.edit_types), rows, columns), dtype=np.float32)
        image = np.empty(count, dtype=np.float32)
        density: NDArray[np.float16] | None = None
        intensity = inputs.intensity_range(whole)
        answers = self._in_tiles if self.card.tile else self._as_wholes
        for place, answer in answers(whole, wanted, intensity, batch):
            edit[place] = torch.from_numpy(answer.edit[..., :rows, :columns]).sigmoid().numpy()
            edit_type[place] = answer.types[..., :rows, :columns]
            image[place] = answer.image
            if answer.density is not None:
                density = np.empty(edit.shape, dtype=np.float16) if density is None else density
                density[place] = answer.density[..., :rows, :columns]
        return SlicePredictions(edit=edit, image_logit=image, edit_type=edit_type, density=density)

    def _as_wholes(
        self, volume: inputs.FloatArray, wanted: Sequence[int], intensity: tuple[float, float], batch: int
    ) -> Iterator[tuple[slice, _Answer]]:
        for chosen in _batches(len(wanted), max(1, min(batch, _PIXELS_AT_ONCE // volume[0].size))):
            channels = inputs.channels(volume, [wanted[place] for place in chosen], intensity=intensity)
            yield slice(chosen.start, chosen.stop), self._forward(channels)

    def _in_tiles(
        self, volume: inputs.FloatArray, wanted: Sequence[int], intensity: tuple[float, float], batch: int
    ) -> Iterator[tuple[slice, _Answer]]:
        """A slice is as likely edited as the likeliest of its squares."""
        size = int(self.card.tile or 0)
        shape = volume.shape[1], volume.shape[2]
        at_once = max(1, min(16 * batch, _PIXELS_AT_ONCE // size**2))
        for place, index in enumerate(wanted):
            made = tiles.of_slice(volume, index, size, intensity)
            parts = [np.stack([made[each].channels for each in few]) for few in _batches(len(made), at_once)]
            said = _Answer.of([self._forward(part) for part in parts])
            joined = _Answer(
                edit=tiles.joined(made, said.edit, shape, _UNSEEN)[np.newaxis],
                types=tiles.joined(made, said.types, shape, 1 / len(self.card.edit_types))[np.newaxis],
                image=said.image.max(keepdims=True),
                density=None if said.density is None else tiles.joined(made, said.density, shape, 0.0)[np.newaxis],
            )
            yield slice(place, place + 1), joined

    @torch.inference_mode()
    def _forward(self, channels: NDArray[np.float32]) -> _Answer:
        """Ask the network; where its matrix has to be padded, so are the maps of the answer."""
        down, across = inputs.padding(*channels.shape[2:])
        tensor = torch.from_numpy(channels).to(self.device)
        if down or across:
            tensor = functional.pad(tensor, (0, across, 0, down), mode="replicate")
        output = self._network(tensor.contiguous(memory_format=torch.channels_last))
        types = output.edit_type.softmax(dim=1)
        edit, types, image = (each.cpu().numpy() for each in (output.edit, types, output.image))
        return _Answer(edit, types, image, None if output.density is None else output.density.cpu().numpy())


def available(folder: Path = SHIPPED) -> list[ModelCard]:
    """The cards of edit networks in `folder`/cards, by name."""
    return [ModelCard.read(path) for path in _cards(folder) if _task(path) != WHOLE_IMAGES]


def available_image_models(folder: Path = SHIPPED) -> list[ImageModelCard]:
    """The cards of whole-image networks in `folder`/cards, by name."""
    return [ImageModelCard.read(path) for path in _cards(folder) if _task(path) == WHOLE_IMAGES]


def _cards(folder: Path) -> list[Path]:
    return sorted((folder / "cards").glob("*.json"))


def _task(path: Path) -> str:
    return str(json.loads(path.read_text(encoding="utf-8")).get("task", ""))


def load(name: str, device: str = "cpu", *, folder: Path = SHIPPED) -> LoadedModel:
    """A model by its card's name.

    Raises UnknownModel when there is no such card or its weights are absent, WeightsMismatch when the SHA-256 of the
    weights is not the card's or the weights do not fit the network that the card names.
    """
    card, network = load_verified(name, folder, ModelCard)
    if card.task != EDITS:
        raise UnknownModel(f"model {name!r} marks no pixels, its task is {card.task}; see `scanwarden models list`")
    return LoadedModel(card, network, device)


def load_verified(name: str, folder: Path, kind: type[AnyCard]) -> tuple[AnyCard, nn.Module]:
    """The card and its network with the weights that the card was measured with; raises what `load` raises."""
    card, content = _verified(name, folder, kind)
    network = networks.build(card.network, **card.arguments)
    try:
        network.load_state_dict(parse_weights(content))
    except RuntimeError as fault:
        raise WeightsMismatch(f"weights of {name} do not fit the network {card.network}: {fault}") from fault
    return card, network


def verify(name: str, *, folder: Path = SHIPPED) -> None:
    """Raise what `load` raises for weights that are absent or are not those of the card, without loading them."""
    if name in {card.name for card in available_image_models(folder)}:
        _verified(name, folder, ImageModelCard)
    else:
        _verified(name, folder, ModelCard)


def _verified(name: str, folder: Path, kind: type[AnyCard]) -> tuple[AnyCard, bytes]:
    """The card, and the weights that were hashed: parsed from the same bytes, no second look at a changed file."""
    cards = available(folder) if kind is ModelCard else available_image_models(folder)
    card = next((card for card in cards if card.name == name), None)
    weights_path = folder / "weights" / f"{name}.safetensors"
    if not isinstance(card, kind) or not weights_path.is_file():
        known = ", ".join(card.name for card in cards) or "none"
        what = "model" if kind is ModelCard else "whole-image model"
        raise UnknownModel(
            f"{what} {name!r} has no card and weights here (known: {known}); see `scanwarden models list`"
        )
    content = weights_path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != card.digest:
        raise WeightsMismatch(
            f"weights of {name}: SHA-256 {found[:16]}… is not the card's {card.digest[:16]}…; install the release again"
        )
    return card, content


def publish(network: nn.Module, card: AnyCard, folder: Path = SHIPPED) -> AnyCard:
    """Write weights and card into `folder`; returns the card with the digest of what was written."""
    for part in ("weights", "cards"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    path = folder / "weights" / f"{card.name}.safetensors"
    tensors = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
    save_file(tensors, path)
    written = card.model_copy(update={"digest": hashlib.sha256(path.read_bytes()).hexdigest()})
    written.write(folder / "cards" / f"{card.name}.json")
    return written


def _batches(count: int, size: int) -> Iterator[range]:
    for first in range(0, count, size):
        yield range(first, min(count, first + size))
