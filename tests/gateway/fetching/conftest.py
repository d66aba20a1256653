"""A real Orthanc for all tests of this folder, read by C-GET, C-MOVE and DICOMweb."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.app import App
from tests.gateway.fetching.archives import MOVE_AE_TITLE, MOVE_PORT, destination
from tests.peers import ORTHANC, Orthanc, running_orthanc
from tests.remembered import gateway


@pytest.fixture(scope="package")
def orthanc() -> Iterator[Orthanc]:
    if not Path(ORTHANC).is_file():
        pytest.skip("Orthanc is not installed (apt-get install orthanc)")
    modalities = {"fetch": (MOVE_AE_TITLE, "127.0.0.1", MOVE_PORT)}
    options = {"DicomAlwaysAllowMove": True}
    with running_orthanc(
        ae_title="ARCHIVE", plugins=("libOrthancDicomWeb.so",), modalities=modalities, options=options
    ) as running:
        yield running


@pytest.fixture
def at_orthanc(orthanc: Orthanc, tmp_path: Path) -> Iterator[App]:
    settings: dict[str, Any] = {"verification": {"archive": "pacs", "instances_per_second": 1000}}
    with gateway(tmp_path, destinations=[destination(orthanc.dicom_port)], **settings) as app:
        yield app
