"""Digests that prove what arrived: of the file, and of what the file shows.

The pixel digest covers decoded pixels and their geometry in a canonical form, so it survives a lossless change of the
transfer syntax and of the header's encoding, and nothing else. Taking it decodes: for the analyse role only, never for
a receiver. The digest of lossily compressed pixels is that of one decoder's output: it holds for one installation.
"""

import json
from collections.abc import Iterator
from hashlib import file_digest as hash_of_file
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, FileDataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    JPEG2000TransferSyntaxes,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
    RLETransferSyntaxes,
)

from storage.errors import PixelsUnreadable

_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_VERSION = 1


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    with path.open("rb") as file:
        return hash_of_file(file, "sha256").hexdigest()


def pixel_digest(dataset: Dataset) -> str | None:
    """SHA-256 over the decoded pixels and their geometry, hexadecimal; None for an instance without pixels.

    `dataset` comes from a file: its meta information names the transfer syntax. Frames are decoded one at a time.
    Raises PixelsUnreadable when a frame cannot be decoded or bytes are missing.
    """
    if not any(keyword in dataset for keyword in _PIXELS):
        return None
    digest = sha256(_json({"version": _VERSION, "image": _description(dataset), "geometry": _geometry(dataset)}))
    frames = 0
    try:
        for frame, photometric in decoded_frames(dataset):
            digest.update(photometric.encode() + b"\0")
            digest.update(np.ascontiguousarray(frame).data)
            frames += 1
    except MemoryError:
        raise
    except Exception as fault:
        name = f"{dataset.get('Modality', '')} instance {dataset.get('SOPInstanceUID', 'without UID')}"
        raise PixelsUnreadable(f"{name}: {fault}; ask the sender to send it again, or uncompressed") from fault
    digest.update(_json({"frames": frames}))
    return digest.hexdigest()


def content_digest(dataset: Dataset) -> str:
    """What two copies of one UID are compared by: the pixel digest, or without pixels a digest of every element.

    The latter is taken in one transfer syntax, without file meta information and group lengths.
    """
    found = pixel_digest(dataset)
    if found is not None:
        return found
    plain = FileDataset("", dataset, file_meta=FileMetaDataset())
    plain.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    buffer = BytesIO()
    try:
        dcmwrite(buffer, plain, implicit_vr=False, little_endian=True, enforce_file_format=False)
    except Exception as fault:
        name = f"instance {dataset.get('SOPInstanceUID', 'without UID')}"
        raise PixelsUnreadable(f"{name} cannot be written in one form to compare it: {fault}") from fault
    return sha256(b"elements\0" + buffer.getvalue()).hexdigest()


def decoding_plugin(syntax: UID) -> str:
    """pydicom's name of the decoder that we take for a transfer syntax; empty for uncompressed pixels.

    Always the same one when several are installed, so that digests of lossy images stay comparable.
    """
    if not syntax.is_compressed or not syntax.is_encapsulated:
        return ""
    for syntaxes, plugins in _DECODERS:
        if syntax in syntaxes:
            available = get_decoder(syntax).available_plugins
            return next((plugin for plugin in plugins if plugin in available), "")
    return ""


_DECODERS: tuple[tuple[list[UID], tuple[str, ...]], ...] = (
    (JPEGLSTransferSyntaxes, ("pyjpegls", "gdcm")),
    (JPEG2000TransferSyntaxes, ("pylibjpeg", "gdcm")),
    (RLETransferSyntaxes, ("pydicom",)),
    (JPEGTransferSyntaxes, ("gdcm", "pillow")),
)


def decoded_frames(dataset: Dataset) -> Iterator[tuple[NDArray[Any], str]]:
    """Every frame as little-endian values of the least width that holds Bits Stored, with its colour space.

    A frame is (rows, columns) or (rows, columns, samples), whatever Planar Configuration says (PS3.3 C.7.6.3.1.3).
    Colours stay as decoded: a conversion from YBR would round.
    """
    syntax = dataset.file_meta.TransferSyntaxUID
    decoder = get_decoder(syntax)
    for frame, facts in decoder.iter_array(dataset, raw=True, decoding_plugin=decoding_plugin(syntax)):
        if frame.dtype.kind == "f":
            width = frame.dtype.itemsize
        else:
            bits = int(facts.get("bits_stored", 8 * frame.dtype.itemsize))
            width = next(size for size in (1, 2, 4, 8) if bits <= 8 * size)
        yield frame.astype(f"<{frame.dtype.kind}{width}", copy=False), str(facts.get("photometric_interpretation", ""))


def _description(dataset: Dataset) -> dict[str, Any]:
    return {
        "rows": dataset.get("Rows"),
        "columns": dataset.get("Columns"),
        "samples": dataset.get("SamplesPerPixel", 1),
        "bits_stored": dataset.get("BitsStored"),
        "signed": dataset.get("PixelRepresentation", 0) == 1,
        "palette": [
            sha256(bytes(dataset.get(f"{colour}PaletteColorLookupTableData", b""))).hexdigest()
            for colour in ("Red", "Green", "Blue")
        ]
        if dataset.get("PhotometricInterpretation") == "PALETTE COLOR"
        else None,
    }


def _geometry(dataset: Dataset) -> dict[str, Any]:
    return {
        "frame_of_reference": str(dataset.get("FrameOfReferenceUID") or ""),
        "offsets": _millimetres(dataset, "GridFrameOffsetVector"),
        "whole": _placement(dataset, dataset, dataset, dataset),
        "frames": list(_frame_placements(dataset)),
    }


def _frame_placements(dataset: Dataset) -> Iterator[dict[str, Any]]:
    """The functional groups of each frame, a shared one where the frame has none of its own (PS3.3 C.7.6.16)."""
    shared = _first(dataset, "SharedFunctionalGroupsSequence")
    for own in dataset.get("PerFrameFunctionalGroupsSequence") or []:

        def group(name: str, own: Dataset = own) -> Dataset:
            return _first(own, name) or _first(shared, name)

        yield _placement(
            group("PlanePositionSequence"),
            group("PlaneOrientationSequence"),
            group("PixelMeasuresSequence"),
            group("PixelValueTransformationSequence"),
        )


def _placement(position: Dataset, orientation: Dataset, measures: Dataset, values: Dataset) -> dict[str, Any]:
    return {
        "position": _millimetres(position, "ImagePositionPatient"),
        "orientation": _millimetres(orientation, "ImageOrientationPatient"),
        "spacing": _millimetres(measures, "PixelSpacing") or _millimetres(measures, "ImagerPixelSpacing"),
        # Absent and identity say the same.
        "slope": _number(values.get("RescaleSlope"), 1.0),
        "intercept": _number(values.get("RescaleIntercept"), 0.0),
    }


def _millimetres(dataset: Dataset, keyword: str) -> list[str]:
    """Numbers to a nanometre: `1.50` is `1.5`, and a writer's 1e-16 is 0."""
    value = dataset.get(keyword)
    values = [] if value is None else value if hasattr(value, "__iter__") and not isinstance(value, str) else [value]
    try:
        return [f"{round(float(each), 6) + 0.0:.6f}" for each in values]
    except (TypeError, ValueError):
        return [str(each) for each in values]


def _number(value: Any, absent: float) -> str:
    try:
        return f"{absent if value in (None, '') else float(value):.10g}"
    except (TypeError, ValueError):
        return str(value)


def _first(dataset: Dataset, keyword: str) -> Dataset:
    items = dataset.get(keyword)
    return items[0] if items else Dataset()


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=str).encode()
