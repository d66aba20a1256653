"""How an analysis is kept on disk without loss: `analysis.json` for the words, `masks.npz` for the masks, no pickle.

`masks.npz` holds two arrays, `class` (uint8) and `label` (uint16), both (slices, rows, columns) in the order of
`slices` in `StudyAnalysis.to_json()`: the volumes of a study one after the other. Where their matrices differ, smaller
ones are filled with zeros below and to the right, so that boxes stay true.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.errors import AnalysisUnreadable
from inference.findings import (
    Finding,
    FindingClass,
    ModelUsed,
    Observation,
    SeriesAnalysis,
    SeriesSynthesis,
    Severity,
    StudyAnalysis,
    Verdict,
)

ANALYSIS_FILE = "analysis.json"
MASKS_FILE = "masks.npz"
FORMAT = 1


def save(analysis: StudyAnalysis, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    save_masks(analysis, folder / MASKS_FILE)
    record = {
        "format": FORMAT,
        **analysis.to_json(),
        "findings": [
            {**finding.to_json(), "label": finding.label, "beyond_domain": finding.beyond_domain}
            for finding in analysis.findings
        ],
        "series": [
            {
                "series_uid": series.series_uid,
                "sop_instance_uids": list(series.sop_instance_uids),
                "frame_numbers": list(series.frame_numbers),
                "source_files": [str(file) for file in series.source_files],
                "slice_scores": list(series.slice_scores),
                "shape": list(series.labels.shape),
            }
            for series in analysis.series
        ],
    }
    (folder / ANALYSIS_FILE).write_text(json.dumps(record, allow_nan=False, indent=1), encoding="utf-8")


def save_masks(analysis: StudyAnalysis, file: Path) -> None:
    """Write `masks.npz` alone, for `scanwarden analyse --output`."""
    np.savez_compressed(
        file,
        **{  # type: ignore[arg-type]  # `class` is no keyword that one could write
            "class": _stack([series.classes for series in analysis.series], np.dtype(np.uint8)),
            "label": _stack([series.labels for series in analysis.series], np.dtype(np.uint16)),
        },
    )


def load(folder: Path) -> StudyAnalysis:
    try:
        record = json.loads((folder / ANALYSIS_FILE).read_text(encoding="utf-8"))
        if record["format"] != FORMAT:
            raise AnalysisUnreadable(f"{folder / ANALYSIS_FILE}: format {record['format']} is not {FORMAT}")
        with np.load(folder / MASKS_FILE, allow_pickle=False) as masks:
            classes, labels = masks["class"], masks["label"]
        return _study(record, classes, labels)
    except (OSError, ValueError, KeyError, TypeError) as fault:
        raise AnalysisUnreadable(f"no saved analysis in {folder}: {fault}; analyse the revision again") from fault


def _stack(volumes: list[NDArray[Any]], dtype: np.dtype[Any]) -> NDArray[Any]:
    if len(volumes) == 1:
        return volumes[0]
    rows = max((volume.shape[1] for volume in volumes), default=0)
    columns = max((volume.shape[2] for volume in volumes), default=0)
    whole = np.zeros((sum(len(volume) for volume in volumes), rows, columns), dtype)
    start = 0
    for volume in volumes:
        whole[start : start + len(volume), : volume.shape[1], : volume.shape[2]] = volume
        start += len(volume)
    return whole


def _study(record: dict[str, Any], classes: NDArray[np.uint8], labels: NDArray[np.uint16]) -> StudyAnalysis:
    series = []
    start = 0
    for entry in record["series"]:
        slices, rows, columns = entry["shape"]
        part = (slice(start, start + slices), slice(rows), slice(columns))
        start += slices
        series.append(
            SeriesAnalysis(
                series_uid=entry["series_uid"],
                sop_instance_uids=tuple(entry["sop_instance_uids"]),
                frame_numbers=tuple(entry["frame_numbers"]),
                source_files=tuple(Path(file) for file in entry["source_files"]),
                slice_scores=tuple(entry["slice_scores"]),
                labels=np.ascontiguousarray(labels[part]),
                classes=np.ascontiguousarray(classes[part]),
            )
        )
    return StudyAnalysis(
        study_uid=record["study_uid"],
        verdict=Verdict(record["verdict"]),
        score=record["score"],
        reasons=tuple(record["reasons"]),
        findings=tuple(_finding(entry) for entry in record["findings"]),
        series=tuple(series),
        observations=tuple(
            Observation(
                rule=entry["rule"],
                severity=Severity(entry["severity"]),
                text=entry["text"],
                evidence=entry["evidence"],
                sop_instance_uids=tuple(entry["sop_instance_uids"]),
            )
            for entry in record["observations"]
        ),
        models=tuple(ModelUsed(**entry) for entry in record["models"]),
        seconds=record["seconds"],
        # Absent in what was saved before there were whole-image models.
        synthesis=tuple(_synthesis(entry) for entry in record.get("synthesis", ())),
    )


def _synthesis(entry: dict[str, Any]) -> SeriesSynthesis:
    lists = {name: tuple(entry[name]) for name in ("images", "scores")}
    return SeriesSynthesis(**{**entry, **lists, "verdict": Verdict(entry["verdict"])})


def _finding(entry: dict[str, Any]) -> Finding:
    row0, column0, row1, column1 = entry["box"]
    first, last = entry["slices"]
    return Finding(
        finding_class=FindingClass(entry["class"]),
        score=entry["score"],
        series_uid=entry["series_uid"],
        slices=(first, last),
        key_slice=entry["key_slice"],
        box=(row0, column0, row1, column1),
        volume_mm3=entry["volume_mm3"],
        label=entry["label"],
        beyond_domain=entry.get("beyond_domain", False),  # absent in what was saved before models were asked there
    )
