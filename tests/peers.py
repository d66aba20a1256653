"""A real Orthanc as PACS: its own folder, free loopback ports, gone at the end. For every test that needs a PACS."""

# ruff: noqa: S310 - the URLs are our own, on loopback

import json
import shutil
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gateway.demo.orthanc import OrthancFailed, OrthancServer

ORTHANC = "/usr/sbin/Orthanc"
_PLUGINS = Path("/usr/share/orthanc/plugins")


class Orthanc(OrthancServer):
    """A running Orthanc; also one that can be stopped and started again on the same ports and storage.

    `modalities` are its `DicomModalities` (name → [AE title, host, port]); `options` go into its configuration as
    they are; `environment` goes over ours.
    """

    def __init__(
        self,
        folder: Path,
        *,
        ae_title: str = "ORTHANC",
        modalities: Mapping[str, tuple[str, str, int]] | None = None,
        plugins: tuple[str, ...] = (),
        options: Mapping[str, Any] | None = None,
        program: str = ORTHANC,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        ours = {
            "DicomCheckCalledAet": False,
            "DicomAlwaysAllowEcho": True,
            "DicomAlwaysAllowFind": True,
            "DicomAlwaysAllowGet": True,
            "UnknownSopClassAccepted": True,
            "OverwriteInstances": True,
            "SyncStorageArea": False,  # the PACS may forget at a power cut; tests should not wait for disks
            "DicomModalities": {name: list(peer) for name, peer in (modalities or {}).items()},
            "Plugins": [str(_PLUGINS / plugin) for plugin in plugins],
        }
        super().__init__(
            folder, program, ae_title=ae_title, options={**ours, **(options or {})}, environment=environment
        )

    def get(self, path: str) -> Any:
        """The JSON behind a path of its REST interface."""
        with urllib.request.urlopen(self.url + path, timeout=30) as answer:
            return json.load(answer)

    def post(self, path: str, body: Any) -> Any:
        """Send JSON to a path of its REST interface and read the JSON that comes back."""
        request = urllib.request.Request(self.url + path, json.dumps(body).encode(), method="POST")
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise OrthancFailed(f"POST {path}: {error.code} {error.read().decode(errors='replace')}") from error

    def delete(self, path: str) -> None:
        """Delete what stands behind a path of its REST interface."""
        urllib.request.urlopen(urllib.request.Request(self.url + path, method="DELETE"), timeout=30).close()

    def studies(self) -> list[str]:
        """Study Instance UIDs of everything that it holds."""
        return [study["MainDicomTags"]["StudyInstanceUID"] for study in self.get("/studies?expand")]

    def instances(self, study_uid: str, modality: str | None = None) -> list[str]:
        """SOP Instance UIDs that it holds of a study; `modality` narrows to SEG or SR, for example."""
        query = {"StudyInstanceUID": study_uid} | ({"Modality": modality} if modality else {})
        return sorted(found["MainDicomTags"]["SOPInstanceUID"] for found in self._find(query))

    def file(self, sop_instance_uid: str) -> bytes:
        """The instance as a Part 10 file, as it would send it on. Raises KeyError when it has none, or several."""
        found = self._find({"SOPInstanceUID": sop_instance_uid})
        if len(found) != 1:
            raise KeyError(f"Orthanc holds {len(found)} instances {sop_instance_uid}")
        with urllib.request.urlopen(f"{self.url}/instances/{found[0]['ID']}/file", timeout=60) as answer:
            content: bytes = answer.read()
        return content

    def send(self, study_uid: str, modality: str) -> None:
        """Make it C-STORE a whole study to one of its `modalities`."""
        found = self.post("/tools/find", {"Level": "Study", "Query": {"StudyInstanceUID": study_uid}})
        self.post(f"/modalities/{modality}/store", {"Resources": found, "Synchronous": True})

    def _find(self, query: Mapping[str, str]) -> list[Any]:
        found: list[Any] = self.post("/tools/find", {"Level": "Instance", "Query": query, "Expand": True})
        return found


@contextmanager
def running_orthanc(**arguments: Any) -> Iterator[Orthanc]:
    """An Orthanc that lives as long as the block; arguments as for `Orthanc`, without the folder."""
    folder = Path(tempfile.mkdtemp(prefix="scanwarden-orthanc-"))
    orthanc = Orthanc(folder, **arguments)
    try:
        orthanc.start()
        yield orthanc
    finally:
        orthanc.stop()
        shutil.rmtree(folder, ignore_errors=True)
