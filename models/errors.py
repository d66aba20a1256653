"""What can go wrong in this room; each error says what, where and what to do."""


class ModelsError(Exception):
    """Any fault of this room."""


class WeightsMismatch(ModelsError):
    """The weights file is not the one that its card was measured with."""


class UnknownModel(ModelsError):
    """No card of this name."""


class UnknownFamily(ModelsError):
    """No edit family of this name."""


class MissingData(ModelsError):
    """The images that training or evaluation needs are not there."""


class UnusableVolume(ModelsError):
    """An array that cannot be a volume: wrong number of axes, or nothing in it."""


class NoPlaceToEdit(ModelsError):
    """The volume shows no tissue in which an edit could be placed."""


class CheckpointMismatch(ModelsError):
    """A checkpoint belongs to another training configuration."""


class UnknownInpainter(ModelsError):
    """No inpainter of this name."""


class MissingInpainter(ModelsError):
    """An edit family needs the weights of an inpainter that was not trained here."""


class UnusableStudy(ModelsError):
    """A folder of DICOM files that cannot be tampered with: no image, several studies, colour."""


class NoSuchDevice(ModelsError):
    """Training was asked for on a GPU, and there is none."""


class MissingEdits(ModelsError):
    """Training wants edits from a bank on disk that was not filled."""


class NotWorthShipping(ModelsError):
    """A trained model misses what is demanded of one that ships; nothing is published."""
