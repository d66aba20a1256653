"""The DICOM port: taken once, and listened to by every acceptor process.

The kernel hands a connection to whichever of them takes it first. The one that has fewer to serve should, so the others
hold back for a moment (docs/decisions/0015-one-port-for-all-acceptors.md).
"""

import contextlib
import socket


def open_port(host: str, port: int) -> socket.socket:
    """A socket that holds the port, and blocks nobody; whoever serves it first has it listen. Raises OSError."""
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):  # a host without IPv6
            if listening.family == socket.AF_INET6:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listening.bind((host, port))
        listening.setblocking(False)
    except BaseException:
        listening.close()
        raise
    return listening
