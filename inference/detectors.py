"""What looks at a volume: one small protocol, and the adapter that makes a detector of a model of the registry."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol, runtime_checkable
from weakref import ReferenceType, ref

import numpy as np
from numpy.typing import NDArray

from inference import coverage
from inference.coverage import Coverage
from inference.errors import DeviceUnavailable, InferenceError
from inference.findings import FindingClass, ModelUsed
from inference.volume import Stack, Volume
from models.card import INSTANCES, ModelCard

if TYPE_CHECKING:
    from models.density import DensityBox
    from models.registry import LoadedModel

_CLASS_OF_TYPE = {
    "added": FindingClass.ADDED_TUMOUR,
    "removed": FindingClass.REMOVED_TUMOUR,
    "resynthesised": FindingClass.RESYNTHESISED,
}


@dataclass(frozen=True, eq=False)
class Detection:
    """What a detector sees, on the matrix of the volume.

    `edit` (slices, rows, columns) is the probability that a pixel was edited, `logits` (slices,) the uncalibrated
    answer for each slice, `classes` (slices, rows, columns) the `FindingClass.code` of each pixel if it was edited.
    `density` (slices, rows, columns) is models.density's map, where the model has one. `lesion` (slices, rows, columns)
    is the probability that a pixel belongs to a real tumour, of models that find instances: it says nothing about
    edits, and neither does an `edit` of 0 of such a model, which only looks at what it proposes.
    """

    edit: NDArray[np.float32]
    logits: NDArray[np.float32]
    classes: NDArray[np.uint8]
    density: NDArray[np.float16] | None = None
    lesion: NDArray[np.float32] | None = None


@runtime_checkable
class Detector(Protocol):
    """A model ready on its device; its card says what it is and what its answers are worth."""

    @property
    def card(self) -> ModelCard: ...

    def covers(self, stack: Stack) -> Coverage:
        """Whether headers and geometry are within the model's domain; asked before anything is decoded."""
        ...

    def recognises(self, volume: Volume) -> Coverage:
        """Whether the decoded images are like those that the model was measured on."""
        ...

    def detect(self, volume: Volume, *, batch: int) -> Detection: ...


class OfCard:
    """What a model's card says of stacks and volumes, whatever the model answers."""

    def __init__(self, card: ModelCard) -> None:
        self.card = card

    def covers(self, stack: Stack) -> Coverage:
        return coverage.by_header(self.card, stack)

    def recognises(self, volume: Volume) -> Coverage:
        from models import inputs

        return Coverage(tuple(self.card.outside_domain(inputs.domain(volume.voxels, volume.spacing))))


class RegistryDetector(OfCard):
    """A model of `models.registry` as a detector."""

    def __init__(self, model: "LoadedModel") -> None:
        super().__init__(model.card)
        self._model = model
        # What was just seen, for a detector of instances that asks about the same volume; held by who looks, not here.
        self._last: tuple[ReferenceType[Volume], ReferenceType[Detection]] | None = None

    def detect(self, volume: Volume, *, batch: int) -> Detection:
        predictions = self._model.predict(volume.voxels, volume.spacing, batch=batch)
        codes = np.array([_CLASS_OF_TYPE[name].code for name in self.card.edit_types], np.uint8)
        classes = np.empty(predictions.edit.shape, np.uint8)
        for place, shares in enumerate(predictions.edit_type):  # a slice at a time: argmax makes 8 bytes a pixel
            classes[place] = codes[shares.argmax(axis=0)]
        found = Detection(predictions.edit, predictions.image_logit, classes, predictions.density)
        self._last = ref(volume), ref(found)
        return found

    def proposals(self, volume: Volume, *, batch: int) -> "list[list[DensityBox]]":
        """Boxes of each slice where the density map is high: what a region proposal network has no eyes for."""
        from models import density

        found = self._seen(volume) or self.detect(volume, batch=batch)
        if found.density is not None:
            return [density.boxes(plane) for plane in found.density]
        return [density.boxes(density.of_probabilities(plane[np.newaxis])[0]) for plane in found.edit]

    def _seen(self, volume: Volume) -> Detection | None:
        if self._last is None or self._last[0]() is not volume:
            return None
        return self._last[1]()


def detectors_for(models: Sequence[str | Detector], *, device: str = "auto", threads: int = 0) -> tuple[Detector, ...]:
    """Detectors by registry name; ready ones pass through. Weights are verified and kept for the next study.

    Raises DeviceUnavailable when `device` is not here, and what `models.registry.load` raises.
    """
    chosen = None
    ready: list[Detector] = []
    for model in models:
        if not isinstance(model, str):
            ready.append(model)
            continue
        chosen = chosen or device_for(device)
        ready.append(_loaded(model, chosen))
    if chosen == "cpu" and threads > 0:
        import torch

        torch.set_num_threads(threads)
    return tuple(ready)


def device_for(device: str) -> str:
    """The device that `auto`, `cpu` or `cuda` means on this machine.

    Raises DeviceUnavailable when a GPU is asked for and there is none.
    """
    if device == "cpu":
        return device
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if device != "auto":
        raise DeviceUnavailable(
            f"analysis.device is {device!r}, and no CUDA device is visible here; set it to 'auto' or 'cpu', "
            "or start the service with access to the GPU"
        )
    return "cpu"


@lru_cache(maxsize=8)
def _loaded(name: str, device: str) -> Detector:
    """Two detectors of one name are one: what a detector of instances asks of the U-Net, it has just answered."""
    from models import registry

    card = next((card for card in registry.available() if card.name == name), None)
    if card is not None and card.task == INSTANCES:
        from inference.instance_detector import InstanceDetector
        from models import instance_model

        proposer = _loaded(card.proposals_from, device) if card.proposals_from is not None else None
        return InstanceDetector(
            instance_model.load(name, device), proposer if isinstance(proposer, RegistryDetector) else None
        )
    return RegistryDetector(registry.load(name, device))


def used(detector: Detector) -> ModelUsed:
    """How an analysis names its detector."""
    return ModelUsed(detector.card.name, detector.card.version, detector.card.digest)


def check(detection: Detection, volume: Volume) -> Detection:
    """Refuse an answer that does not fit the question.

    Raises InferenceError when shapes differ from the volume's or a value is no number.
    """
    maps = [part for part in (detection.density, detection.lesion) if part is not None]
    fits = all(part.shape == volume.source_shape for part in (detection.edit, detection.classes, *maps))
    if not fits or detection.logits.shape != (len(volume.voxels),):
        raise InferenceError(f"a detector answered {detection.edit.shape} to a volume of {volume.source_shape}")
    if not all(np.isfinite(part).all() for part in (detection.logits, detection.edit, *maps)):
        raise InferenceError("a detector answered with values that are no numbers")
    return detection
