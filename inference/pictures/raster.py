"""PNG, JPEG, WebP, BMP and TIFF to grey values, with Pillow: the header first, then its promise against the limit."""

import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from inference.errors import TooLarge, UnreadablePicture
from inference.pictures.kinds import Kind
from inference.pictures.pixels import Pixels

_DEEP = ("I;16", "I;16B", "I;16L", "I;16N", "I", "F")
_WITH_ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")
_SAME = 12  # grey values that channels of a grey picture may differ by: lossy compression of grey leaves that much
_COLOURED = 0.002  # share of pixels that may differ by more: a coloured mark in a corner is much less
_ROWS = 1 << 22  # bytes of a band of rows at once


def read(file: Path, kind: Kind, max_voxels: int) -> Pixels:
    """One picture as grey values of its own range, (1, rows, columns).

    Raises TooLarge by the header alone, UnreadablePicture for what is damaged, holds several pictures, or is colour.
    """
    if kind is Kind.PRETENDER:
        raise UnreadablePicture(_what_it_is_not(file))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of large pictures; the limit below refuses them
        try:
            with Image.open(file, formats=(kind.value.upper(),)) as picture:
                _refuse_by_header(file, picture, max_voxels)
                return _pixels(file, kind, picture)
        except (UnreadablePicture, TooLarge, MemoryError):
            raise
        except Image.DecompressionBombError as fault:
            raise TooLarge(f"{file.name}: its header promises more pixels than any picture that is read") from fault
        except Exception as fault:
            raise UnreadablePicture(
                f"{file.name}: a {kind} file that cannot be decoded ({_reason(fault)}); copy or export it again"
            ) from fault


def _what_it_is_not(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            is_empty = not stream.read(1)
    except OSError as fault:
        return f"{file.name}: cannot be read ({fault.strerror or fault})"
    return f"{file.name}: the file is empty" if is_empty else f"{file.name}: not what its name says; no picture in it"


def _refuse_by_header(file: Path, picture: Image.Image, max_voxels: int) -> None:
    columns, rows = picture.size
    if rows * columns > max_voxels:
        raise TooLarge(
            f"{file.name}: {rows:,}×{columns:,} is more than {max_voxels:,} pixels; raise analysis.max_voxels where "
            "memory allows"
        )
    pages = int(getattr(picture, "n_frames", 1))
    if pages > 1:
        raise UnreadablePicture(
            f"{file.name}: holds {pages:,} pictures; save each as a file of its own, and name their folder with "
            "--volume where they are the slices of one series"
        )


def _pixels(file: Path, kind: Kind, picture: Image.Image) -> Pixels:
    notes, doubts = [], []
    if picture.mode in _WITH_ALPHA or "transparency" in picture.info:
        notes.append("its transparency was ignored")
    if kind is Kind.JPEG or (kind is Kind.WEBP and _is_lossy_webp(file)):
        doubts.append(f"lossy {kind} compression")
    grey = _grey(file, kind, picture)
    if kind is Kind.PNG and grey.dtype == np.uint8 and _depth_of_png(file) == 16:
        notes.append("16 bits a channel were read as 8")
    values = grey.astype(np.float32)
    if not np.isfinite(values).all():
        values, share = without_holes(values)
        doubts.append(f"{share:.1%} of its pixels are no numbers")
    is_shown = grey.dtype == np.uint8
    return Pixels(values[np.newaxis], is_shown=is_shown, notes=tuple(notes), doubts=tuple(doubts))


def without_holes(values: NDArray[np.float32]) -> tuple[NDArray[np.float32], float]:
    """What is no number becomes the darkest value; the share of such values beside it."""
    finite = np.isfinite(values)
    if not finite.any():
        raise UnreadablePicture("it holds not one number")
    filled = np.where(finite, values, values[finite].min())
    return np.asarray(filled, np.float32), float(1 - finite.mean())


def _grey(file: Path, kind: Kind, picture: Image.Image) -> NDArray[np.generic]:
    if picture.mode in _DEEP:
        return np.asarray(picture)
    if picture.mode in ("1", "L"):
        return np.asarray(picture.convert("L"))
    if picture.mode in ("LA", "La"):
        return np.asarray(picture.getchannel("L"))
    is_ycc = kind is Kind.JPEG and picture.mode == "RGB"
    rgb = picture.convert("RGB")
    if _share_of_colour(rgb) > _COLOURED:
        raise UnreadablePicture(f"{file.name}: a colour picture; scanners make grey ones, and only those are judged")
    if is_ycc:  # the luminance as it was coded: a detour over three channels would add its rounding to the residuals
        with Image.open(file, formats=("JPEG",)) as again:
            again.draft("L", again.size)
            return np.asarray(again.convert("L"))
    return np.asarray(rgb.getchannel("G"))


def _share_of_colour(rgb: Image.Image) -> float:
    columns, rows = rgb.size
    step = max(1, _ROWS // (3 * columns))
    differing = 0
    for top in range(0, rows, step):
        band = np.asarray(rgb.crop((0, top, columns, min(rows, top + step)))).astype(np.int16)
        differing += int(np.count_nonzero(np.ptp(band, axis=2) > _SAME))
    return differing / (rows * columns)


def _depth_of_png(file: Path) -> int:
    """Bits a channel, of the IHDR chunk (PNG §11.2.2)."""
    with file.open("rb") as stream:
        return (stream.read(25) or b"\0")[-1]


def _is_lossy_webp(file: Path) -> bool:
    """VP8 is lossy, VP8L lossless; behind an extended header the first of them decides (RFC 9649 §2)."""
    with file.open("rb") as stream:
        start = stream.read(1 << 16)
    lossy, lossless = start.find(b"VP8 "), start.find(b"VP8L")
    return lossy >= 0 and (lossless < 0 or lossy < lossless)


def _reason(fault: Exception) -> str:
    text = " ".join(str(fault).split())
    return "it is no such picture" if "cannot identify" in text else text[:120] or type(fault).__name__
