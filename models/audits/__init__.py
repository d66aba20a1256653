"""Shortcuts that would flatter an edit network: what tells edited images from genuine ones and is not the edit.

A network takes the easiest way. Each audit is a simple classifier that sees one shortcut alone and must stay near
chance on what training is given; nothing is published where one does not.
"""

from models.audits.audit import Audit, AuditFailed
from models.audits.running import audit, audit_section, require

__all__ = ["Audit", "AuditFailed", "audit", "audit_section", "require"]
