"""From stored pixels to rescaled values: syntax, depth, sign, polarity, padding, rescale (PS3.3 C.7.6.3, C.11.1).

Nothing is allocated before the header's claim is checked: native pixel data must be there in full, a code stream must
have the matrix that the header promises.
"""

import warnings
from collections.abc import Callable, Iterator

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.decoders.base import Decoder, get_decoder
from pydicom.pixels.processing import apply_modality_lut
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from inference.errors import (
    IncompleteHeader,
    PixelDataTooShort,
    TooLarge,
    UndecodablePixelData,
    UnreadableInstance,
    UnsupportedImage,
)
from inference.instances import Instance, refuse_deflated_excess

# What `decode` is: a service decodes in a process of its own and hands that way down in its place.
Decode = Callable[[Instance], Iterator[NDArray[np.float32]]]

# Decoders under permissive licences, the strictest reader of each syntax first.
_PLUGINS = ("pydicom", "pyjpegls", "gdcm", "pylibjpeg")
_J2K = (
    "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91", "1.2.840.10008.1.2.4.92", "1.2.840.10008.1.2.4.93",
    "1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.202", "1.2.840.10008.1.2.4.203",
)  # fmt: skip
_DEPTHS = (8, 16, 32)


def refuse_unreadable(instance: Instance, max_voxels: int) -> None:
    """Check what the header alone shows, before any byte of pixels is read.

    Raises UnsupportedImage for colour, bit-packed or unknown pixels, TooLarge above `max_voxels`, PixelDataTooShort
    when the file is smaller than its native pixels would be, UndecodablePixelData for an unknown transfer syntax.
    """
    allocated, stored, high, _ = instance.bits
    if instance.samples != 1 or instance.photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise UnsupportedImage(
            f"{instance.name}: {instance.photometric or 'colour'} image; only grey images are analysed"
        )
    if allocated not in _DEPTHS or not 1 <= stored <= allocated or not stored - 1 <= high < allocated:
        raise UnsupportedImage(
            f"{instance.name}: {allocated} bits allocated, {stored} stored, high bit {high} is no known depth"
        )
    voxels = instance.rows * instance.columns * len(instance.frames)
    syntax = _syntax(instance)
    needed = voxels * allocated // 8
    if not syntax.is_transfer_syntax:
        raise UndecodablePixelData(
            f"{instance.name}: transfer syntax {syntax} is unknown; ask the sender for another one"
        )
    if not syntax.is_compressed and syntax != DeflatedExplicitVRLittleEndian:
        held = instance.file.stat().st_size
        if held < needed:
            raise _too_short(instance, needed, held, "the whole file")
    if voxels > max_voxels:
        raise TooLarge(
            f"{instance.name}: {instance.rows:,}×{instance.columns:,}×{len(instance.frames):,} is more than "
            f"{max_voxels:,} voxels; raise analysis.max_voxels where memory allows"
        )
    if syntax == DeflatedExplicitVRLittleEndian:
        refuse_deflated_excess(instance.file, needed + (64 << 20))


def decode(instance: Instance) -> Iterator[NDArray[np.float32]]:
    """The frames of an instance in rescaled units, brighter is more: each (rows, columns) float32, always finite.

    Call `refuse_unreadable` first. Raises UnreadableInstance with what is wrong.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a codec's opinion about padding is no reason to stop
        try:
            yield from _decode(instance)
        except UnreadableInstance:
            raise
        except Exception as fault:
            raise UndecodablePixelData(
                f"{instance.name}: pixel data cannot be decoded ({_reason(fault)}); ask the sender to resend it"
            ) from fault


def _decode(instance: Instance) -> Iterator[NDArray[np.float32]]:
    dataset = pydicom.dcmread(instance.file, force=True)
    if "PixelData" not in dataset:
        raise IncompleteHeader(f"{instance.name}: an image without whole Pixel Data; ask the sender to resend it")
    if "TransferSyntaxUID" not in dataset.file_meta:
        dataset.file_meta.TransferSyntaxUID = _syntax(instance)
    padding = _padding(dataset)
    shape = (instance.rows, instance.columns)
    for frame, stored in zip(instance.frames, _stored(dataset, instance), strict=True):
        if stored.shape != shape:
            raise UndecodablePixelData(f"{instance.name}: a frame decodes to {stored.shape}, its header says {shape}")
        values = _within_bits(stored, instance)
        padded = _is_padding(values, padding)
        if instance.photometric == "MONOCHROME1":
            values = _inverted(values, instance)
        rescaled = _rescaled(values, dataset, frame.slope, frame.intercept)
        if not np.isfinite(rescaled).all():
            raise UndecodablePixelData(f"{instance.name}: rescale leads to values that are no numbers")
        if padded is not None and padded.any() and not padded.all():
            rescaled[padded] = rescaled[~padded].min()
        yield rescaled


def _syntax(instance: Instance) -> UID:
    return UID(instance.transfer_syntax, validation_mode=pydicom.config.IGNORE)


def _stored(dataset: Dataset, instance: Instance) -> Iterator[NDArray[np.generic]]:
    syntax = _syntax(instance)
    decoder = get_decoder(syntax)
    if not syntax.is_encapsulated:
        needed = instance.rows * instance.columns * len(instance.frames) * instance.bits[0] // 8
        if len(dataset.PixelData) < needed:
            raise _too_short(instance, needed, len(dataset.PixelData))
        for frame, _ in decoder.iter_array(dataset, raw=True, correct_unused_bits=False):
            yield frame
        return
    for held in pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=len(instance.frames)):
        _refuse_other_matrix(held, instance)
    plugins = [name for name in _PLUGINS if name in decoder.available_plugins and _permissive(name, syntax)]
    if not plugins:
        raise UndecodablePixelData(
            f"{instance.name}: no decoder for {syntax.name}; ask the sender for another transfer syntax"
        )
    for index in range(len(instance.frames)):
        yield _frame(decoder, dataset, index, plugins)


def _frame(decoder: Decoder, dataset: Dataset, index: int, plugins: list[str]) -> NDArray[np.generic]:
    for plugin in plugins[:-1]:
        try:
            return np.asarray(decoder.as_array(dataset, index=index, raw=True, decoding_plugin=plugin)[0])
        except Exception:  # noqa: BLE001, S112  the next decoder may be more lenient; the last one's word counts
            continue
    return np.asarray(decoder.as_array(dataset, index=index, raw=True, decoding_plugin=plugins[-1])[0])


def _permissive(plugin: str, syntax: UID) -> bool:
    return plugin != "pylibjpeg" or syntax in _J2K  # its JPEG decoder is under the GPL and is not ours to use


def _refuse_other_matrix(code_stream: bytes, instance: Instance) -> None:
    """A code stream has its own matrix; one larger than the header's would make the decoder allocate what it likes."""
    found = matrix_of(code_stream)
    if found is not None and found != (instance.rows, instance.columns):
        raise UndecodablePixelData(
            f"{instance.name}: the code stream is {found[0]:,}×{found[1]:,}, the header says "
            f"{instance.rows:,}×{instance.columns:,}; ask the sender to resend it"
        )


def matrix_of(code_stream: bytes) -> tuple[int, int] | None:
    """(rows, columns) that a JPEG, JPEG-LS or JPEG 2000 code stream announces; None when it is none of them."""
    if code_stream[:4] == b"\xff\x4f\xff\x51":  # SOC and SIZ, ISO/IEC 15444-1 A.5.1
        right, bottom, left, top = (int.from_bytes(code_stream[at : at + 4], "big") for at in (8, 12, 16, 20))
        return bottom - top, right - left
    if code_stream[:2] != b"\xff\xd8":
        return None
    at = 2
    while at + 9 <= len(code_stream) and code_stream[at] == 0xFF:  # marker segments, ISO/IEC 10918-1 B.1.1
        marker = code_stream[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            return int.from_bytes(code_stream[at + 5 : at + 7], "big"), int.from_bytes(
                code_stream[at + 7 : at + 9], "big"
            )
        at += 2 + int.from_bytes(code_stream[at + 2 : at + 4], "big")
    return None


def _within_bits(stored: NDArray[np.generic], instance: Instance) -> NDArray[np.int64] | NDArray[np.generic]:
    """Only the Bits Stored below High Bit are the pixel; old overlays and rubbish live in the others (PS3.5 §8.1.1)."""
    allocated, bits, high, signed = instance.bits
    if bits == allocated:
        return stored
    low = high + 1 - bits if not _syntax(instance).is_encapsulated else 0
    unsigned = stored.view(np.dtype(f"{stored.dtype.byteorder.replace('|', '=')}u{stored.dtype.itemsize}"))
    values = (unsigned.astype(np.int64) >> low) & ((1 << bits) - 1)
    return np.where(values >> (bits - 1), values - (1 << bits), values) if signed else values


def _inverted(values: NDArray[np.generic], instance: Instance) -> NDArray[np.int64]:
    """MONOCHROME1 shows small values bright: mirror the stored range, so that brighter is more (PS3.3 C.7.6.3.1.2)."""
    _, bits, _, signed = instance.bits
    return (-1 if signed else (1 << bits) - 1) - values.astype(np.int64)


def _padding(dataset: Dataset) -> tuple[int, int] | None:
    """The lowest and highest stored value that are no image (PS3.3 C.7.5.1.1.2)."""
    try:
        value = dataset.get("PixelPaddingValue")
        limit = dataset.get("PixelPaddingRangeLimit")
        if value is None:
            return None
        ends = (int(value), int(limit if limit is not None else value))
    except (TypeError, ValueError):
        return None
    return min(ends), max(ends)


def _is_padding(values: NDArray[np.generic], padding: tuple[int, int] | None) -> NDArray[np.bool_] | None:
    if padding is None:
        return None
    low, high = padding
    return (values.astype(np.int64) >= low) & (values.astype(np.int64) <= high)


def _rescaled(values: NDArray[np.generic], dataset: Dataset, slope: float, intercept: float) -> NDArray[np.float32]:
    if dataset.get("ModalityLUTSequence"):
        return np.asarray(apply_modality_lut(values, dataset), np.float32)
    if slope == 0:
        raise IncompleteHeader("Rescale Slope is 0, which makes every pixel equal; ask the sender to resend it")
    if slope == 1 and intercept == 0:
        return values.astype(np.float32)
    return np.asarray(values.astype(np.float64) * slope + intercept, np.float32)


def _too_short(instance: Instance, needed: int, held: int, where: str = "pixel data") -> PixelDataTooShort:
    allocated = instance.bits[0]
    frames = f"×{len(instance.frames)}" if len(instance.frames) > 1 else ""
    return PixelDataTooShort(
        f"{instance.name}: {where} holds {held:,} bytes, {instance.rows}×{instance.columns}{frames}×{allocated} bit "
        f"needs {needed:,}; ask the sender to resend it"
    )


def _reason(fault: BaseException) -> str:
    """What a decoder says, without what it says about itself."""
    text = " ".join(str(fault).split()).removeprefix(
        "Unable to decode as exceptions were raised by all available plugins: "
    )
    return "the code stream is damaged" if "NoneType" in text else text[:160] or type(fault).__name__
