"""Whether somebody answers at a port, not only the kernel in their place."""

import socket
from contextlib import suppress

ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not bound


def answers(host: str, port: int, timeout: float) -> bool:
    """Open a connection, send nothing, say that we are done, and wait for the other side to close it as well.

    A listening socket takes connections also while nobody serves it; only a living server closes one. Receivers take
    this for the port check that it is: no event, also behind TLS and for a caller that no allow-list knows.
    """
    with suppress(OSError), socket.create_connection((ANY_ADDRESS.get(host, host), port), timeout) as connection:
        connection.shutdown(socket.SHUT_WR)
        return connection.recv(1) == b""
    return False
