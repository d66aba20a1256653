"""Images without a DICOM study around them: a picture or a NIfTI volume is judged by itself, with less to go by.

`kinds` says what a file is, `pixels` decodes it.
"""

from inference.pictures.kinds import Kind
from inference.pictures.pixels import Pixels, Placement, Read, read_pixels

__all__ = ["Kind", "Pixels", "Placement", "Read", "read_pixels"]
