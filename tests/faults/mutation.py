"""Associations as senders speak them, recorded from real transfers, and what chance makes of them.

A recorded association is the list of PDUs that the requestor sent (PS3.8 9.3). Mutations of the outer layer break
lengths, types, items and order; those of the inner layer break the command or the data set inside sound PDUs.
"""

import random
import secrets
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.modality import STORESCU

Pdus = list[bytes]
P_DATA = 0x04
MOST_BYTES = 1 << 20  # of one mutated association
EDGES = (
    b"\0",
    b"\xff",
    b"\0\0",
    b"\xff\xff",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\0\0\0\0",
    b"\xfe\xff\x0d\xe0",
)


@dataclass
class Recorder:
    """Stands between a sender and a gateway, and keeps what the sender says."""

    port: int
    heard: list[bytes] = field(default_factory=list)

    def __enter__(self) -> "Recorder":
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.own_port = int(self._listening.getsockname()[1])
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(10)

    def _serve(self) -> None:
        while True:
            try:
                sender, _ = self._listening.accept()
            except OSError:
                return
            with sender, socket.create_connection(("127.0.0.1", self.port), 10) as gateway:
                back = threading.Thread(target=_pump, args=(gateway, sender, []), daemon=True)
                back.start()
                heard: list[bytes] = []
                _pump(sender, gateway, heard)
                back.join(10)
            self.heard.append(b"".join(heard))


def _pump(source: socket.socket, sink: socket.socket, heard: list[bytes]) -> None:
    try:
        while data := source.recv(65536):
            heard.append(data)
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def record(port: int, groups: Sequence[tuple[str, Sequence[Path]]], *, pdu: int = 16384) -> list[Pdus]:
    """What DCMTK's storescu sends of each group of files, an association for each; with the groups' options."""
    with Recorder(port) as recorder:
        for option, files in groups:
            command = [STORESCU, option]
            command += ["-aec", "SCANWARDEN", "-aet", "MODALITY", "--max-send-pdu", str(pdu), "127.0.0.1"]
            subprocess.run(
                [*command, str(recorder.own_port), *map(str, files)], check=False, capture_output=True, timeout=60
            )
    return [pdus for heard in recorder.heard if len(pdus := pdus_of(heard)) > 2]


def pdus_of(stream: bytes) -> Pdus:
    """A stream cut into its PDUs."""
    pdus, at = [], 0
    while at + 6 <= len(stream):
        length = struct.unpack_from(">I", stream, at + 2)[0]
        pdus.append(stream[at : at + 6 + length])
        at += 6 + length
    return pdus


def instance_uid_of(pdus: Pdus) -> bytes | None:
    """The Affected SOP Instance UID of the first C-STORE request (PS3.7 E.1: (0000,1000), implicit little endian)."""
    for pdu in pdus:
        at = pdu.find(b"\0\0\0\x10")
        if pdu[0] == P_DATA and at >= 0:
            length = struct.unpack_from("<I", pdu, at + 4)[0]
            return pdu[at + 8 : at + 8 + length].rstrip(b"\0")
    return None


Mutation = Callable[[Pdus, random.Random, Sequence[Pdus]], Pdus]


def _at(pdus: Pdus, chance: random.Random) -> int:
    # The request is one of many PDUs and has most of what can be broken
    return 0 if chance.random() < 0.3 else chance.randrange(len(pdus))


def _replaced(pdus: Pdus, index: int, pdu: bytes) -> Pdus:
    return [*pdus[:index], pdu, *pdus[index + 1 :]]


def _bytes(pdus: Pdus, chance: random.Random, _: Sequence[Pdus]) -> Pdus:
    """Some bytes anywhere."""
    index = _at(pdus, chance)
    changed = bytearray(pdus[index])
    for _again in range(chance.choice((1, 1, 2, 8, 64))):
        changed[chance.randrange(len(changed))] = chance.randrange(256)
    return _replaced(pdus, index, bytes(changed))


def _edges(pdus: Pdus, chance: random.Random, _: Sequence[Pdus]) -> Pdus:
    """A value at the edge of its range, where a length or a tag may stand."""
    index = _at(pdus, chance)
    changed, edge = bytearray(pdus[index]), chance.choice(EDGES)
    place = chance.randrange(min(len(changed), 512))
    changed[place : place + len(edge)] = edge
    return _replaced(pdus, index, bytes(changed))


def _length(pdus: Pdus, chance: random.Random, _: Sequence[Pdus]) -> Pdus:
    """A PDU that says another length."""
    index = _at(pdus, chance)
    true = len(pdus[index]) - 6
    said = chance.choice((0, 1, true - 1, true + 1, true * 2, 1 << 20, (1 << 20) + 2048, 1 << 31, (1 << 32) - 1))
    return _replaced(pdus, index, pdus[index][:2] + struct.pack(">I", said % (1 << 32)) + pdus[index][6:])


def _type(pdus: Pdus, chance: random.Random, _: Sequence[Pdus]) -> Pdus:
    """A PDU of another type."""
    index = _at(pdus, chance)
    return _replaced(pdus, index, bytes([chance.randrange(10) if chance.random() < 0.8 else 0xFF]) + pdus[index][1:])


def _cut(pdus: Pdus, chance: random.Random, _: Sequence[Pdus]) -> Pdus:
    """Ends in the middle."""
    index = _at(pdus, chance)
    return [*pdus[:index], pdus[index][: chance.randrange(1, len(pdus[index]) + 1)]]


def _twice(pdus: Pdus, chance: random.Random, _: Sequence[Pdus]) -> Pdus:
    """A PDU comes again."""
    index = _at(pdus, chance)
    return [*pdus[: index + 1], *pdus[index:]]


def _dropped(pdus: Pdus, chance: random.Random, _: Sequence[Pdus]) -> Pdus:
    index = _at(pdus, chance)
    return [*pdus[:index], *pdus[index + 1 :]] or pdus


def _order(pdus: Pdus, chance: random.Random, _: Sequence[Pdus]) -> Pdus:
    return (
        chance.sample(pdus, len(pdus)) if chance.random() < 0.3 else [pdus[0], *chance.sample(pdus[1:], len(pdus) - 1)]
    )


def _spliced(pdus: Pdus, chance: random.Random, corpus: Sequence[Pdus]) -> Pdus:
    """One association's beginning and another one's end."""
    other = chance.choice(corpus)
    return [*pdus[: chance.randrange(1, len(pdus) + 1)], *other[chance.randrange(len(other)) :]]


def _rubbish(pdus: Pdus, chance: random.Random, _: Sequence[Pdus]) -> Pdus:
    """Bytes from nowhere between two PDUs."""
    index = _at(pdus, chance)
    return [*pdus[:index], chance.randbytes(chance.choice((1, 6, 100, 4000))), *pdus[index:]]


def _items(pdus: Pdus, chance: random.Random, _: Sequence[Pdus]) -> Pdus:
    """In the association's request: an item of another type, another length, doubled or away (PS3.8 9.3.2)."""
    request = pdus[0]
    items, at = [], 74
    while at + 4 <= len(request):
        length = struct.unpack_from(">H", request, at + 2)[0]
        items.append(request[at : at + 4 + length])
        at += 4 + length
    if not items:
        return pdus
    index, what = chance.randrange(len(items)), chance.randrange(5)
    item = items[index]
    if what == 0:
        items[index] = bytes([chance.randrange(256)]) + item[1:]
    elif what == 1:
        items[index] = item[:2] + struct.pack(">H", chance.choice((0, 1, 3, 0xFFFF, len(item) - 3))) + item[4:]
    elif what == 2:
        items += [item] * chance.choice((1, 130, 300))
    elif what == 3:
        del items[index]
    else:
        changed = bytearray(item)
        changed[chance.randrange(len(changed))] = chance.randrange(256)
        items[index] = bytes(changed)
    body = request[6:74] + b"".join(items)
    return [request[:2] + struct.pack(">I", len(body)) + body, *pdus[1:]]


def _fragments(pdus: Pdus, chance: random.Random, _: Sequence[Pdus]) -> Pdus:
    """A fragment's length, context or control header (PS3.8 9.3.5.1, annex E)."""
    data = [index for index, pdu in enumerate(pdus) if pdu[0] == P_DATA and len(pdu) > 12]
    if not data:
        return pdus
    index = chance.choice(data)
    changed = bytearray(pdus[index])
    if chance.random() < 0.4:
        changed[6:10] = struct.pack(">I", chance.choice((0, 1, 2, len(changed), 1 << 31, (1 << 32) - 1)))
    elif chance.random() < 0.5:
        changed[10] = chance.randrange(256)
    else:
        changed[11] = chance.choice((0, 1, 2, 3, 0xFF))
    return _replaced(pdus, index, bytes(changed))


def _inside(pdus: Pdus, chance: random.Random, _: Sequence[Pdus]) -> Pdus:
    """The command or the data set, in PDUs that are sound."""
    data = [index for index, pdu in enumerate(pdus) if pdu[0] == P_DATA and len(pdu) > 20]
    if not data:
        return pdus
    index = chance.choice(data)
    body = bytearray(pdus[index][12:])
    reach = len(body) if chance.random() < 0.3 else min(len(body), 600)
    what = chance.randrange(4)
    if what == 0:
        for _again in range(chance.choice((1, 2, 16))):
            body[chance.randrange(reach)] = chance.randrange(256)
    elif what == 1:
        edge, place = chance.choice(EDGES), chance.randrange(reach)
        body[place : place + len(edge)] = edge
    elif what == 2:
        place = chance.randrange(reach)
        del body[place : place + chance.choice((1, 2, 4, 100))]
    else:
        place = chance.randrange(reach)
        body[place:place] = body[place : place + chance.choice((2, 8, 200))] * chance.choice((1, 2, 50))
    header = pdus[index][10:12]
    pdv = struct.pack(">I", len(body) + 2) + header + bytes(body)
    return _replaced(pdus, index, b"\x04\0" + struct.pack(">I", len(pdv)) + pdv)


MUTATIONS: tuple[Mutation, ...] = (
    _bytes, _edges, _length, _type, _cut, _twice, _dropped, _order, _spliced, _rubbish, _items, _fragments, _inside,
    _inside, _inside,
)  # fmt: skip


def mutated(corpus: Sequence[Pdus], chance: random.Random) -> Pdus:
    """An association of the corpus after one to three mutations; often of an instance that nobody has sent yet."""
    pdus = chance.choice(corpus)
    uid = instance_uid_of(pdus)
    if uid and chance.random() < 0.6:
        new = (b"2.25." + str(secrets.randbelow(10**60)).encode()).ljust(len(uid), b"7")[: len(uid)]
        pdus = [pdu.replace(uid, new) for pdu in pdus]
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        pdus = [pdu for pdu in chance.choice(MUTATIONS)(pdus, chance, corpus) if pdu]
        if not pdus:
            return [b"\0"]
    return _within(pdus)


def _within(pdus: Pdus) -> Pdus:
    kept, left = [], MOST_BYTES
    for pdu in pdus:
        kept.append(pdu[:left])
        left -= len(pdu)
        if left <= 0:
            break
    return kept
