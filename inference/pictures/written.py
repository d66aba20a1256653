"""The files of one plain analysis: overlays, masks, boxes and saliency, and the answer itself."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.archive import MASKS_FILE, save_masks
from inference.overlays import draw
from inference.pictures.judging import PlainAnalysis, shown_slice
from inference.pictures.pixels import Pixels
from inference.saliency import drawn

ANSWER_FILE, BOXES_FILE, SALIENCY_FILE = "analysis.json", "boxes.json", "saliency.png"


def write(plain: PlainAnalysis, folder: Path) -> list[Path]:
    """Write what there is to `folder`; returns the files. Of what was not judged only the answer itself."""
    folder.mkdir(parents=True, exist_ok=True)
    written = [_text(folder / ANSWER_FILE, plain.to_json())]
    pixels = plain.pixels
    if pixels is None:
        return written
    if plain.saliency is not None:
        at = plain.saliency.index
        (whole,) = plain.analysis.synthesis
        words = f"generated as a whole: {whole.probability or 0.0:.2f}  slice {at + 1}"
        picture = drawn(shown_slice(pixels, at), plain.saliency.weights, words)
        written.append(write_picture(folder / SALIENCY_FILE, picture))
    if not plain.analysis.series:
        return written
    for finding in plain.analysis.findings:
        image = pixels.voxels[finding.key_slice]
        picture = draw(finding, plain.analysis.series_of(finding), image)
        written.append(write_picture(folder / f"finding-{finding.label:02d}.png", picture))
    boxes = [{**finding.to_json(), "file": plain.slice_file(finding.key_slice)} for finding in plain.analysis.findings]
    written.append(_text(folder / BOXES_FILE, boxes))
    save_masks(plain.analysis, folder / MASKS_FILE)
    written.append(folder / MASKS_FILE)
    return [*written, *_masks(plain, pixels, folder)]


def _masks(plain: PlainAnalysis, pixels: Pixels, folder: Path) -> list[Path]:
    """White is what was found: a PNG for each slice with a finding (of one picture: always), NIfTI beside NIfTI."""
    (series,) = plain.analysis.series
    if pixels.placement is not None:
        return [_nifti(folder / "mask.nii.gz", series.classes, pixels)]
    if len(series.classes) == 1:
        return [write_picture(folder / "mask.png", _white(series.classes[0]))]
    return [
        write_picture(folder / f"mask-{index + 1:03d}-{Path(plain.slice_file(index)).stem}.png", _white(classes))
        for index, classes in enumerate(series.classes)
        if classes.any()
    ]


def _white(classes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray((classes > 0) * 255, np.uint8)


def _nifti(path: Path, classes: NDArray[np.uint8], pixels: Pixels) -> Path:
    """On the file's own axes, so that a viewer lays it over the original; values are `FindingClass.code`."""
    import nibabel

    assert pixels.placement is not None  # noqa: S101  the caller asked
    affine = np.asarray(pixels.placement.affine, np.float64).reshape(4, 4)
    image: Any = nibabel.Nifti1Image
    nibabel.save(image(pixels.placement.back(classes), affine), path)
    return path


def write_picture(path: Path, picture: NDArray[np.uint8]) -> Path:
    """As PNG; `picture` is grey or BGR."""
    import cv2

    path.write_bytes(cv2.imencode(".png", picture)[1].tobytes())
    return path


def _text(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    return path
