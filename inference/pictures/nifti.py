"""NIfTI volumes (.nii, .nii.gz): the header is checked first, then as many bytes are inflated as it has voxels.

The array is cut into slices where the scanner did, and turned as a viewer shows them: anterior or superior up, the
patient's right on the left.
"""

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from inference.errors import TooLarge, UnreadablePicture
from inference.pictures.kinds import HEADER_BYTES
from inference.pictures.pixels import Pixels, Placement
from inference.pictures.raster import without_holes

_TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
_MOST_EXTENSION = 16 * 1024**2  # bytes between header and voxels
_THICK = 1.2  # times the other spacings from which on an axis is the one that slices were made along
_MOST_MM = 1000.0  # between two voxels; more is no header of a patient
_AXIAL = 2


def read(file: Path, max_voxels: int) -> Pixels:
    """The first volume of a file, as slices.

    Raises UnreadablePicture for a header that makes no sense or data that end too soon, TooLarge above `max_voxels`.
    """
    try:
        with _opened(file) as stream:
            header, order = _header(file, stream.read(HEADER_BYTES))
        shape, volumes = _shape(file, header)
        if int(np.prod(shape, dtype=object)) > max_voxels:
            raise TooLarge(
                f"{file.name}: {'×'.join(f'{size:,}' for size in shape)} is more than {max_voxels:,} voxels; raise "
                "analysis.max_voxels where memory allows"
            )
        with _opened(file) as stream:
            array = _array(file, stream, header, order, shape)
    except (OSError, EOFError, zlib.error) as fault:
        raise UnreadablePicture(f"{file.name}: cannot be read to its end ({fault}); copy it again") from fault
    gaps = (f"{volumes - 1:,} more volumes of a 4D file; only the first was read",) if volumes > 1 else ()
    doubts: tuple[str, ...] = ()
    if not np.isfinite(array).all():
        array, share = without_holes(array)
        doubts = (f"{share:.1%} of its voxels are no numbers",)
    affine, notes = _affine(header)
    sizes = _sizes(header)
    placement = _placement(affine, sizes, shape)
    spacing = _spacing(sizes, placement.axes)
    if spacing is None:
        notes.append("its header gives no usable spacing")
    voxels = array.transpose(2, 1, 0)  # stored with the first axis fastest: `array` has it last
    cut = voxels.transpose(placement.axes)[tuple(slice(None, None, -1 if flip else 1) for flip in placement.backwards)]
    return Pixels(np.ascontiguousarray(cut), spacing, False, tuple(notes), gaps, doubts, placement)


@contextmanager
def _opened(file: Path) -> Iterator[IO[bytes]]:
    with file.open("rb") as raw:
        is_packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        if not is_packed:
            yield raw
            return
        with gzip.GzipFile(fileobj=raw) as stream:
            yield cast(IO[bytes], stream)


def _header(file: Path, start: bytes) -> tuple[Any, str]:
    """The header and its byte order, '<' or '>'."""
    import nibabel

    for code, order in (("<", "little"), (">", "big")):
        size = int.from_bytes(start[:4], "little" if order == "little" else "big")
        if size in (348, 540):
            kind = nibabel.Nifti1Header if size == 348 else nibabel.Nifti2Header
            if len(start) < size:
                break
            header = cast(Any, kind)(start[:size], endianness=code, check=False)
            if bytes(header["magic"].item())[:2] == b"ni":
                raise UnreadablePicture(f"{file.name}: the header of a .hdr/.img pair; convert it to a single .nii")
            return header, code
    raise UnreadablePicture(f"{file.name}: its NIfTI header is cut off; copy it again")


def _shape(file: Path, header: Any) -> tuple[tuple[int, int, int], int]:
    """The matrix of one volume, and how many volumes there are."""
    dims = [int(size) for size in header["dim"]]
    count = dims[0]
    if not 1 <= count <= 7 or min(dims[1 : count + 1]) < 1:
        raise UnreadablePicture(f"{file.name}: its NIfTI header gives the dimensions {dims}; export it again")
    sizes = [*dims[1 : count + 1], 1, 1, 1]
    volumes = int(np.prod(dims[4 : count + 1], dtype=object)) if count > 3 else 1
    return (sizes[0], sizes[1], sizes[2]), volumes


def _array(file: Path, stream: IO[bytes], header: Any, order: str, shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """The first volume in rescaled units on reversed axes, (third, second, first), read a plane at a time."""
    code = int(header["datatype"])
    if code not in _TYPES:
        raise UnreadablePicture(f"{file.name}: NIfTI data type {code} (colour, complex or unknown) is not read")
    dtype = np.dtype(order + _TYPES[code])
    offset = float(header["vox_offset"])
    least = int(header["sizeof_hdr"])
    if not least <= offset <= _MOST_EXTENSION:
        raise UnreadablePicture(f"{file.name}: its NIfTI header puts the voxels at byte {offset:g}; export it again")
    _skip(stream, int(offset))
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    is_scaled = np.isfinite((slope, intercept)).all() and slope != 0 and (slope, intercept) != (1.0, 0.0)
    first, second, third = shape
    array = np.empty((third, second, first), np.float32)
    for plane in array:
        held = stream.read(first * second * dtype.itemsize)
        if len(held) < first * second * dtype.itemsize:
            raise UnreadablePicture(f"{file.name}: ends before its last voxel; copy it again")
        with np.errstate(over="ignore", invalid="ignore"):
            values = np.frombuffer(held, dtype)
            plane[...] = (values * slope + intercept if is_scaled else values).reshape(second, first)
    return array


def _skip(stream: IO[bytes], count: int) -> None:
    while count > 0:
        held = stream.read(min(count, 1 << 16))
        if not held:
            return
        count -= len(held)


def _affine(header: Any) -> tuple[NDArray[np.float64], list[str]]:
    """To RAS in mm; where the header has none that makes sense, axes are taken as they are stored."""
    try:
        affine = np.asarray(header.get_best_affine(), np.float64)
    except Exception:  # noqa: BLE001  whatever nibabel makes of a senseless quaternion: it is absent
        affine = np.full((4, 4), np.nan)
    known = int(header["sform_code"]) > 0 or int(header["qform_code"]) > 0
    if known and np.isfinite(affine).all() and abs(np.linalg.det(affine[:3, :3])) > 1e-9:
        return affine, []
    return np.eye(4), ["its header does not say how it lies in the patient"]


def _sizes(header: Any) -> tuple[float, float, float] | None:
    """Millimetres along each axis of the file; None where that makes no sense."""
    first, second, third = (float(size) for size in header["pixdim"][1:4])
    if not all(np.isfinite(size) and 0 < size < _MOST_MM for size in (first, second, third)):
        return None
    return first, second, third


def _spacing(sizes: tuple[float, float, float] | None, axes: tuple[int, int, int]) -> tuple[float, float, float] | None:
    return None if sizes is None else (sizes[axes[0]], sizes[axes[1]], sizes[axes[2]])


def _placement(
    affine: NDArray[np.float64], sizes: tuple[float, float, float] | None, shape: tuple[int, int, int]
) -> Placement:
    import nibabel

    turn: Any = nibabel.orientations.io_orientation
    found = turn(affine)
    if not np.isfinite(found).all():
        found = turn(np.eye(4))
    world = [int(axis) for axis, _ in found]  # by file axis: 0 left-right, 1 back-front, 2 foot-head
    rising = [direction > 0 for _, direction in found]  # towards right, front, head
    across = _slice_axis(sizes, shape, world)
    # Up is the head, or the front where slices run from foot to head; the patient's right, or the front, is left.
    rows, columns = sorted((axis for axis in range(3) if axis != across), key=lambda axis: -world[axis])
    is_axial = world[across] == _AXIAL
    backwards = (bool(rising[across] != is_axial), bool(rising[rows]), bool(rising[columns]))
    return Placement((across, rows, columns), backwards, shape, tuple(float(value) for value in affine.ravel()))


def _slice_axis(sizes: tuple[float, float, float] | None, shape: tuple[int, int, int], world: list[int]) -> int:
    """The axis of one slice, else the coarsest one, else from foot to head."""
    singles = [axis for axis in range(3) if shape[axis] == 1]
    if len(singles) == 1:
        return singles[0]
    if sizes is not None and max(sizes) >= _THICK * np.median(sizes):
        return int(np.argmax(sizes))
    return world.index(_AXIAL)
