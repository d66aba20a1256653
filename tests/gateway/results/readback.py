"""Reading evidence objects as a stranger would: with pydicom and arithmetic, without our code and highdicom's."""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset


def frames_of(seg: Dataset) -> list[Dataset]:
    return list(seg.PerFrameFunctionalGroupsSequence)


def segment_of(seg: Dataset, frame: Dataset) -> int:
    holder = frame if "SegmentIdentificationSequence" in frame else seg.SharedFunctionalGroupsSequence[0]
    return int(holder.SegmentIdentificationSequence[0].ReferencedSegmentNumber)


def pixels_of(seg: Dataset) -> NDArray[np.uint8]:
    """Frames × rows × columns."""
    return np.asarray(seg.pixel_array).reshape(int(seg.NumberOfFrames), seg.Rows, seg.Columns)


def places_of(seg: Dataset, segment: int) -> NDArray[np.float64]:
    """Every pixel of a segment in millimetres, from the SEG's own attributes alone; of a label map too."""
    is_map = seg.SegmentationType == "LABELMAP"
    shared = seg.SharedFunctionalGroupsSequence[0]
    spacing = [float(value) for value in shared.PixelMeasuresSequence[0].PixelSpacing]
    places = []
    for frame, pixels in zip(frames_of(seg), pixels_of(seg), strict=True):
        if not is_map and segment_of(seg, frame) != segment:
            continue
        holder = frame if "PlaneOrientationSequence" in frame else shared
        cosines = [float(value) for value in holder.PlaneOrientationSequence[0].ImageOrientationPatient]
        origin = [float(value) for value in frame.PlanePositionSequence[0].ImagePositionPatient]
        at = np.argwhere(pixels == segment if is_map else pixels)
        places.append(in_patient(at[:, 1], at[:, 0], origin, cosines, spacing))
    return np.concatenate(places)


def in_patient(
    columns: NDArray[np.integer] | NDArray[np.floating],
    rows: NDArray[np.integer] | NDArray[np.floating],
    origin: list[float],
    cosines: list[float],
    spacing: list[float],
) -> NDArray[np.float64]:
    """Pixel centres in millimetres (PS3.3 C.7.6.2.1.1)."""
    across = np.outer(columns, cosines[:3]) * spacing[1]
    down = np.outer(rows, cosines[3:]) * spacing[0]
    found: NDArray[np.float64] = np.array(origin) + across + down
    return found


def plane_of(source: Dataset, frame: int | None) -> tuple[list[float], list[float], list[float]]:
    """Position, cosines and spacing of a source image or of one of its frames."""
    holders = [source]
    if frame is not None:
        groups = (source.PerFrameFunctionalGroupsSequence[frame - 1], source.SharedFunctionalGroupsSequence[0])
        names = ("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence")
        holders = [group[name].value[0] for group in groups for name in names if name in group]
    found = {}
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        holder = next(each for each in holders if keyword in each)
        found[keyword] = [float(value) for value in holder[keyword].value]
    return found["ImagePositionPatient"], found["ImageOrientationPatient"], found["PixelSpacing"]


def filled(polyline: NDArray[np.floating], rows: int, columns: int) -> NDArray[np.bool_]:
    """The pixels whose centres a closed polyline of column, row surrounds (even-odd); 0\\0 is the matrix's corner."""
    y, x = np.mgrid[:rows, :columns] + 0.5
    crossings = np.zeros((rows, columns), int)
    for (x0, y0), (x1, y1) in pairwise(polyline):
        if y0 != y1:
            crosses = (y0 > y) != (y1 > y)
            crossings += crosses & (x < (x1 - x0) * (y - y0) / (y1 - y0) + x0)
    found: NDArray[np.bool_] = crossings % 2 == 1
    return found


def same_places(some: NDArray[np.float64], others: NDArray[np.float64]) -> float:
    """The largest distance in mm from a place to its twin; infinite when there are more of one kind."""
    if some.shape != others.shape:
        return float("inf")
    distances = np.linalg.norm(some[:, None] - others[None], axis=2)
    return float(max(distances.min(axis=0).max(), distances.min(axis=1).max()))
