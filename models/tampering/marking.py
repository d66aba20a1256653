"""A plain marker for tampered studies that must never be taken for real ones: off by default, because keeping every
header is the point of an exercise.
"""

from pathlib import Path

import pydicom

NOTICE = "SCANWARDEN-EXERCISE.txt"
STATEMENT = "tampered by Scanwarden for an exercise"
_GROUP, _CREATOR = 0x0099, "SCANWARDEN EXERCISE"


def mark(dataset: pydicom.Dataset) -> None:
    """Put the statement into a private block, edited or not, so that any file that gets loose tells what it is."""
    dataset.private_block(_GROUP, _CREATOR, create=True).add_new(0x01, "LO", STATEMENT)


def is_marked(dataset: pydicom.Dataset) -> bool:
    """Whether this data set says that it was made for an exercise."""
    try:
        return bool(dataset.private_block(_GROUP, _CREATOR)[0x01].value == STATEMENT)
    except KeyError:
        return False


def write_notice(folder: Path, family: str) -> None:
    """A file beside the study that says what the folder holds."""
    (folder / NOTICE).write_text(
        f"This study was {STATEMENT} (edit family: {family}).\n"
        "It must not be used for diagnosis. Every file of it carries the same statement in the private block "
        f"({_GROUP:04X}, {_CREATOR}).\n",
        encoding="utf-8",
    )
