"""Ports of the service that attacks are tried on: `start` opens a DICOM port, `start_web` the web role's."""

from tests.gateway.dicom.conftest import start
from tests.gateway.web.conftest import start as start_web

__all__ = ["start", "start_web"]
