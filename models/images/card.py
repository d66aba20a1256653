"""The card of a whole-image network: everything that inference may know of it."""

from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from models.card import Logistic
from models.images.organs import KNOWN, Organ

TASK: Final = "organ_synthesis"


class ImageThresholds(BaseModel):
    """Where a decision turns; calibrated probabilities of synthesis, of one image and of a whole series."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image: float = Field(default=0.5, gt=0, lt=1)
    review: float = Field(default=0.5, gt=0, lt=1)
    suspect: float = Field(default=0.9, gt=0, lt=1)
    organ: float = Field(default=0.8, gt=0, lt=1, description="least probability for an organ to be named")


class ImageModelCard(BaseModel):
    """Everything that is known about one set of weights of a whole-image network."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    version: str
    task: Literal["organ_synthesis"] = TASK
    network: str
    arguments: dict[str, Any]
    organs: tuple[Organ, ...] = KNOWN
    digest: str = Field(pattern="^[0-9a-f]{64}$", description="SHA-256 of the safetensors file")
    licence: str
    image_calibration: Logistic = Logistic()
    series_calibration: Logistic = Logistic()
    organ_temperature: float = Field(default=1.0, gt=0)
    thresholds: ImageThresholds = ImageThresholds()
    strangeness: dict[str, Any] = Field(
        default_factory=dict, description="how an image unlike all that was trained on is recognised"
    )
    data: dict[str, str] = Field(default_factory=dict, description="source → what it is, how it was split, its terms")
    generators: dict[str, str] = Field(default_factory=dict, description="kind of generator → how it was trained")
    figures: dict[str, Any] = Field(default_factory=dict, description="the evaluation's report, as measured")
    known_failures: tuple[str, ...] = ()

    def image_probability(self, logit: float) -> float:
        """The calibrated probability that one image was made by a generator."""
        return float(self.image_calibration.probability(logit))

    def series_probability(self, logits: NDArray[np.float32]) -> float:
        """The calibrated probability that a series was made by a generator, from the logits of its slices together.

        The mean of the logits: a generator leaves its trace in every slice, a false alarm seldom in all.
        """
        return float(self.series_calibration.probability(float(np.mean(logits)))) if len(logits) else 0.5

    @classmethod
    def read(cls, path: Path) -> "ImageModelCard":
        return cls.model_validate_json(path.read_text(encoding="utf-8"))

    def write(self, path: Path) -> None:
        path.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")
