"""What looks at a volume: one small protocol, and the adapter that makes a detector of a model of the registry."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from inference import coverage
from inference.coverage import Coverage
from inference.errors import DeviceUnavailable, InferenceError
from inference.findings import FindingClass, ModelUsed
from inference.volume import Stack, Volume
from models.card import ModelCard

if TYPE_CHECKING:
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
    """

    edit: NDArray[np.float32]
    logits: NDArray[np.float32]
    classes: NDArray[np.uint8]


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


class RegistryDetector:
    """A model of `models.registry` as a detector."""

    def __init__(self, model: "LoadedModel") -> None:
        self._model = model

    @property
    def card(self) -> ModelCard:
        return self._model.card

    def covers(self, stack: Stack) -> Coverage:
        return coverage.by_header(self.card, stack)

    def recognises(self, volume: Volume) -> Coverage:
        from models import inputs

        return Coverage(tuple(self.card.outside_domain(inputs.domain(volume.voxels, volume.spacing))))

    def detect(self, volume: Volume, *, batch: int) -> Detection:
        predictions = self._model.predict(volume.voxels, volume.spacing, batch=batch)
        codes = np.array([_CLASS_OF_TYPE[name].code for name in self.card.edit_types], np.uint8)
        classes = np.empty(predictions.edit.shape, np.uint8)
        for place, shares in enumerate(predictions.edit_type):  # a slice at a time: argmax makes 8 bytes a pixel
            classes[place] = codes[shares.argmax(axis=0)]
        return Detection(predictions.edit, predictions.image_logit, classes)


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
def _loaded(name: str, device: str) -> RegistryDetector:
    from models import registry

    return RegistryDetector(registry.load(name, device))


def used(detector: Detector) -> ModelUsed:
    """How an analysis names its detector."""
    return ModelUsed(detector.card.name, detector.card.version, detector.card.digest)


def check(detection: Detection, volume: Volume) -> Detection:
    """Refuse an answer that does not fit the question.

    Raises InferenceError when shapes differ from the volume's or a value is no number.
    """
    fits = detection.edit.shape == detection.classes.shape == volume.source_shape
    if not fits or detection.logits.shape != (len(volume.voxels),):
        raise InferenceError(f"a detector answered {detection.edit.shape} to a volume of {volume.source_shape}")
    if not (np.isfinite(detection.logits).all() and np.isfinite(detection.edit).all()):
        raise InferenceError("a detector answered with values that are no numbers")
    return detection
