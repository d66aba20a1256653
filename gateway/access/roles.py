"""What there is to do, and which role may do it. Nothing is implied: what a role may do stands in its line."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType


class Action(StrEnum):
    """Something that a person asks of our tools. The value stands in the ledger: it never changes its meaning."""

    READ_STATUS = "read-status"  # numbers, processes, the list of studies with their verdicts
    READ_STUDY = "read-study"  # everything about one study
    VERIFY_STUDY = "verify-study"  # compare images with what was first seen
    READ_LEDGER = "read-ledger"  # list, search, report
    VERIFY_LEDGER = "verify-ledger"  # walk the chain, check proofs and checkpoints
    EXPORT_LEDGER = "export-ledger"  # take records out of the house
    VERIFY_ARCHIVE = "verify-archive"  # ask the archive for studies and compare them
    QUERY_ARCHIVE = "query-archive"  # see which studies an archive lists, with their patients
    FETCH_STUDY = "fetch-study"  # have an archive send a study, into the gateway or into a folder
    RETRY = "retry"  # analyse or deliver again what failed
    KEEP_LEDGER = "keep-ledger"  # checkpoints on demand, keys, sealed segments
    CONFIGURE = "configure"  # everything else that changes the service

    @property
    def changes_something(self) -> bool:
        """Whether it does more than look and write down the look."""
        return self in (Action.FETCH_STUDY, Action.RETRY, Action.KEEP_LEDGER, Action.CONFIGURE)


class AccessRole(StrEnum):
    """Who somebody is to us; the settings map users and groups to these."""

    VIEWER = "viewer"
    RADIOLOGIST = "radiologist"
    SECURITY = "security"
    ADMINISTRATOR = "administrator"


PERMISSIONS: Mapping[AccessRole, frozenset[Action]] = MappingProxyType(
    {
        AccessRole.VIEWER: frozenset({Action.READ_STATUS}),
        AccessRole.RADIOLOGIST: frozenset(
            {Action.READ_STATUS, Action.READ_STUDY, Action.VERIFY_STUDY, Action.QUERY_ARCHIVE, Action.FETCH_STUDY}
        ),
        # Sees everything and changes nothing: who looks after the proof must not be able to touch what it proves.
        AccessRole.SECURITY: frozenset(action for action in Action if not action.changes_something),
        AccessRole.ADMINISTRATOR: frozenset(Action),
    }
)
