"""Ports of the service that attacks are tried on: `start` opens a DICOM port, `start_web` the web role's."""

from tests.gateway.dicom.conftest import empty_database, start
from tests.gateway.web.conftest import migrated
from tests.gateway.web.conftest import start as start_web

__all__ = ["empty_database", "migrated", "start", "start_web"]
