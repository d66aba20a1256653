"""A real port with a real store behind it, and a modality that can also misbehave."""

import json
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid
from pynetdicom import build_context
from pynetdicom.association import Association
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import encode
from pynetdicom.pdu_primitives import P_DATA
from sqlalchemy import select

from config import Settings
from config.settings import Destination
from gateway.dicom.receiver import Receiver
from gateway.dicom.scu import SendingEntity
from storage import AuditEventType, Database, InstanceStore, Ledger, LedgerRecord, open_database, open_store
from storage.tables import Instance, Revision

MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"
Answer = tuple[int, str]


def free_port() -> int:
    """A TCP port of the loopback that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def eventually(holds: Callable[[], bool], seconds: float = 10) -> bool:
    """Whether `holds` becomes true; the limit only ends a test that fails."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(0.01)
    return holds()


@dataclass
class Gateway:
    """A running receiver and what lies behind it."""

    receiver: Receiver
    settings: Settings
    database: Database
    store: InstanceStore

    @property
    def port(self) -> int:
        return self.receiver.port

    def instances(self) -> list[Instance]:
        with self.database.reading() as session:
            return list(session.scalars(select(Instance).order_by(Instance.id)))

    def revisions(self) -> list[Revision]:
        with self.database.reading() as session:
            return list(session.scalars(select(Revision).order_by(Revision.id)))

    def events(self, event: AuditEventType) -> list[LedgerRecord]:
        return Ledger(self.database).list(event=event.value, limit=None)

    def refused_associations(self, count: int = 1) -> list[dict[str, Any]]:
        """Details and actor of these events; a peer has its answer a moment before the ledger has the event."""
        assert eventually(lambda: len(self.events(AuditEventType.ASSOCIATION_REFUSED)) >= count)
        events = self.events(AuditEventType.ASSOCIATION_REFUSED)
        assert len(events) == count
        return [{**json.loads(event.details), "actor": event.actor} for event in events]

    def events_of_peers(self) -> list[LedgerRecord]:
        return [event for event in Ledger(self.database).list(limit=None) if "instance" not in event.event]

    def files(self) -> list[Path]:
        """Every file of the store that holds an instance, finished or not; not those that wait for one."""
        folders = (self.store.root / "instances", self.store.root / "incoming")
        return [path for folder in folders for path in folder.rglob("*") if path.is_file() and path.stat().st_size]


Start = Callable[..., Gateway]


@pytest.fixture
def start(tmp_path: Path, migrated: Path) -> Iterator[Start]:
    """Opens gateways, `start(max_associations=2)` with settings of the section `dicom`; all are drained at the end."""
    running: list[Gateway] = []

    def open_port(
        store_settings: Mapping[str, Any] | None = None, destinations: Sequence[Destination] = (), **dicom: Any
    ) -> Gateway:
        settings = Settings.model_validate(
            {
                # The tests' own process may hold more than a receiver ever does.
                "dicom": {"host": "127.0.0.1", "port": free_port(), "memory_watermark": 2**40, **dicom},
                "store": {"root": tmp_path / f"var{len(running)}", "high_watermark": 1.0, "low_watermark": 1.0}
                | dict(store_settings or {}),
                "database": {"busy_timeout": 1},
                "destinations": [each.model_dump() for each in destinations],
            }
        )
        store = open_store(settings)
        shutil.copy(migrated, store.root)
        database = open_database(settings)
        gateway = Gateway(Receiver(settings, database, store), settings, database, store)
        gateway.receiver.start()
        running.append(gateway)
        return gateway

    yield open_port
    for gateway in running:
        gateway.receiver.drain(seconds=0.5)
        gateway.database.close()


@pytest.fixture
def gateway(start: Start) -> Gateway:
    """One gateway on defaults: any AE title from the loopback."""
    return start()


def mr_image(**values: Any) -> Dataset:
    """A small MR image that is right in every way, but for what `values` change (None: element absent)."""
    image = Dataset()
    image.SOPClassUID = MR_IMAGE
    image.SOPInstanceUID = generate_uid()
    image.StudyInstanceUID = generate_uid()
    image.SeriesInstanceUID = generate_uid()
    image.AccessionNumber = "A-4711"
    image.Modality = "MR"
    image.Manufacturer = "Maker"
    image.PatientName = "Secret^Patient"
    image.SamplesPerPixel = 1
    image.PhotometricInterpretation = "MONOCHROME2"
    image.Rows = 8
    image.Columns = 8
    image.BitsAllocated = 16
    image.BitsStored = 12
    image.HighBit = 11
    image.PixelRepresentation = 0
    image.PixelData = bytes(range(128))
    for keyword, value in values.items():
        if value is None:
            delattr(image, keyword)
        else:
            setattr(image, keyword, value)
    return image


def encoded(dataset: Dataset) -> bytes:
    """The data set's bytes in explicit VR little endian."""
    data = encode(dataset, is_implicit_vr=False, is_little_endian=True)
    assert data is not None
    return data


class Modality:
    """A sender that puts any bytes into a C-STORE request, on one association."""

    def __init__(self, gateway: Gateway, sop_class: str = MR_IMAGE, syntax: str = ExplicitVRLittleEndian) -> None:
        ae = SendingEntity(ae_title="MODALITY")
        ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 10
        contexts = [build_context(sop_class, syntax)]
        self.association: Association = ae.associate(
            "127.0.0.1", gateway.port, contexts=contexts, ae_title="SCANWARDEN"
        )
        assert self.association.is_established

    def send(self, data: bytes, sop_instance: str, *, sop_class: str = MR_IMAGE, priority: int = 0) -> Answer:
        """Send `data` as that instance; the answer's status and comment."""
        request = C_STORE()
        request.MessageID = 1
        request.AffectedSOPClassUID = sop_class
        request._affected_sop_instance_uid = UID(sop_instance)  # as it is, past the checks of a sender
        request.Priority = priority
        request.DataSet = BytesIO(data) if data else None
        self.association._reactor_checkpoint.clear()
        # As pynetdicom's own senders do: its reactor, once past the checkpoint, would take the answer and drop it.
        while not self.association._is_paused:
            time.sleep(0.001)
        try:
            context = next(iter(self.association._accepted_cx))
            self.association.dimse.send_msg(request, context)
            _, response = self.association.dimse.get_msg(block=True)
        finally:
            self.association._reactor_checkpoint.set()
        assert response is not None, "no answer"
        assert response.Status is not None
        return response.Status, str(response.ErrorComment or "")

    @property
    def raw(self) -> socket.socket:
        """The TCP connection under the association."""
        wrapped = self.association.dul.socket
        assert wrapped is not None
        assert wrapped.socket is not None
        return wrapped.socket

    def post(self, image: Dataset) -> None:
        """Send a request and do not wait for its answer."""
        request = C_STORE()
        request.MessageID = 1
        request.AffectedSOPClassUID = image.SOPClassUID
        request.AffectedSOPInstanceUID = image.SOPInstanceUID
        request.Priority = 2
        request.DataSet = BytesIO(encoded(image))
        self.association.dimse.send_msg(request, next(iter(self.association._accepted_cx)))

    def parts(self, image: Dataset) -> list[P_DATA]:
        """A request in fragments of 256 bytes."""
        request = C_STORE()
        request.MessageID = 1
        request.AffectedSOPClassUID = image.SOPClassUID
        request.AffectedSOPInstanceUID = image.SOPInstanceUID
        request.Priority = 2
        request.DataSet = BytesIO(encoded(image))
        message = C_STORE_RQ()
        message.primitive_to_message(request)
        return list(message.encode_msg(next(iter(self.association._accepted_cx)), 256))

    def begin(self, image: Dataset) -> None:
        """Send a request without the last fragment of its data set."""
        for part in self.parts(image)[:-1]:
            self.association.dul.send_pdu(part)

    def store(self, image: Dataset, **options: Any) -> Answer:
        """Send a data set under its own UIDs."""
        options.setdefault("sop_class", image.SOPClassUID)
        return self.send(encoded(image), str(image.SOPInstanceUID), **options)

    def close(self) -> None:
        self.association.release()


@pytest.fixture
def modality(gateway: Gateway) -> Iterator[Modality]:
    """A modality on an open association with `gateway`."""
    sender = Modality(gateway)
    yield sender
    sender.close()
