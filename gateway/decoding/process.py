"""The side that asks for decoded pixels: starts the worker, starts it again when it dies, and gives up on bad input."""

import json
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from math import ceil
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self

import numpy as np
import structlog
from numpy.typing import NDArray

from gateway.verification.compare import Comparison, State
from gateway.verification.region import Difference, Region
from inference import errors
from inference.instances import Instance
from inference.pictures import Kind, Pixels, Placement
from storage import PixelsUnreadable
from storage.firstseen import Seen

log = structlog.get_logger(__name__)

WORKER_COMMAND = (sys.executable, "-m", "gateway.decoding.worker")
START_SECONDS = 60.0
GRACE = 5.0  # seconds after the time is over in which a worker ends itself, should nobody do it
MOST_DEATHS = 3  # of the worker over one study; then its other instances are not tried
MOST_ANSWER_BYTES = 4 * 1024**2


class DecoderDied(Exception):
    """The worker crashed, took too long or ran out of memory over an instance; the text says which."""


class DecodingProcess:
    """One worker process, started when it is first needed. Its calls may come from several threads, one at a time."""

    def __init__(self, *, memory_limit: int, timeout: float | None, command: Sequence[str] = WORKER_COMMAND) -> None:
        """`memory_limit` in bytes of address space; `timeout` in seconds for an answer or a frame, None: no limit."""
        self._command = command
        self._memory_limit = memory_limit
        self._timeout = timeout
        self._lock = threading.RLock()
        self._process: subprocess.Popen[bytes] | None = None
        self._line: Connection | None = None
        self._pixels = -1
        self._ending: weakref.finalize[Any, Any] | None = None
        self._deaths = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """The worker's process id; None while there is none."""
        return self._process.pid if self._process is not None else None

    @contextmanager
    def study(self) -> Iterator[None]:
        """Within it, MOST_DEATHS deaths of the worker end its use: a study of bad instances holds up nobody."""
        with self._lock:
            self._deaths = 0
        try:
            yield
        finally:
            with self._lock:
                self._deaths = 0

    def frames(self, instance: Instance) -> Iterator[NDArray[np.float32]]:
        """What `inference.decoding.decode` gives, decoded over there. Raises UnreadableInstance with what is wrong."""
        with self._lock:
            busy = True  # the worker, with this instance
            try:
                answer = self._ask("frames", instance)
                for _ in instance.frames:
                    busy = "frame" in answer
                    yield self._take(answer, instance)
                    answer = self._exchange(None)
                busy = "frame" in answer
                if answer:
                    raise _fault(answer, instance)
            except DecoderDied as death:
                busy = False
                raise errors.UndecodablePixelData(f"{instance.name}: {death}") from death
            finally:
                if busy:  # who asked went away in between, or there are more frames than the header said
                    self._end()

    def pixels(self, file: Path, kind: Kind, max_voxels: int) -> Pixels:
        """What `inference.pictures.read_pixels` gives, decoded over there. Raises UnreadablePicture, TooLarge."""
        with self._lock:
            try:
                answer = self._ask("plain", file, kind, max_voxels)
            except DecoderDied as death:
                raise errors.UnreadablePicture(f"{file.name}: {death}") from death
            if "error" in answer:
                raise _fault_of_picture(answer, file)
            slices, rows, columns = (int(size) for size in answer["shape"])
            if min(slices, rows, columns) < 1 or slices * rows * columns > max_voxels:
                raise errors.UnreadablePicture(f"{file.name}: the decoder gave a matrix that is none")
            voxels = np.empty((slices, rows, columns), np.float32)
            self._fill(voxels, file.name)
            os.ftruncate(self._pixels, 0)  # a volume is large, and the next file may be long in coming
        return _pixels(voxels, answer)

    def digests(self, file: Path) -> tuple[dict[str, str], str | None]:
        """Attribute digests and the pixel digest of a file; the latter None when it has no pixels or none that decode.

        Raises DecoderDied, and PixelsUnreadable for a file that cannot be read.
        """
        answer = self._whole("digests", file)
        pixels = answer.get("pixels")
        return {str(key): str(value) for key, value in answer["attributes"].items()}, str(pixels) if pixels else None

    def content_digest(self, file: Path) -> str:
        """`storage.digests.content_digest` of a file. Raises PixelsUnreadable, DecoderDied."""
        return str(self._whole("content", file)["content"])

    def picture(self, file: Path) -> str | None:
        """`gateway.verification.region.picture` of a file; None when it cannot be decoded."""
        try:
            return str(self._whole("picture", file)["picture"])
        except (PixelsUnreadable, DecoderDied):
            return None

    def difference(self, first: Path, other: Path) -> Difference:
        """`gateway.verification.region.difference` of two files. Raises PixelsUnreadable, DecoderDied."""
        answer = self._whole("difference", first, other)
        return Difference(_region(answer["region"]), str(answer["note"]))

    def compare(self, seen: Seen, file: Path, root: Path) -> Comparison:
        """`gateway.verification.compare.compare_instance` with the store at `root`."""
        try:
            answer = self._whole("compare", seen, file, root)
        except (PixelsUnreadable, DecoderDied) as fault:
            note = str(fault) if isinstance(fault, DecoderDied) else "it cannot be read or decoded"
            return Comparison(seen.sop_instance_uid, seen.series_uid, State.ALTERED, note=note, file=file)
        return Comparison(
            seen.sop_instance_uid,
            seen.series_uid,
            State(answer["state"]),
            tuple(str(each) for each in answer["changed"]),
            _region(answer["region"]),
            str(answer["note"]),
            tuple(str(each) for each in answer["elements"]),
            bool(answer["document"]),
            file,
        )

    def close(self) -> None:
        """End the worker."""
        with self._lock:
            self._end()

    def _whole(self, operation: str, *values: object) -> dict[str, Any]:
        with self._lock:
            answer = self._ask(operation, *values)
        if "error" in answer:
            raise PixelsUnreadable(str(answer.get("text", ""))[:500] or str(answer["error"]))
        return answer

    def _take(self, answer: dict[str, Any], instance: Instance) -> NDArray[np.float32]:
        if answer.get("frame") != [instance.rows, instance.columns]:
            raise _fault(answer, instance)
        frame = np.empty((instance.rows, instance.columns), np.float32)
        self._fill(frame, instance.name)
        return frame

    def _fill(self, values: NDArray[np.float32], name: str) -> None:
        buffer, at = values.data.cast("B"), 0
        while at < len(buffer):
            got = os.preadv(self._pixels, [buffer[at:]], at)
            if not got:
                raise errors.UndecodablePixelData(f"{name}: the decoder gave less than it announced")
            at += got
        if not np.isfinite(values).all():
            raise errors.UndecodablePixelData(f"{name}: the decoder gave values that are no numbers")

    def _ask(self, operation: str, *values: object) -> dict[str, Any]:
        if self._deaths >= MOST_DEATHS:
            raise DecoderDied(f"not decoded, because instances of this study ended the decoder {MOST_DEATHS} times")
        self._start()
        return self._exchange((operation, values))

    def _exchange(self, request: object) -> dict[str, Any]:
        assert self._line is not None  # noqa: S101 - `_ask` started it
        try:
            self._line.send(request)
            if not self._line.poll(self._timeout):
                raise self._died(f"its decoder took longer than {self._timeout:g} s (analysis.decoder_timeout)")
            answer = json.loads(self._line.recv_bytes(MOST_ANSWER_BYTES))
        except (OSError, EOFError, ValueError) as fault:
            raise self._died(None) from fault
        if not isinstance(answer, dict):
            raise self._died("its decoder gave an answer that is none")
        if answer.get("error") == "MemoryError":
            raise self._died(f"its decoder needs more than {self._memory_limit:,} bytes (analysis.decoder_memory)")
        return answer

    def _died(self, what: str | None) -> DecoderDied:
        """Clear away a worker that is dead or must be."""
        process = self._process
        if what is None and process is not None:
            with suppress(subprocess.TimeoutExpired):
                process.wait(1)
            code = process.returncode
            what = "its decoder crashed" + (f" (signal {-code})" if code is not None and code < 0 else "")
        self._end()
        self._deaths += 1
        log.error("the decoding process ended over an instance and is started again", reason=what)
        return DecoderDied(what or "its decoder crashed")

    def _start(self) -> None:
        if self._process is not None and self._process.poll() is None:
            return
        self._end()
        ours, theirs = Pipe()
        self._pixels = os.memfd_create("pixels", os.MFD_CLOEXEC)
        descriptors = (theirs.fileno(), self._pixels)
        command = [*self._command, *map(str, descriptors)]
        self._process = subprocess.Popen(
            [*command, str(self._memory_limit), str(ceil(self._timeout + GRACE) if self._timeout is not None else 0)],
            pass_fds=descriptors,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,  # a codec's messages may quote the data
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
        theirs.close()
        self._line = ours
        self._ending = weakref.finalize(self, _put_away, self._process, ours, self._pixels)
        try:
            ready = ours.poll(START_SECONDS) and ours.recv_bytes(2) == b"{}"
        except (OSError, EOFError):
            ready = False
        if not ready:
            self._end()
            raise DecoderDied("the decoding process does not start")

    def _end(self) -> None:
        ending, self._ending = self._ending, None
        self._process = self._line = None
        if ending is not None:
            ending()


def _region(found: dict[str, Any] | None) -> Region | None:
    if found is None:
        return None
    a, b, c, d = (int(edge) for edge in found["box"])
    frames = tuple(int(number) for number in found["frames"])
    return Region((a, b, c, d), frames, int(found["pixels"]), float(found["largest"]))


def _pixels(voxels: NDArray[np.float32], answer: dict[str, Any]) -> Pixels:
    """A picture from what the worker says of it: nothing but numbers and text is taken over."""
    spacing, placed = answer["spacing"], answer["placement"]
    notes, gaps, doubts = (tuple(str(text)[:500] for text in answer[key]) for key in ("notes", "gaps", "doubts"))
    placement = None
    if placed is not None:
        first, second, third = (int(axis) for axis in placed["axes"])
        flips = (bool(placed["backwards"][0]), bool(placed["backwards"][1]), bool(placed["backwards"][2]))
        x, y, z = (int(size) for size in placed["shape"])
        affine = tuple(float(value) for value in placed["affine"])
        placement = Placement((first, second, third), flips, (x, y, z), affine)
    millimetres = None if spacing is None else (float(spacing[0]), float(spacing[1]), float(spacing[2]))
    return Pixels(voxels, millimetres, bool(answer["is_shown"]), notes, gaps, doubts, placement)


def _fault_of_picture(answer: dict[str, Any], file: Path) -> errors.InferenceError:
    text = str(answer.get("text", ""))[:500]
    if answer["error"] == "TooLarge" and text:
        return errors.TooLarge(text)
    if answer["error"] == "UnreadablePicture" and text:
        return errors.UnreadablePicture(text)
    return errors.UnreadablePicture(f"{file.name}: cannot be decoded ({text or answer['error']})")


def _put_away(process: "subprocess.Popen[bytes]", line: Connection, pixels: int) -> None:
    line.close()
    process.kill()
    process.wait()
    os.close(pixels)


def _fault(answer: dict[str, Any], instance: Instance) -> errors.UnreadableInstance:
    kind = getattr(errors, str(answer.get("error", "")), None)
    text = str(answer.get("text", ""))[:500]
    if isinstance(kind, type) and issubclass(kind, errors.UnreadableInstance) and text:
        return kind(text)
    return errors.UndecodablePixelData(f"{instance.name}: pixel data cannot be decoded ({text or 'no such frame'})")
