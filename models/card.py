"""A model's card: what it is, what it was measured to do, and how its logits become probabilities.

Inference reads nothing about a model but this; a model whose weights differ from the card's digest does not load.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from models import inputs
from models.errors import UnusableVolume

EDITS, INSTANCES = "edit_segmentation", "instance_segmentation"  # the tasks of a card
_MEASURES = {"pixel_mm": "pixel size", "slice_mm": "slice spacing"}


class Logistic(BaseModel):
    """probability = 1 / (1 + exp(-(slope · logit + offset))), fitted on patients kept for it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    slope: float = Field(default=1.0, gt=0)
    offset: float = 0.0

    def probability(self, logit: NDArray[np.float32] | float) -> NDArray[np.float32]:
        return (1.0 / (1.0 + np.exp(-(self.slope * np.asarray(logit, dtype=np.float64) + self.offset)))).astype(
            np.float32
        )


class Calibration(BaseModel):
    """How logits become probabilities: of one slice, and of a whole series by its strongest run of slices."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    slice: Logistic = Logistic()
    study: Logistic = Logistic()
    run: int = Field(default=3, ge=1, description="slices in the run whose mean logit stands for the series")


class Thresholds(BaseModel):
    """Where a decision turns; all are probabilities.

    `pixel` is of SlicePredictions.edit and `lesion` of a real tumour's pixels, uncalibrated; the others are calibrated.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    pixel: float = Field(default=0.5, gt=0, lt=1)
    slice: float = Field(default=0.5, gt=0, lt=1)
    review: float = Field(default=0.5, gt=0, lt=1)
    suspect: float = Field(default=0.9, gt=0, lt=1)
    lesion: float = Field(default=0.5, gt=0, lt=1)


class Fusion(BaseModel):
    """How features of a series (models.fusion) become the probability that it was edited.

    `offset` + Σ `weights` · feature is a logit; `groups` and, for a group that has too few patients, `pooled` calibrate
    it. `loudest`: how loud all over the loudest calibrated series was, widened; beyond it the source is strange.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    weights: dict[str, float]
    offset: float
    pooled: Logistic = Logistic()
    groups: dict[str, Logistic] = Field(default_factory=dict)
    loudest: dict[str, float] = Field(default_factory=dict)
    through_plane: bool = Field(default=False, description="whether a weight is of models.consistency")


class ModelCard(BaseModel):
    """Everything that is known about one set of weights."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    version: str
    task: str = EDITS
    network: str
    arguments: dict[str, Any]
    channels: tuple[str, ...] = inputs.CHANNELS
    edit_types: tuple[str, ...] = ("added", "removed", "resynthesised")
    proposals_from: str | None = Field(
        default=None, description="the model whose density map proposes regions to a model of instances"
    )
    judges_edits: bool = Field(
        default=True, description="whether its answers on edits count in a verdict; False: it only names lesions"
    )
    digest: str = Field(pattern="^[0-9a-f]{64}$", description="SHA-256 of the safetensors file")
    licence: str
    modalities: tuple[str, ...] = ("MR",)
    body_parts: tuple[str, ...] = ("BRAIN", "HEAD")
    tile: int | None = Field(
        default=None, ge=16, description="pixels; slices are looked at in squares of this size, None: each as a whole"
    )
    min_matrix: int = 64
    max_matrix: int = 1024
    calibration: Calibration = Calibration()
    thresholds: Thresholds = Thresholds()
    fusion: Fusion | None = Field(default=None, description="None: the strongest run of slices decides on a series")
    judging: dict[str, Any] = Field(
        default_factory=dict, description="how series are judged and why so, with the bounds of false alarms reached"
    )
    domain: dict[str, tuple[float, float]] = Field(
        default_factory=dict,
        description="range of each figure of inputs.domain over the volumes trained and calibrated on",
    )
    data: dict[str, str] = Field(default_factory=dict, description="source → what it is, how it was split, its terms")
    families: dict[str, str] = Field(default_factory=dict, description="edit family → trained or held out")
    figures: dict[str, Any] = Field(default_factory=dict, description="models.evaluation's report, as measured")
    known_failures: tuple[str, ...] = ()

    def study_logit(self, image_logits: NDArray[np.float32]) -> float:
        """The logit of a series: the highest mean over `calibration.run` consecutive slices.

        An edit that anyone would make for a purpose spans several slices; a false alarm seldom does.
        """
        return strongest_run(image_logits, self.calibration.run)

    def slice_probabilities(self, image_logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """The calibrated probability that each slice was edited."""
        return self.calibration.slice.probability(image_logits)

    def study_probability(self, image_logits: NDArray[np.float32]) -> float:
        """The calibrated probability that any part of a series was edited, from the logits of its slices in order."""
        return float(self.calibration.study.probability(self.study_logit(image_logits)))

    def outside_domain(self, figures: dict[str, float]) -> list[str]:
        """Plain reasons why images with these figures (of inputs.domain) are unlike what the model was measured on."""
        reasons = []
        for name, (low, high) in self.domain.items():
            value = figures.get(name, 0.0)
            if name.endswith("_mm") and value == 0.0:
                continue
            if not low <= value <= high:
                label = _MEASURES.get(name, name.replace("_", " "))
                unit = " mm" if name.endswith("_mm") else ""
                reasons.append(
                    f"{label} is {value:.3g}{unit}; {self.name} was measured on {low:.3g} to {high:.3g}{unit}"
                )
        return reasons

    def covers(self, rows: int, columns: int) -> bool:
        """Whether a slice of this matrix is within what the model accepts."""
        return self.min_matrix <= min(rows, columns) and max(rows, columns) <= self.max_matrix

    def require(self, rows: int, columns: int) -> None:
        """Raise UnusableVolume where `covers` says no."""
        if not self.covers(rows, columns):
            limits = f"{self.min_matrix} to {self.max_matrix}"
            raise UnusableVolume(f"matrix {rows}×{columns} is outside {limits} of {self.name}")

    @classmethod
    def read(cls, path: Path) -> "ModelCard":
        return cls.model_validate_json(path.read_text(encoding="utf-8"))

    def write(self, path: Path) -> None:
        path.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")


def strongest_run(logits: NDArray[np.float32], run: int) -> float:
    """The highest mean over `run` consecutive slices, or over all where there are fewer; -inf of none."""
    values = np.asarray(logits, dtype=np.float64).ravel()
    if not values.size:
        return float("-inf")
    length = min(run, values.size)
    return float(np.convolve(values, np.ones(length) / length, mode="valid").max())
