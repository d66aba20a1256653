"""The one decision: may this person do that? A refusal is written down before it is said."""

import os
from collections.abc import Iterable
from dataclasses import dataclass

from config import Settings
from gateway.access.people import Account
from gateway.access.roles import PERMISSIONS, AccessRole, Action
from storage import AuditEvent, AuditEventType, AuditOutcome, Database, Ledger, StorageError


class AccessRefused(Exception):
    """The person's role does not allow it; the message says which role does."""

    http_status = 403


@dataclass(frozen=True)
class Permit:
    """Leave to do one thing; `actor` is how the ledger names who has it."""

    actor: str
    action: Action
    roles: frozenset[AccessRole]


class Gate:
    """Decides by the settings."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def roles_of(self, account: Account) -> frozenset[AccessRole]:
        """Their roles by name and by group; a person without an entry has none.

        Where the settings name nobody, whoever may read and write the store's files is an administrator: the operating
        system has let them in, and our tools could not keep them out.
        """
        people = self._settings.access.people
        if not people:
            return frozenset({AccessRole.ADMINISTRATOR} if self._holds_the_store() else ())
        return frozenset(
            AccessRole(person.role)
            for person in people
            if (person.user is not None and person.user == account.name)
            or (person.group is not None and person.group in account.groups)
        )

    def admit(
        self, account: Account, action: Action, database: Database | None = None, *, study_uid: str | None = None
    ) -> Permit:
        """Leave to do it. Raises AccessRefused, after the refusal was recorded in `database`."""
        roles = self.roles_of(account)
        if any(action in PERMISSIONS[role] for role in roles):
            return Permit(account.actor, action, roles)
        if database is not None:
            self._record(database, account, action, roles, study_uid)
        raise AccessRefused(f"{account.name} ({_named(roles) or 'no role'}) may not {action}: {_who_may(action)} may")

    def _holds_the_store(self) -> bool:
        return os.access(self._settings.store.root, os.R_OK | os.W_OK | os.X_OK)

    def _record(
        self,
        database: Database,
        account: Account,
        action: Action,
        roles: Iterable[AccessRole],
        study_uid: str | None,
    ) -> None:
        event = AuditEvent(
            AuditEventType.ACCESS_REFUSED,
            actor=account.actor,
            outcome=AuditOutcome.SERIOUS_FAILURE,
            study_uid=study_uid,
            details={"action": action.value, "roles": sorted(role.value for role in roles)},
        )
        try:
            Ledger(database).record(event)
        except StorageError:
            return  # refused all the same; a ledger that cannot be written is reported by whoever keeps it


def _named(roles: Iterable[AccessRole]) -> str:
    return ", ".join(sorted(role.value for role in roles))


def _who_may(action: Action) -> str:
    return _named(role for role, actions in PERMISSIONS.items() if action in actions)
