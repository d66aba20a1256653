"""Key slices: where each edited region is clearest, with its outlines, and how its source says to show it."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import UID

from gateway.results.outlines import Outline, outlines
from gateway.results.references import Reference
from gateway.results.sources import Plane, SourceInstance, Sources
from inference.decoding import Decode, refuse_unreadable
from inference.errors import InferenceError
from inference.findings import Finding, SeriesAnalysis, StudyAnalysis
from inference.instances import read_instance

_MOST_VOXELS = 512 * 1024**2  # what the analysis has decoded is decoded again


@dataclass(frozen=True, eq=False)
class KeySlice:
    """One slice with the regions that are clearest on it. `frame_number` counts from 1, None: a single-frame image."""

    volume: SeriesAnalysis
    index: int
    instance: SourceInstance
    frame_number: int | None
    findings: tuple[Finding, ...]
    outlines: Mapping[int, Sequence[Outline]]

    @property
    def plane(self) -> Plane | None:
        number = self.frame_number or 1
        return self.instance.planes[number - 1] if number <= len(self.instance.planes) else None

    @property
    def reference(self) -> Reference:
        return Reference(self.volume.series_uid, self.instance.sop_class_uid, self.instance.sop_instance_uid)

    @property
    def score(self) -> float:
        return max(finding.score for finding in self.findings)

    @property
    def is_referable(self) -> bool:
        """Whether a document may refer to it: DCMTK and highdicom refuse private classes."""
        return UID(self.instance.sop_class_uid).type == "SOP Class"


def key_slices(analysis: StudyAnalysis, sources: Sources, *, edits_only: bool) -> list[KeySlice]:
    """The key slice of every finding that has a mask and a source; those on one slice are together, the surest first.

    `edits_only` leaves out what shows no sign of editing, so that nothing is pointed at that is no integrity flag.
    """
    grouped: dict[tuple[int, int], list[Finding]] = {}
    for finding in analysis.findings:
        if edits_only and not finding.finding_class.is_edit:
            continue
        for number, volume in enumerate(analysis.series):
            if volume.series_uid == finding.series_uid and _shows(volume, finding):
                grouped.setdefault((number, finding.key_slice), []).append(finding)
                break
    known = sources.by_uid
    found = []
    for (number, k), findings in grouped.items():
        volume = analysis.series[number]
        instance = known.get(volume.sop_instance_uids[k])
        if instance is None or (instance.rows, instance.columns) != volume.labels.shape[1:]:
            continue
        frame = volume.frame_numbers[k] if len(instance.planes) > 1 else None
        drawn = {finding.label: outlines(volume.labels[k] == finding.label) for finding in findings}
        found.append(KeySlice(volume, k, instance, frame, tuple(findings), drawn))
    return sorted(found, key=lambda each: (-each.score, each.findings[0].label))


def _shows(volume: SeriesAnalysis, finding: Finding) -> bool:
    k = finding.key_slice
    return 0 <= k < len(volume.labels) and bool((volume.labels[k] == finding.label).any())


@dataclass(frozen=True)
class Appearance:
    """How a source image is to be shown (PS3.3 C.11.1, C.11.2); `header` is its data set without pixels.

    `window` is (centre, width) in rescaled units; None where it says none. `rescale` is (intercept, slope, type).
    """

    header: Dataset
    window: tuple[float, float] | None
    rescale: tuple[str, str, str] | None
    is_inverted: bool


def appearance(key: KeySlice) -> Appearance:
    """Read how the source of a key slice is to be shown; what makes no sense is as if it were absent."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's warnings quote values
        header = dcmread(key.instance.file, stop_before_pixels=True, force=True)
        groups = _groups(header, key.frame_number)
        window = _window(groups)
        rescale = _rescale(groups)
        inverted = str(_value(header, "PhotometricInterpretation") or "").strip() == "MONOCHROME1"
    return Appearance(header, window, rescale, inverted)


def _groups(header: Dataset, frame: int | None) -> list[Dataset]:
    """Where an attribute may stand: the frame's group, the shared group, the data set itself."""
    per_frame = _value(header, "PerFrameFunctionalGroupsSequence") or []
    shared = _value(header, "SharedFunctionalGroupsSequence") or []
    number = frame or 1
    chosen = [*per_frame[number - 1 : number], *shared[:1]] if per_frame else []
    inner = [
        item
        for group in chosen
        for name in ("FrameVOILUTSequence", "PixelValueTransformationSequence")
        for item in (_value(group, name) or [])[:1]
    ]
    return [*inner, header]


def _window(groups: Sequence[Dataset]) -> tuple[float, float] | None:
    for group in groups:
        centre, width = _first_number(group, "WindowCenter"), _first_number(group, "WindowWidth")
        if centre is not None and width is not None and width >= 1:
            return centre, width
    return None


def _rescale(groups: Sequence[Dataset]) -> tuple[str, str, str] | None:
    for group in groups:
        intercept, slope = _first_number(group, "RescaleIntercept"), _first_number(group, "RescaleSlope")
        if intercept is not None and slope:
            kind = str(_value(group, "RescaleType") or "US").strip()[:64]
            return str(_value(group, "RescaleIntercept")), str(_value(group, "RescaleSlope")), kind or "US"
    return None


def _first_number(group: Dataset, keyword: str) -> float | None:
    value = _value(group, keyword)
    try:
        number = float(value[0] if isinstance(value, list | tuple) or hasattr(value, "append") else value)
    except (TypeError, ValueError, IndexError):
        return None
    return number if np.isfinite(number) else None


def _value(holder: Dataset, keyword: str) -> Any:
    try:
        return holder.get(keyword)
    except Exception:  # noqa: BLE001 - pydicom raises whatever the bytes make it raise
        return None


class NoPicture(Exception):
    """A source image that was analysed cannot be decoded any more; the message says why."""


def pixels_of(keys: Sequence[KeySlice], decode: Decode) -> dict[int, NDArray[np.float32] | NoPicture]:
    """The images of key slices in rescaled units, brighter is more, by their place in `keys`; a file is read once."""
    wanted: dict[Path, dict[int, list[int]]] = {}
    for at, key in enumerate(keys):
        wanted.setdefault(key.instance.file, {}).setdefault((key.frame_number or 1) - 1, []).append(at)
    found: dict[int, NDArray[np.float32] | NoPicture] = {}
    for file, frames in wanted.items():
        try:
            instance = read_instance(file)
            refuse_unreadable(instance, _MOST_VOXELS)
            for index, image in enumerate(decode(instance)):  # to its end: a decoder that is left is started anew
                found.update((at, image) for at in frames.get(index, ()))
        except (InferenceError, OSError) as fault:
            found.update((at, NoPicture(str(fault))) for places in frames.values() for at in places if at not in found)
    return found


def grey(image: NDArray[np.float32], shown: Appearance) -> NDArray[np.uint8]:
    """Grey values as the source's own window shows them; where it has none that shows something, by percentiles."""
    low, high = _span(image)
    if shown.window is not None and not shown.is_inverted:
        centre, width = shown.window
        first, last = centre - width / 2, centre + width / 2
        between = float(np.count_nonzero((image > first) & (image < last))) / image.size
        if between >= 0.02:
            low, high = first, last
    scaled = np.clip((image - low) / max(high - low, 1e-6) * 255, 0, 255)
    return np.asarray(np.rint(scaled), np.uint8)


def _span(image: NDArray[np.float32]) -> tuple[float, float]:
    low, high = np.percentile(image, (0.5, 99.5))
    if high <= low:
        low, high = float(image.min()), float(image.max())
    return float(low), float(high)
