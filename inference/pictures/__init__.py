"""Images without a DICOM study around them: a picture or a NIfTI volume is judged by itself, with less to go by.

`kinds` says what a file is, `pixels` decodes it, `subjects` says what belongs together, `judging` asks the models,
`deciding` makes the verdict, `written` the files. What the verdicts mean: docs/analyse.md.
"""

from inference.pictures.kinds import Kind, Sorted, sort_files
from inference.pictures.pixels import Pixels, Placement, Read, read_pixels
from inference.pictures.subjects import Subject, subjects_of

__all__ = ["Kind", "Pixels", "Placement", "Read", "Sorted", "Subject", "read_pixels", "sort_files", "subjects_of"]
