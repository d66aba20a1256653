"""What an analysis says: the findings, the observations and the verdict of one study.

`to_json()` is what scripts rely on; `save()` and `load()` carry the whole result, masks included, from the step that
analyses to the step that writes evidence objects.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ClassMask = NDArray[np.uint8]
LabelMask = NDArray[np.uint16]


class Verdict(StrEnum):
    """What a study is called; there is one for each study."""

    VERIFIED = "VERIFIED"
    CLEAR = "CLEAR"
    REVIEW = "REVIEW"
    SUSPECT = "SUSPECT"
    ABSTAIN = "ABSTAIN"


class FindingClass(StrEnum):
    """What a region is claimed to be."""

    REAL_TUMOUR = "real_tumour"
    ADDED_TUMOUR = "added_tumour"
    REMOVED_TUMOUR = "removed_tumour"
    RESYNTHESISED = "resynthesised"

    @property
    def code(self) -> int:
        """Its value in class masks, 1 to 4; 0 is no finding."""
        return list(FindingClass).index(self) + 1

    @property
    def is_edit(self) -> bool:
        """A real tumour is a finding, but no sign of manipulation."""
        return self is not FindingClass.REAL_TUMOUR


class Severity(StrEnum):
    """How much an observation weighs: `info` never changes a verdict, the others keep it from CLEAR."""

    INFO = "info"
    WARNING = "warning"
    INCIDENT = "incident"


@dataclass(frozen=True)
class Observation:
    """One fact about where the images come from; `evidence` holds numbers, UIDs and words, never a patient's data."""

    rule: str
    severity: Severity
    text: str
    evidence: Mapping[str, Any] = field(default_factory=dict)
    sop_instance_uids: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "rule": self.rule,
            "severity": self.severity.value,
            "text": self.text,
            "evidence": dict(self.evidence),
            "sop_instance_uids": list(self.sop_instance_uids),
        }


@dataclass(frozen=True)
class ModelUsed:
    """Which weights looked at the study; `digest` is the SHA-256 of the weights file."""

    name: str
    version: str
    digest: str

    def to_json(self) -> dict[str, str]:
        return {"name": self.name, "version": self.version, "digest": self.digest}


@dataclass(frozen=True)
class Finding:
    """One region in one volume.

    `slices` is (first, last), both inside; `box` is (row0, column0, row1, column1) of the region on `key_slice`,
    half-open. Indices count the slices of the `SeriesAnalysis` whose `labels` hold `label`. `beyond_domain`: of images
    that its model was not measured on, and no more than a reason to look.
    """

    finding_class: FindingClass
    score: float
    series_uid: str
    slices: tuple[int, int]
    key_slice: int
    box: tuple[int, int, int, int]
    volume_mm3: float
    label: int
    beyond_domain: bool = False

    def to_json(self) -> dict[str, Any]:
        return {
            "class": self.finding_class.value,
            "score": self.score,
            "series_uid": self.series_uid,
            "slices": list(self.slices),
            "key_slice": self.key_slice,
            "box": list(self.box),
            "volume_mm3": self.volume_mm3,
        }


@dataclass(frozen=True)
class SeriesSynthesis:
    """What a whole-image model says of one series: which organ it shows, and whether a generator made its images.

    `organ` is a value of `models.images.organs.Organ`, "unknown" where the images show none that the model knows;
    `reason` says why then, and `probability`, the calibrated one that the series was generated, is None: no answer.
    So it is where an organ is known and what speaks for a generator is a lack of detail, which scanners cause too.
    `verdict` is what the series alone would be called. `images` names the images that were looked at, of `total` in the
    series, `agreeing` of them show the organ. `scores` holds the calibrated probability of each image (None: no organ).
    """

    series_uid: str
    model: str
    organ: str
    organ_probability: float
    probability: float | None
    verdict: Verdict
    images: tuple[str, ...]
    scores: tuple[float | None, ...]
    agreeing: int
    total: int
    reason: str = ""

    @property
    def doubt(self) -> str:
        """Why nothing is said of the origin of images whose organ is known; empty where that is not so."""
        return self.reason if self.organ_probability and self.probability is None else ""

    def to_json(self) -> dict[str, Any]:
        return {
            "series_uid": self.series_uid,
            "model": self.model,
            "organ": self.organ,
            "organ_probability": self.organ_probability,
            "probability": self.probability,
            "verdict": self.verdict.value,
            "images": list(self.images),
            "scores": list(self.scores),
            "agreeing": self.agreeing,
            "total": self.total,
            "reason": self.reason,
        }


@dataclass(frozen=True, eq=False)
class SeriesAnalysis:
    """One analysed volume on the matrix of its source images.

    A series with several stacks or echoes has one of these for each. Slice *k* of `labels`, `classes` and
    `slice_scores` belongs to `sop_instance_uids[k]`, `frame_numbers[k]` (1-based; None: single-frame) and
    `source_files[k]`. `labels` holds 0 or the 1-based index into `StudyAnalysis.findings`, `classes` the
    `FindingClass.code` of that finding; both are (slices, rows, columns).
    """

    series_uid: str
    sop_instance_uids: tuple[str, ...]
    frame_numbers: tuple[int | None, ...]
    source_files: tuple[Path, ...]
    slice_scores: tuple[float, ...]
    labels: LabelMask
    classes: ClassMask

    def __post_init__(self) -> None:
        slices = {len(self.sop_instance_uids), len(self.frame_numbers), len(self.source_files), len(self.slice_scores)}
        if slices != {len(self.labels)} or self.labels.ndim != 3 or self.labels.shape != self.classes.shape:
            raise ValueError(f"series {self.series_uid}: masks, scores and instances must have the same slices")


@dataclass(frozen=True, eq=False)
class StudyAnalysis:
    """One run of one model set on one study.

    `score` is the calibrated probability, 0 to 1, that the analysed images were manipulated; 0.5 where none could be
    analysed. `reasons` are for a reader in a hurry: the one that decides stands first. `synthesis` says of each series
    what its whole images look like; empty without a whole-image model.
    """

    study_uid: str
    verdict: Verdict
    score: float
    reasons: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    series: tuple[SeriesAnalysis, ...] = ()
    observations: tuple[Observation, ...] = ()
    models: tuple[ModelUsed, ...] = ()
    seconds: float = 0.0
    synthesis: tuple[SeriesSynthesis, ...] = ()

    def series_of(self, finding: Finding) -> SeriesAnalysis:
        """The volume that holds a finding.

        Raises KeyError when the finding is not one of this analysis.
        """
        for analysed in self.series:
            if analysed.series_uid == finding.series_uid and np.any(
                analysed.labels[finding.key_slice : finding.key_slice + 1] == finding.label
            ):
                return analysed
        raise KeyError(f"finding {finding.label} has no mask in series {finding.series_uid}")

    def to_json(self) -> dict[str, Any]:
        """What `scanwarden analyse --json` prints for a study; scripts rely on its keys."""
        return {
            "study_uid": self.study_uid,
            "verdict": self.verdict.value,
            "score": self.score,
            "reasons": list(self.reasons),
            "findings": [finding.to_json() for finding in self.findings],
            "slices": [
                {"sop_instance_uid": uid, "index": index, "score": score}
                for analysed in self.series
                for index, (uid, score) in enumerate(
                    zip(analysed.sop_instance_uids, analysed.slice_scores, strict=True)
                )
            ],
            "observations": [observation.to_json() for observation in self.observations],
            "models": [model.to_json() for model in self.models],
            "seconds": self.seconds,
            "synthesis": [series.to_json() for series in self.synthesis],
        }

    def save(self, folder: Path) -> None:
        """Write `analysis.json` and `masks.npz` into `folder`; `load` gives the same analysis back."""
        from inference.archive import save

        save(self, folder)

    @staticmethod
    def load(folder: Path) -> "StudyAnalysis":
        """Read what `save` wrote.

        Raises AnalysisUnreadable when a file is missing or is not one that `save` wrote.
        """
        from inference.archive import load

        return load(folder)


def classes_of(labels: LabelMask, findings: Sequence[Finding]) -> ClassMask:
    """The class mask that belongs to a label mask of the study's findings."""
    table = np.zeros(len(findings) + 1, np.uint8)
    for finding in findings:
        table[finding.label] = finding.finding_class.code
    return table[labels]
