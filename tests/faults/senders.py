"""Modalities that never give up, and write down each word that they are told."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256

from tests.synthetic import CT, MR, SMALL, Identity, Template, new_study
from tests.wire import SUCCESS, Association, AssociationFailed, Rejected

PAUSE = 0.004  # seconds between two instances: what matters is how many kills they meet, not how many they are
STUDY = 40  # instances


@dataclass(frozen=True)
class Parcel:
    """One instance to send: its identity, its kind, and which copy under its UID."""

    identity: Identity
    template: Template
    copy: int = 0

    def dataset(self) -> bytes:
        return self.template.dataset(self.identity, self.copy)


Copy = tuple[str, str]
"""A SOP Instance UID and the SHA-256 of a data set under it."""


@dataclass
class Told:
    """What all senders together tried and were told."""

    sent: set[Copy] = field(default_factory=set)
    acknowledged: set[Copy] = field(default_factory=set)
    statuses: Counter[int] = field(default_factory=Counter)
    rejections: Counter[tuple[int, int, int]] = field(default_factory=Counter)
    broken: int = 0
    unanswered: int = 0

    def words(self) -> str:
        """For people."""
        statuses = [f"{count} × {status:#06x}" for status, count in sorted(self.statuses.items())]
        rejections = [f"{count} × rejected {reason}" for reason, count in sorted(self.rejections.items())]
        return ", ".join([*statuses, *rejections, f"{self.broken} broken", f"{self.unanswered} unanswered"])


class Sender(threading.Thread):
    """Sends studies, now and then something twice or with other pixels, until `rest`; then only what is owed."""

    def __init__(self, port: int, told: Told, lock: threading.Lock, seed: int) -> None:
        super().__init__(daemon=True, name=f"sender-{seed}")
        self._port, self._told, self._lock = port, told, lock
        self._chance = random.Random(seed)  # noqa: S311 - no secret
        self._templates = _templates()
        self._owed: list[Parcel] = []
        self._done: list[Parcel] = []
        self._identity = new_study()
        self._number = 0
        self.resting = threading.Event()
        self.ended = threading.Event()

    @property
    def idle(self) -> bool:
        """Whether everything that it ever began to send is acknowledged; only while it rests."""
        return not self._owed

    def run(self) -> None:
        while not self.ended.is_set():
            if self.resting.is_set() and not self._owed:
                time.sleep(0.02)
                continue
            try:
                self._associate()
            except Rejected as rejected:
                self._count(partial(self._told.rejections.update, [rejected.reason]))
                time.sleep(0.1)
            except AssociationFailed:
                self._break()
            except TimeoutError:
                self._told.unanswered += 1
                self._break()
            except OSError:
                self._break()

    def _associate(self) -> None:
        template = self._owed[0].template if self._owed else self._chance.choices(self._templates, (40, 4, 1))[0]
        with Association(self._port, template.sop_class_uid, timeout=10) as association:
            for _ in range(self._chance.randint(5, 40)):
                if self.ended.is_set() or (self.resting.is_set() and not self._owed):
                    return
                parcel = self._next(template)
                if parcel is None:
                    return
                self._send(association, parcel)
                time.sleep(PAUSE)

    def _next(self, template: Template) -> Parcel | None:
        """What is owed goes first, as a modality's queue has it."""
        if self._owed:
            return self._owed[0] if self._owed[0].template.sop_class_uid == template.sop_class_uid else None
        parcel, chance = None, self._chance.random()
        if self._done and chance < 0.1:
            parcel = self._chance.choice(self._done)
            if parcel.template.sop_class_uid != template.sop_class_uid:
                parcel = None
            elif chance < 0.02:
                parcel = Parcel(parcel.identity, parcel.template, parcel.copy + 1)
        if parcel is None:
            self._number += 1
            self._identity = self._identity.sibling() if self._number % STUDY else new_study()
            parcel = Parcel(self._identity, template)
        self._owed.append(parcel)
        return parcel

    def _send(self, association: Association, parcel: Parcel) -> None:
        dataset = parcel.dataset()
        copy = parcel.identity.sop_instance_uid, sha256(dataset).hexdigest()
        self._count(lambda: self._told.sent.add(copy))
        status = association.store(parcel.identity.sop_instance_uid, dataset)
        self._count(lambda: self._told.statuses.update([status]))
        if status != SUCCESS:
            time.sleep(0.05)
            return
        self._count(lambda: self._told.acknowledged.add(copy))
        self._owed.remove(parcel)
        self._done.append(parcel)
        del self._done[:-200]

    def _break(self) -> None:
        self._told.broken += 1
        time.sleep(0.05)

    def _count(self, change: Callable[[], None]) -> None:
        with self._lock:
            change()


class Senders:
    """Several at once on one port."""

    def __init__(self, port: int, number: int, seed: int) -> None:
        self.told = Told()
        self._lock = threading.Lock()
        self._threads = [Sender(port, self.told, self._lock, seed + each) for each in range(number)]
        for thread in self._threads:
            thread.start()

    def rest(self) -> None:
        """Send only what is owed from now on."""
        for thread in self._threads:
            thread.resting.set()

    @property
    def idle(self) -> bool:
        return all(thread.idle for thread in self._threads)

    def since(self, before: Told) -> Told:
        """What was told since `before` was taken; the copies are all of them."""
        with self._lock:
            now = self.told
            return Told(
                now.sent - before.sent,
                now.acknowledged - before.acknowledged,
                now.statuses - before.statuses,
                now.rejections - before.rejections,
                now.broken - before.broken,
                now.unanswered - before.unanswered,
            )

    def now(self) -> Told:
        """A copy of what was told so far."""
        return self.since(Told())

    def end(self) -> None:
        for thread in self._threads:
            thread.ended.set()
        for thread in self._threads:
            thread.join(15)


def _templates() -> tuple[Template, Template, Template]:
    return Template(*SMALL), Template(*MR), Template(*CT)
