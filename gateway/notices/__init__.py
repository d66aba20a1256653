"""Notices: who is told of a verdict, over a webhook, HL7 v2 and mail, each by itself, until its receiver has confirmed.

The ledger says what there is to tell, a row for each channel how far it is (`storage/notices.py`), and `Notifier` sends
what is due. A notice may arrive twice when a process dies between the receiver's answer and our note of it; it carries
the same identifier then (the record's number, MSH-10, Message-ID).
"""

from gateway.notices.channel import Channel, NotTaken
from gateway.notices.notifier import Notifier, notifiers

__all__ = ["Channel", "NotTaken", "Notifier", "notifiers"]
