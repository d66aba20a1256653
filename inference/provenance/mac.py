"""The bytes that a DICOM digital signature covers (PS3.3 C.12.1.1.3.1.1), for those who verify and those who sign.

The stream is made from the values as they stand in the file, never from values that pydicom has converted: a number
that is written in another way is another value to a signer.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from pydicom.datadict import dictionary_VR, private_dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement, convert_raw_data_element
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag

MAC_PARAMETERS = Tag(0x4FFE, 0x0001)
SIGNATURES = Tag(0xFFFA, 0xFFFA)
_CHARACTER_SET = Tag(0x0008, 0x0005)
_PADDING = Tag(0xFFFC, 0xFFFC)
_UNDEFINED = 0xFFFFFFFF
_LONG = frozenset(("OB", "OD", "OF", "OL", "OV", "OW", "SV", "UC", "UN", "UR", "UT", "UV"))
_WIDTHS = {
    "US": 2, "SS": 2, "OW": 2, "AT": 2, "UL": 4, "SL": 4, "FL": 4, "OF": 4, "OL": 4,
    "FD": 8, "OD": 8, "OV": 8, "SV": 8, "UV": 8,
}  # fmt: skip
_ITEM, _SEQUENCE_END = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"
# Certificate, signature and certified timestamp: what is made from the stream, or says whose it is, is not in it.
_OUTSIDE = frozenset((0x04000115, 0x04000120, 0x04000305, 0x04000310))


class NotSignable(Exception):
    """An element has no form in the stream, so no sound signature covers it."""


def may_be_signed(tag: BaseTag) -> bool:
    """Group lengths, file meta information, padding and signatures never are (PS3.3 C.12.1.1.3.1.1)."""
    return (
        tag.group >= 0x0008
        and tag.element != 0
        and tag.group not in (0xFFFA, 0xFFFE)
        and tag not in (Tag(0x0008, 0x0001), MAC_PARAMETERS, _PADDING)
    )


def peek(dataset: Dataset, keyword: str) -> Any:
    """A value, converted, with the element left as it stands in the file; None where absent or senseless."""
    try:
        found = dataset.get_item(Tag(keyword))
        element = convert_raw_data_element(found) if isinstance(found, RawDataElement) else found
    except Exception:  # noqa: BLE001  no such element, or pydicom raises whatever its bytes make it raise
        return None
    return None if element is None else element.value


def items(dataset: Dataset, tag: BaseTag) -> list[Dataset]:
    """The items of a sequence, with every other element of `dataset` left as it stands in the file."""
    try:
        found = dataset.get_item(tag)
        # Not dataset[tag]: that would convert Pixel Representation on the way.
        value = convert_raw_data_element(found).value if isinstance(found, RawDataElement) else found.value
    except Exception:  # noqa: BLE001  as above
        return []
    return [item for item in value or () if isinstance(item, Dataset)]


def stream(dataset: Dataset, signed: Iterable[BaseTag], signature: Dataset) -> Iterator[bytes]:
    """The elements of `dataset` whose tags are in `signed`, then those of the signature's own item, in tag order.

    Both come from a file. The form is explicit VR little endian, whatever the file's is. Raises NotSignable.
    """
    signed_pixels = peek(dataset, "PixelRepresentation") == 1
    wanted = {tag for tag in signed if may_be_signed(tag)}
    for tag in sorted(dataset.keys()):
        if tag in wanted:
            yield from _element(dataset, tag, inside=False, signed_pixels=signed_pixels)
    for tag in sorted(signature.keys()):
        if int(tag) not in _OUTSIDE:
            yield from _element(signature, tag, inside=False, signed_pixels=signed_pixels)


def _element(dataset: Dataset, tag: BaseTag, *, inside: bool, signed_pixels: bool) -> Iterator[bytes]:
    found = dataset.get_item(tag)
    vr = (
        str(found.VR)
        if not isinstance(found, RawDataElement)
        else _vr(dataset, tag, found, signed_pixels=signed_pixels)
    )
    head = tag.group.to_bytes(2, "little") + tag.element.to_bytes(2, "little") + vr.encode()
    if vr == "SQ":
        yield head + b"\0\0"
        for item in items(dataset, tag):
            yield _ITEM
            for inner in sorted(item.keys()):
                if may_be_signed(inner):
                    yield from _element(item, inner, inside=True, signed_pixels=signed_pixels)
        yield _SEQUENCE_END
        return
    if vr == "UN":
        # DCMTK leaves private elements of unknown VR out of an item's stream. A public one must not hide behind UN.
        if inside and tag.is_private:
            return
        raise NotSignable(f"{tag} has the value representation UN")
    if not isinstance(found, RawDataElement):
        value = _character_set(found)
    elif found.length == _UNDEFINED:
        yield head + b"\0\0"
        yield from _fragments(bytes(found.value or b""), tag)
        return
    elif found.is_little_endian:
        value = bytes(found.value or b"")
    else:
        value = _swapped(bytes(found.value or b""), _WIDTHS.get(vr, 1))
    if vr in _LONG:
        yield head + b"\0\0" + len(value).to_bytes(4, "little")
    elif len(value) > 0xFFFF:
        raise NotSignable(f"{tag} is too long for its value representation {vr}")
    else:
        yield head + len(value).to_bytes(2, "little")
    yield value


def _character_set(element: DataElement) -> bytes:
    """Specific Character Set is the one element that pydicom converts while it reads."""
    if element.is_empty:
        return b""
    if element.tag != _CHARACTER_SET:
        raise NotSignable(f"{element.tag} does not come from a file")
    value = element.value
    text = value if isinstance(value, str) else "\\".join(value or ())
    return text.encode("ascii", "replace") + b" " * (len(text) % 2)


def _fragments(value: bytes, tag: BaseTag) -> Iterator[bytes]:
    """Encapsulated pixels: item tags and contents, without the items' lengths."""
    place = 0
    while place < len(value):
        if value[place : place + 4] != _ITEM:
            raise NotSignable(f"{tag} is not encapsulated as PS3.5 A.4 wants it")
        length = int.from_bytes(value[place + 4 : place + 8], "little")
        end = place + 8 + length
        if end > len(value):
            raise NotSignable(f"{tag} ends inside a fragment")
        yield _ITEM
        yield value[place + 8 : end]
        place = end
    yield _SEQUENCE_END


def _vr(dataset: Dataset, tag: BaseTag, found: RawDataElement, *, signed_pixels: bool) -> str:
    if found.VR is not None and not found.is_implicit_VR:
        return str(found.VR)
    if tag.is_private_creator:
        return "LO"
    try:
        vr = _private_vr(dataset, tag) if tag.is_private else str(dictionary_VR(tag))
    except KeyError:
        return "UN"
    if " or " not in vr:
        return vr
    if vr == "US or SS":
        return "SS" if signed_pixels else "US"
    return "OW"  # pixels, overlays and tables in an implicit transfer syntax (PS3.5 A.1)


def _private_vr(dataset: Dataset, tag: BaseTag) -> str:
    """From pydicom's dictionary of vendors' elements, which may differ from the signer's; KeyError without an entry."""
    creator = dataset.get_item(Tag(tag.group, tag.element >> 8))
    value = getattr(creator, "value", None)
    name = value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)
    return str(private_dictionary_VR(tag, name.strip(" \0")))


def guesses(dataset: Dataset) -> bool:
    """Whether the stream rests on a dictionary of private elements: then a difference does not prove an alteration."""
    implicit, _ = dataset.original_encoding
    return bool(implicit) and any(tag.is_private and not tag.is_private_creator for tag in dataset.keys())  # noqa: SIM118


def _swapped(value: bytes, width: int) -> bytes:
    if width == 1 or len(value) % width:
        return value
    swapped = bytearray(len(value))
    for offset in range(width):
        swapped[offset::width] = value[width - 1 - offset :: width]
    return bytes(swapped)
