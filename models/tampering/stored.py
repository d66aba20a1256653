"""Puts edited pixels back into a file: the bits that hold them change, and nothing else that does not have to."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.encaps import encapsulate, encapsulate_extended, generate_frames
from pydicom.pixels.encoders.base import get_encoder
from pydicom.pixels.utils import as_pixel_options
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

_REENCODED = (RLELossless, JPEGLSLossless, JPEG2000Lossless)  # lossless, and an encoder is at hand

Planes = Mapping[int, NDArray[np.integer]]


def store(dataset: pydicom.FileDataset, planes: Planes) -> str | None:
    """Replace the frames `planes` (number → (rows, columns) of stored values) of a data set in place.

    Native pixels are replaced bit by bit: bits above High Bit, and all other frames, stay. A losslessly compressed
    frame is compressed anew in its syntax. Returns what had to change beside the pixels, in words, or None.
    """
    syntax = dataset.file_meta.TransferSyntaxUID
    if not syntax.is_encapsulated:
        dataset["PixelData"].value = native(dataset, planes)
        return None
    if syntax in _REENCODED:
        _reencode(dataset, planes)
        return None
    whole = dataset.pixel_array.copy()
    for number, plane in planes.items():
        whole.reshape(-1, *plane.shape)[number] = plane
    dataset.PixelData = whole.astype(whole.dtype.newbyteorder("<")).tobytes()
    dataset["PixelData"].VR = "OB" if whole.dtype.itemsize == 1 else "OW"
    dataset["PixelData"].is_undefined_length = False
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return f"edited files are stored as {ExplicitVRLittleEndian.name}; no encoder for {syntax.name}"


def patched(path: Path, dataset: pydicom.FileDataset, planes: Planes) -> bytes | None:
    """The file's bytes with other native pixels, every other byte as it was; None where that cannot be done."""
    syntax = dataset.file_meta.TransferSyntaxUID
    start = getattr(dataset["PixelData"], "file_tell", None)
    if syntax.is_encapsulated or syntax == DeflatedExplicitVRLittleEndian or not start:
        return None
    content = bytearray(path.read_bytes())
    held = dataset.PixelData
    if bytes(content[start : start + len(held)]) != held:
        return None
    content[start : start + len(held)] = native(dataset, planes)
    return bytes(content)


def native(dataset: pydicom.FileDataset, planes: Planes) -> bytes:
    """Native Pixel Data with other values in the bits that hold pixels (PS3.5 8.1.1)."""
    allocated, stored = int(dataset.BitsAllocated), int(dataset.BitsStored)
    order = "<" if dataset.file_meta.TransferSyntaxUID.is_little_endian else ">"
    cells = np.dtype(f"{order}u{allocated // 8}")
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    count = int(dataset.get("NumberOfFrames", 1) or 1)
    held = bytearray(dataset.PixelData)
    raw = np.frombuffer(held, dtype=cells, count=count * rows * columns).reshape(count, rows, columns)
    bits = np.array((1 << stored) - 1, dtype=cells)
    extended = int(dataset.PixelRepresentation) == 1 and _sign_extended(raw, stored)
    for number, plane in planes.items():
        new = plane.astype(np.int64)
        changed = new != _values(raw[number], stored, signed=int(dataset.PixelRepresentation) == 1)
        if extended:
            written = new.astype(f"i{allocated // 8}").view(f"u{allocated // 8}").astype(cells)
        else:
            written = (new.astype(cells) & bits) | (raw[number] & ~bits)
        raw[number][changed] = written[changed]
    return bytes(held)


def _values(raw: NDArray[Any], stored: int, *, signed: bool) -> NDArray[np.int64]:
    value = raw.astype(np.int64) & ((1 << stored) - 1)
    return np.where(value >> (stored - 1), value - (1 << stored), value) if signed else value


def _sign_extended(raw: NDArray[Any], stored: int) -> bool:
    """Whether the bits above the sign repeat it, as most scanners write."""
    width = 8 * raw.dtype.itemsize
    whole = np.where(raw.astype(np.int64) >> (width - 1), raw.astype(np.int64) - (1 << width), raw.astype(np.int64))
    return bool((whole == _values(raw, stored, signed=True)).all())


def _reencode(dataset: pydicom.FileDataset, planes: Planes) -> None:
    count = int(dataset.get("NumberOfFrames", 1) or 1)
    frames = list(generate_frames(dataset.PixelData, number_of_frames=count))
    options = as_pixel_options(dataset) | {"number_of_frames": 1}
    encoder = get_encoder(dataset.file_meta.TransferSyntaxUID)
    for number, plane in planes.items():
        frames[number] = encoder.encode(np.ascontiguousarray(plane), **options)
    if "ExtendedOffsetTable" in dataset:
        held = encapsulate_extended(frames)
        dataset["PixelData"].value, dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths = held
    else:
        table = int.from_bytes(dataset.PixelData[4:8], "little") > 0
        dataset["PixelData"].value = encapsulate(frames, has_bot=table)
