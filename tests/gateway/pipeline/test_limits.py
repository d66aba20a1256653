"""Bounds that hold whatever native code does: each tried in a process of its own, which they end."""

import signal
import subprocess
import sys

from gateway.pipeline.limits import EXIT_OUT_OF_TIME

MIB = 1024**2


def end_of(code: str) -> subprocess.CompletedProcess[str]:
    start = "from gateway.pipeline import limits\n"
    return subprocess.run([sys.executable, "-c", start + code], capture_output=True, text=True, timeout=60, check=False)


def test_an_allocation_above_the_limit_fails_and_one_below_does_not() -> None:
    done = end_of(f"""
limits.limit_memory({512 * MIB})
bytearray({128 * MIB})
try:
    bytearray({1024 * MIB})
except MemoryError:
    print("refused")
""")
    assert done.stdout == "refused\n"


def test_the_limit_holds_for_arrays() -> None:
    done = end_of(f"""
import numpy
limits.limit_memory({512 * MIB})
try:
    numpy.ones({1024 * MIB}, numpy.uint8)
except MemoryError:
    print("refused")
""")
    assert done.stdout == "refused\n"


def test_what_takes_too_long_says_so_and_ends() -> None:
    done = end_of("""
import time
with limits.deadline(0.2, lambda: print("too long", flush=True)):
    time.sleep(30)
""")
    assert (done.returncode, done.stdout) == (EXIT_OUT_OF_TIME, "too long\n")


def test_native_code_that_holds_the_interpreter_ends_too() -> None:
    done = end_of("""
import re
limits.ALARM_AFTER = 0.2
with limits.deadline(0.2, lambda: None):
    re.match("(a+)+$", "a" * 64 + "b")
""")
    assert done.returncode == -signal.SIGALRM


def test_what_is_done_in_time_goes_on() -> None:
    done = end_of("""
import time
limits.ALARM_AFTER = 0.1
with limits.deadline(0.3, lambda: print("too long")):
    pass
time.sleep(0.8)
print("here")
""")
    assert (done.returncode, done.stdout) == (0, "here\n")
