"""Access: who somebody is, what their role allows, and that every refusal stands in the ledger.

The command line and the console share this room: they differ only in how they find out who asks (`people`).
"""

from gateway.access.gate import AccessRefused, Gate, Permit
from gateway.access.people import Account, account_of_this_process
from gateway.access.roles import PERMISSIONS, AccessRole, Action

__all__ = [
    "PERMISSIONS",
    "AccessRefused",
    "AccessRole",
    "Account",
    "Action",
    "Gate",
    "Permit",
    "account_of_this_process",
]
