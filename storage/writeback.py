"""Have the kernel begin to write a file that still grows, so that its fsync finds less to wait for.

sync_file_range(2) starts the writing of pages and waits for nothing. It makes nothing durable, and it leaves whatever
error the disk reports to the fsync that follows.
"""

import ctypes
from collections.abc import Callable
from typing import Any, cast

_WRITE = 2  # SYNC_FILE_RANGE_WRITE


def _found() -> Callable[[int, int, int, int], int] | None:
    try:
        function: Any = ctypes.CDLL(None).sync_file_range
    except (OSError, AttributeError):  # not Linux
        return None
    function.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    return cast(Callable[[int, int, int, int], int], function)


_sync_file_range = _found()


def begin_writing(handle: int, offset: int, count: int) -> None:
    """Start to write `count` bytes from `offset`; where the system cannot, nothing happens."""
    if _sync_file_range is not None:
        _sync_file_range(handle, offset, count, _WRITE)
