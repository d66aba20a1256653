"""OHIF as its makers publish it: fetched once with npm into a folder that git does not know, held to a digest."""

import base64
import hashlib
import subprocess
import tarfile
import tempfile
from pathlib import Path

VERSION = "3.12.10"
# What npm calls the integrity of the package's tarball.
SHA512 = "0kuF66Mq9c9dMD++bUsTjMrJpXJwaZhz9B4uS244DawAjSkTwIYFU93pxPuRUQixaRi7QAHlF3Fe1qudBlZrmA=="
CACHE = Path(__file__).resolve().parents[2] / ".viewers"


class WrongPackage(Exception):
    """What npm brought is not what was looked at when the version was pinned."""


def built_viewer() -> Path:
    """The folder with OHIF's built pages; fetches 48 MB when it is not there yet. Raises WrongPackage."""
    folder = CACHE / f"ohif-{VERSION}"
    if not folder.is_dir():
        CACHE.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as name:
            scratch = Path(name)
            command = ["npm", "pack", "--silent", "--pack-destination", name, f"@ohif/app@{VERSION}"]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            (tarball,) = scratch.glob("*.tgz")
            _hold_to_digest(tarball)
            with tarfile.open(tarball) as archive:
                archive.extractall(scratch, filter="data")
            (scratch / "package").rename(folder)
    return folder / "dist"


def _hold_to_digest(tarball: Path) -> None:
    with tarball.open("rb") as content:
        found = base64.b64encode(hashlib.file_digest(content, "sha512").digest()).decode()
    if found != SHA512:
        raise WrongPackage(f"@ohif/app {VERSION} has the SHA-512 {found}, not {SHA512}; do not use it")
