"""The process that decodes: answers one request after the other, under limits that the kernel holds.

`python -m gateway.decoding.worker CONNECTION PIXELS MEMORY SECONDS`: two open file descriptors, bytes, seconds.

It ends when the other side closes the connection, or dies. It does not ask the kernel for a signal then (prctl(2),
PR_SET_PDEATHSIG): that comes already when the thread ends that started it.
"""

import ctypes
import json
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, cast

PR_SET_NO_NEW_PRIVS = 38
EXIT_OUT_OF_MEMORY = 76

Answer = dict[str, Any]


@dataclass(frozen=True)
class _Folder:
    """As much of the store as a comparison needs: where our copies lie."""

    root: Path

    def locate(self, relative: str) -> Path:
        return self.root / relative


def main(arguments: list[str]) -> int:
    """Serve until the other side closes the connection."""
    connection, pixels, memory, seconds = (int(argument) for argument in arguments)
    _confine(memory)
    line = Connection(connection)
    operations = _operations(line, pixels, seconds)
    line.send_bytes(b"{}")  # ready
    while True:
        try:
            name, values = line.recv()
        except (EOFError, OSError):
            return 0
        signal.alarm(seconds)
        try:
            answer = operations[name](*values)
        except MemoryError:
            answer = {"error": "MemoryError", "text": ""}
        except Exception as fault:  # noqa: BLE001 - whatever a decoder raises goes to the one who asked
            answer = {"error": type(fault).__name__, "text": str(fault)[:500]}
        signal.alarm(0)
        try:
            line.send_bytes(json.dumps(answer).encode())
        except OSError:
            return 0
        if answer.get("error") == "MemoryError":
            return EXIT_OUT_OF_MEMORY  # a heap that ran full decodes nothing more


def _confine(memory: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    # The kernel's own: it ends native code that hangs also when nobody is left to do it.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    for limit, value in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, memory),  # of the shared pixels, too
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(limit)[1]
        resource.setrlimit(limit, (value, value) if hard == resource.RLIM_INFINITY else (min(value, hard),) * 2)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)


def _operations(line: Connection, pixels: int, seconds: int) -> dict[str, Callable[..., Answer]]:
    import numpy as np
    from pydicom import dcmread

    from gateway.verification.compare import compare_instance
    from gateway.verification.region import difference, picture
    from inference.decoding import decode
    from inference.instances import Instance
    from inference.pictures import Kind, read_pixels
    from storage.attributes import attribute_digests
    from storage.digests import content_digest, pixel_digest
    from storage.firstseen import Seen
    from storage.instances import InstanceStore

    def frames(instance: Instance) -> Answer:
        """Each frame goes into the shared pixels, then its size over the line, then the next when it was taken."""
        for frame in decode(instance):
            _write(pixels, np.ascontiguousarray(frame).data.cast("B"))
            signal.alarm(0)
            line.send_bytes(json.dumps({"frame": frame.shape}).encode())
            line.recv()
            signal.alarm(seconds)
        return {}

    def plain(file: Path, kind: Kind, max_voxels: int) -> Answer:
        """A picture or NIfTI volume goes into the shared pixels whole; the rest of it is the answer."""
        found = read_pixels(file, kind, max_voxels)
        _write(pixels, found.voxels.data.cast("B"))
        words = {"notes": found.notes, "gaps": found.gaps, "doubts": found.doubts}
        placement = asdict(found.placement) if found.placement is not None else None
        facts = {"shape": found.voxels.shape, "spacing": found.spacing, "is_shown": found.is_shown}
        return {**facts, **words, "placement": placement}

    def digests(file: Path) -> Answer:
        dataset = dcmread(file)
        attributes = attribute_digests(dataset)
        try:
            return {"attributes": attributes, "pixels": pixel_digest(dataset)}
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001 - what cannot be decoded has no digest; the analysis says why
            return {"attributes": attributes, "pixels": None}

    def content(file: Path) -> Answer:
        return {"content": content_digest(dcmread(file, force=True))}

    def compare(seen: Seen, file: Path, root: Path) -> Answer:
        found = asdict(compare_instance(seen, file, cast(InstanceStore, _Folder(root))))
        return {**found, "file": None}

    def shown(file: Path) -> Answer:
        return {"picture": picture(dcmread(file, force=True))}

    def differs(first: Path, other: Path) -> Answer:
        return asdict(difference(dcmread(first, force=True), dcmread(other, force=True)))

    return {
        "frames": frames,
        "plain": plain,
        "digests": digests,
        "content": content,
        "compare": compare,
        "picture": shown,
        "difference": differs,
    }


def _write(pixels: int, data: memoryview) -> None:
    at = 0
    for part in _parts(data):
        at += os.pwrite(pixels, part, at)


def _parts(data: memoryview) -> Iterator[memoryview]:
    while data:
        yield data[: 1 << 26]
        data = data[1 << 26 :]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
