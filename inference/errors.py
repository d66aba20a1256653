"""What can be wrong with the images of a study.

Each error says what, where and what to do. None of them leaves `analyse_study` for an instance: they become reasons of
an ABSTAIN. `dicom_status` is what a service would answer (PS3.4 B.2.3).
"""

from typing import ClassVar


class InferenceError(Exception):
    """Anything that keeps images from being analysed."""

    dicom_status: ClassVar[int] = 0xC000


class UnreadableInstance(InferenceError):
    """One instance cannot be analysed; the others of its study can."""


class NotDicom(UnreadableInstance):
    """The file holds no DICOM data set (PS3.10 §7.1)."""


class DamagedFile(UnreadableInstance):
    """The file starts as DICOM and cannot be read to the end of its header."""


class IncompleteHeader(UnreadableInstance):
    """A UID or an image attribute that we need is absent or makes no sense."""

    dicom_status = 0xA900


class PixelDataTooShort(UnreadableInstance):
    """Rows × Columns × Frames needs more bytes than arrived (PS3.5 §8)."""


class UndecodablePixelData(UnreadableInstance):
    """The transfer syntax is unknown to us, or its code stream is damaged (PS3.5 Annex A)."""


class UnsupportedImage(UnreadableInstance):
    """A sound image that no part of us reads: colour, bit-packed or floating-point pixels."""


class TooLarge(UnreadableInstance):
    """Decoding it would take more memory than the settings allow."""

    dicom_status = 0xA700


class UnreadablePicture(InferenceError):
    """A picture or NIfTI file is damaged, or is nothing that a scanner makes."""


class GeometryError(InferenceError):
    """Orientation, position or spacing contradict each other (PS3.3 C.7.6.2)."""


class DeviceUnavailable(InferenceError):
    """The device that the settings ask for is not on this machine."""


class NotOneStudy(InferenceError):
    """The files of one analysis must be of one study."""


class TimeLimitExceeded(InferenceError):
    """The study took longer than the settings allow."""


class AnalysisUnreadable(InferenceError):
    """A saved analysis is missing or damaged; analyse the revision again."""
