"""SHA-256 of what was just written, from the page cache, by a thread of its own while the writer waits for the disk.

Hashing takes as long as half an fsync, and neither needs the other. Read, not mapped: a file that somebody cuts short
is an error then and not a SIGBUS.
"""

import errno
import os
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from hashlib import sha256
from typing import Any

_PIECE = 256 * 1024


def digest_of(handle: int, size: int) -> Any:
    """The hash object of the first `size` bytes. Raises OSError when there are fewer."""
    digest, piece, offset = sha256(), memoryview(bytearray(min(size, _PIECE))), 0
    while offset < size:
        count = os.preadv(handle, [piece[: size - offset]], offset)
        if not count:
            raise OSError(errno.EIO, f"{size} bytes were written and {offset} can be read")
        digest.update(piece[:count])
        offset += count
    return digest


def begin_digest(handle: int, size: int) -> "Future[Any]":
    """`digest_of` in the thread; `handle` has to stay open until the result is here."""
    return _thread().submit(digest_of, handle, size)


@cache
def _thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, "digests")
