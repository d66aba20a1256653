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
