"""pynetdicom's own logs, off: its event handlers print whole data sets, and those hold patients (promise 7)."""

import logging

from pynetdicom import _config


def quiet_pynetdicom() -> None:
    """Turn its event logging off; we log what happened ourselves. Once in each process that speaks DICOM."""
    _config.LOG_HANDLER_LEVEL = "none"
    _config.LOG_REQUEST_IDENTIFIERS = False
    _config.LOG_RESPONSE_IDENTIFIERS = False
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)
