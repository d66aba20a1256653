"""What an exercise is judged by: a JSON file that says where a study was edited and how, and its masks beside it."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from models.tampering.study import TamperedStudy


def write_truth(path: Path, made: TamperedStudy, seed: int) -> Path:
    """Write `path` (JSON) and its masks beside it; returns the file of the masks.

    That one (`.npz`) holds `mask` (slices, rows, columns), and `sop_instance_uids` and `slices` of the edited ones.
    """
    masks = path.with_suffix(".npz")
    path.parent.mkdir(parents=True, exist_ok=True)
    uids = np.array([frame.sop_instance_uid for frame in made.frames])
    indices = np.array([frame.index for frame in made.frames], dtype=np.int64)
    assert made.mask is not None  # noqa: S101  tamper_study fills it
    np.savez_compressed(masks, mask=made.mask, sop_instance_uids=uids, slices=indices)
    path.write_text(json.dumps(described(made, seed) | {"masks": masks.name}, indent=2) + "\n", encoding="utf-8")
    return masks


def described(made: TamperedStudy, seed: int) -> dict[str, Any]:
    """The facts of an edit, for a script: slices and frames count from 0, boxes are half-open."""
    boxes = np.array([frame.box for frame in made.frames])
    indices = [frame.index for frame in made.frames]
    return {
        "study_uid": made.study_uid,
        "series_uid": made.series_uid,
        "family": made.family,
        "edit_type": made.edit_type.value,
        "touched_up": made.touched_up,
        "seed": seed,
        "slices": [min(indices), max(indices)],
        "box": [*boxes[:, :2].min(axis=0).tolist(), *boxes[:, 2:].max(axis=0).tolist()],
        "instances": [
            {
                "sop_instance_uid": frame.sop_instance_uid,
                "file": frame.file.name,
                "frame": frame.frame,
                "slice": frame.index,
                "box": list(frame.box),
                "pixels": frame.pixels,
            }
            for frame in made.frames
        ],
        "notes": list(made.notes),
    }
