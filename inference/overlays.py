"""Pictures of the key slices with the findings drawn on them, for people without a DICOM viewer at hand."""

from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inference.decoding import decode
from inference.findings import Finding, FindingClass, SeriesAnalysis, StudyAnalysis
from inference.instances import read_instance

_LEAST_SIDE = 512  # pixels of the picture's shorter side
_LEGEND = 44  # pixels below the image
_COLOURS = {  # BGR; told apart with any colour vision by the words beside them
    FindingClass.REAL_TUMOUR: (200, 200, 0),
    FindingClass.ADDED_TUMOUR: (60, 60, 255),
    FindingClass.REMOVED_TUMOUR: (0, 190, 255),
    FindingClass.RESYNTHESISED: (255, 120, 200),
}
Picture = NDArray[np.uint8]


def write_overlays(analysis: StudyAnalysis, folder: Path) -> list[Path]:
    """Write `finding-NN.png` for each finding: its key slice, its contour and one line of legend.

    Raises UnreadableInstance when a source file is not what it was at the analysis.
    """
    import cv2

    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for finding in analysis.findings:
        path = folder / f"finding-{finding.label:02d}.png"
        path.write_bytes(cv2.imencode(".png", draw(finding, analysis.series_of(finding)))[1].tobytes())
        written.append(path)
    return written


def draw(finding: Finding, series: SeriesAnalysis, image: NDArray[np.float32] | None = None) -> Picture:
    """The key slice of a finding as BGR, its contour drawn, the finding named below.

    `image` (rows, columns) is that slice where no DICOM instance holds it.
    """
    import cv2

    grey = windowed(key_slice(finding, series) if image is None else image)
    scale = max(1, -(-_LEAST_SIDE // min(grey.shape)))
    size = (grey.shape[1] * scale, grey.shape[0] * scale)
    picture = cv2.cvtColor(cv2.resize(grey, size, interpolation=cv2.INTER_CUBIC), cv2.COLOR_GRAY2BGR)
    mask = (series.labels[finding.key_slice] == finding.label).astype(np.uint8)
    contours, _ = cv2.findContours(
        cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
    )
    colour = _COLOURS[finding.finding_class]
    cv2.drawContours(picture, contours, -1, colour, 2)
    picture = cv2.copyMakeBorder(picture, 0, _LEGEND, 0, 0, cv2.BORDER_CONSTANT, value=(0, 0, 0))
    words = f"{finding.finding_class.value.replace('_', ' ')}  {finding.score:.2f}  slice {finding.key_slice + 1}"
    cv2.putText(picture, words, (8, size[1] + 17), cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, 1, cv2.LINE_AA)
    note = "integrity flag by software, not a diagnosis"
    cv2.putText(picture, note, (8, size[1] + 36), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (190, 190, 190), 1, cv2.LINE_AA)
    return np.asarray(picture, np.uint8)


def key_slice(finding: Finding, series: SeriesAnalysis) -> NDArray[np.float32]:
    """The image that a finding is clearest on, read again from its source."""
    number = series.frame_numbers[finding.key_slice] or 1
    instance = read_instance(series.source_files[finding.key_slice])
    return next(islice(decode(instance), number - 1, None))


def windowed(image: NDArray[np.float32]) -> Picture:
    """Grey values for a screen: the darkest and the brightest half per cent are cut off."""
    low, high = np.percentile(image, (0.5, 99.5))
    return np.asarray(np.clip((image - low) / max(float(high - low), 1e-6) * 255, 0, 255), np.uint8)
