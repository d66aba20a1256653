"""What the viewers' tests share: the studies, one archive with one browser, and where screenshots go.

These tests are not part of `make test`: their modules are called `seen_in_*.py`, and `make viewers` runs them.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.peers import Orthanc, running_orthanc

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

    from gateway.results import EvidenceKind
    from tests.gateway.results.scans import Written
    from tests.viewers.studies import Study

REPOSITORY = Path(__file__).resolve().parents[2]
Keep = Callable[[bytes, str], None]


@dataclass(frozen=True)
class Sent:
    """What the archive holds."""

    genuine: "Study"
    tampered: "Study"
    scans: "Study"
    written: "dict[str, Written]"
    evidence: "dict[str, dict[EvidenceKind, list[Path]]]"


@pytest.fixture(scope="session")
def archive() -> Iterator[Orthanc]:
    dicomweb = {"DicomWeb": {"Enable": True, "Root": "/dicom-web/"}}
    with running_orthanc(plugins=("libOrthancDicomWeb.so",), options=dicomweb) as orthanc:
        yield orthanc


@pytest.fixture(scope="session")
def sent(archive: Orthanc, tmp_path_factory: pytest.TempPathFactory) -> Sent:
    """The studies with the evidence objects for OHIF."""
    from tests.viewers.studies import deliver, genuine_and_tampered, scans

    folder = tmp_path_factory.mktemp("viewers")
    genuine, tampered = genuine_and_tampered(folder)
    scanned, written = scans(folder / "scans")
    evidence = {}
    for name, study in {"genuine": genuine, "tampered": tampered, "scans": scanned}.items():
        evidence[name] = study.evidence("ohif", folder / f"evidence-{name}")
        deliver([*study.files, *(file for files in evidence[name].values() for file in files)], archive)
    return Sent(genuine, tampered, scanned, written, evidence)


@pytest.fixture(scope="session")
def browser() -> "Iterator[BrowserContext]":
    from tests.viewers.chromium import open_browser

    with open_browser() as context:
        yield context


@pytest.fixture
def page(browser: "BrowserContext") -> "Iterator[Page]":
    opened = browser.new_page()
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def address(archive: Orthanc) -> Iterator[str]:
    from tests.viewers.ohif_package import built_viewer
    from tests.viewers.site import open_site

    with open_site(built_viewer(), archive) as url:
        yield url


@pytest.fixture(scope="session")
def keep() -> Keep:
    """Keep a screenshot under a name; in docs/images/ when SCANWARDEN_PICTURES says so."""
    from tests.viewers.screen import save

    folder = REPOSITORY / os.environ.get("SCANWARDEN_PICTURES", ".viewers/pictures")
    return lambda png, name: save(png, folder / f"{name}.png")
