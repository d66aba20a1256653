"""A storage SCP as pynetdicom's documentation writes it, with an fsync of each file: the peer "plain pynetdicom".

`python -m benchmarks.ingest.plain PORT FOLDER [CERTIFICATE KEY AUTHORITY]`. The handler is the quick one of
the documentation: the data set is written as it came and never decoded.
"""

import os
import ssl
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, evt
from pynetdicom.dimse_primitives import C_STORE


def main(arguments: Sequence[str]) -> None:
    """Serve until killed."""
    port, folder = int(arguments[0]), Path(arguments[1])
    entity: Any = AE(ae_title="PLAIN")
    entity.maximum_pdu_size = 131072
    for context in AllStoragePresentationContexts:
        entity.add_supported_context(context.abstract_syntax, ALL_TRANSFER_SYNTAXES)
    tls = _tls(*arguments[2:]) if len(arguments) > 2 else None
    entity.start_server(
        ("127.0.0.1", port), ssl_context=tls, evt_handlers=[(evt.EVT_C_STORE, _store, [folder])], block=True
    )


def _store(event: evt.Event, folder: Path) -> int:
    request = cast(C_STORE, event.request)
    with (folder / f"{request.AffectedSOPInstanceUID}.dcm").open("wb") as file:
        file.write(event.encoded_dataset())
        file.flush()
        os.fsync(file.fileno())
    return 0x0000


def _tls(certificate: str, key: str, authority: str) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(certificate, key)
    return context


if __name__ == "__main__":
    main(sys.argv[1:])
