"""A way to tell somebody: takes one message for good, or says why not."""

from typing import Protocol

from gateway.notices.message import Message


class NotTaken(Exception):
    """The receiver did not confirm; the message holds no patient data.

    `refused`: it answered no to this message, and might say yes to another one. Otherwise it was not there.
    """

    def __init__(self, text: str, *, refused: bool = False) -> None:
        super().__init__(text)
        self.refused = refused


class Channel(Protocol):
    """One receiver. `include_patient`: whether messages for it may carry a patient."""

    name: str
    include_patient: bool

    def tell(self, message: Message) -> None:
        """Send it and wait for the confirmation. Raises NotTaken."""
        ...
