"""Coding schemes and codes of our objects (PS3.2 annex A.E), from the one vocabulary that they are made with."""

from collections.abc import Iterator

from pydicom.sr.coding import Code

from gateway.results import codes


def private_codes() -> list[Code]:
    """Codes of our own scheme, by value."""
    return sorted((each for each in _all() if each.scheme_designator == codes.SCHEME), key=lambda code: code.value)


def standard_codes() -> list[Code]:
    """Codes of public schemes, by scheme and value."""
    public = (each for each in _all() if each.scheme_designator != codes.SCHEME)
    return sorted(public, key=lambda code: (code.scheme_designator, code.value))


def _all() -> set[Code]:
    return set(_found())


def _found() -> Iterator[Code]:
    for value in vars(codes).values():
        if isinstance(value, Code):
            yield value
    yield from codes.VERDICTS.values()
    yield from codes.ORIGINS.values()
    yield from codes.ORGANS.values()
    for style in codes.REGIONS.values():
        yield style.category
        yield style.kind
