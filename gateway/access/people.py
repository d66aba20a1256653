"""Who sits at the command line, as the kernel knows it: nothing here can be set by the person who asks."""

import grp
import os
import pwd
from dataclasses import dataclass
from pathlib import Path

_LOGIN = Path("/proc/self/loginuid")
_UNSET = 0xFFFFFFFF


class UnknownAccount(Exception):
    """The operating system has no name for the user of this process."""


@dataclass(frozen=True)
class Account:
    """A person, by the name that the ledger records, with the groups that they belong to."""

    name: str
    groups: frozenset[str] = frozenset()

    @property
    def actor(self) -> str:
        """How the ledger names them."""
        return f"user:{self.name}"


def account_of_this_process() -> Account:
    """The user who logged in, also behind sudo, where the kernel keeps that; else the process's user.

    Never from the environment: LOGNAME is whatever its owner likes. Raises UnknownAccount.
    """
    number = _login_number()
    try:
        user = pwd.getpwuid(os.getuid() if number is None else number)
        groups = os.getgrouplist(user.pw_name, user.pw_gid)
    except (KeyError, OSError) as fault:
        raise UnknownAccount("the operating system does not know who you are; the ledger records who looks") from fault
    return Account(user.pw_name, frozenset(name for each in groups if (name := _group(each)) is not None))


def _login_number() -> int | None:
    try:
        number = int(_LOGIN.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    return None if number == _UNSET else number


def _group(number: int) -> str | None:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return None
