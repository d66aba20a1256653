"""A decoding worker that ends as broken codecs do: by the Instance Number of what it is asked for."""

import ctypes
import os
import signal
import sys
import time
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

import inference.decoding
from gateway.decoding import worker
from inference.instances import Instance

CRASHES, HANGS, SWELLS, LIES = 91, 92, 93, 94
decode = inference.decoding.decode


def breaking(instance: Instance) -> Iterator[NDArray[np.float32]]:
    if instance.number == CRASHES:
        os.kill(os.getpid(), signal.SIGSEGV)
    if instance.number == HANGS:
        ctypes.PyDLL(None).sleep(600)  # holds the interpreter, as native code may
    if instance.number == SWELLS:
        np.ones(1 << 34, np.uint8)
    for frame in decode(instance):
        yield frame[:-1] if instance.number == LIES else frame
        time.sleep(0)


inference.decoding.decode = breaking

if __name__ == "__main__":
    sys.exit(worker.main(sys.argv[1:]))
