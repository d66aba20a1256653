"""Storage commitment with a real Orthanc, which asks us before it would delete, and answers for what we sent it."""

from io import BytesIO
from typing import Any
from urllib.request import Request, urlopen

import pytest
from pydicom import dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from config.settings import Destination
from gateway.dicom.commitment_scu import request_commitment
from storage.commitments import Reference, commitment
from storage.tables import CommitmentState, RequestState
from tests.gateway.dicom.conftest import MR_IMAGE, Start, eventually, free_port, mr_image
from tests.gateway.dicom.test_commitment import answering, requests
from tests.peers import Orthanc, running_orthanc

pytestmark = pytest.mark.peers


def upload(orthanc: Orthanc, image: Any) -> str:
    """Put an instance into Orthanc; its SOP Instance UID."""
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.PatientID, image.InstanceNumber = "P1", 1
    file = BytesIO()
    dcmwrite(file, image, enforce_file_format=True)
    urlopen(Request(f"{orthanc.url}/instances", file.getvalue(), method="POST"), timeout=30).close()  # noqa: S310 - our own, on loopback
    return str(image.SOPInstanceUID)


def test_orthanc_asks_us_and_is_told_what_we_keep(start: Start) -> None:
    ours = free_port()
    modality = {"AET": "SCANWARDEN", "Host": "127.0.0.1", "Port": ours, "AllowStorageCommitment": True}
    with running_orthanc(options={"DicomModalities": {"gateway": modality}}) as orthanc:
        gateway = start(port=ours, sources=[{"ae_title": "ORTHANC", "host": "127.0.0.1", "port": orthanc.dicom_port}])
        image = mr_image()
        uid = upload(orthanc, image)
        orthanc.send(str(image.StudyInstanceUID), "gateway")
        wanted = [[MR_IMAGE, uid], [MR_IMAGE, "1.2.3.4"]]
        asked = orthanc.post("/modalities/gateway/storage-commitment", {"DicomInstances": wanted})
        with answering(gateway):
            assert eventually(lambda: requests(gateway)[0].state is RequestState.REPORTED)
        told = orthanc.get(asked["Path"])
    assert told["Status"] == "Failure"
    assert [each["SOPInstanceUID"] for each in told["Success"]] == [uid]
    assert [(each["SOPInstanceUID"], each["FailureReason"]) for each in told["Failures"]] == [("1.2.3.4", 0x0112)]


def test_orthanc_answers_for_what_we_sent_it_on_an_association_of_its_own(start: Start) -> None:
    gateway = start()
    modality = {"AET": "SCANWARDEN", "Host": "127.0.0.1", "Port": gateway.port, "AllowStorageCommitment": True}
    with running_orthanc(options={"DicomModalities": {"gateway": modality}}) as orthanc:
        uid = upload(orthanc, mr_image())
        pacs = Destination(name="pacs", ae_title="ORTHANC", host="127.0.0.1", port=orthanc.dicom_port, timeout=10)
        states = []
        for references in ([Reference(MR_IMAGE, uid)], [Reference(MR_IMAGE, uid), Reference(MR_IMAGE, "1.2.3.4")]):
            transaction = request_commitment(gateway.database, pacs, references, "SCANWARDEN", wait=0)

            def reported(transaction: str = transaction) -> bool:
                with gateway.database.reading() as session:
                    return commitment(session, transaction).state is not CommitmentState.WAITING

            assert eventually(reported, 20)
            with gateway.database.reading() as session:
                row = commitment(session, transaction)
            states.append((row.state, row.failures, row.reporter))
    assert states == [
        (CommitmentState.COMMITTED, {}, "ORTHANC@127.0.0.1"),
        (CommitmentState.FAILED, {"1.2.3.4": 0x0112}, "ORTHANC@127.0.0.1"),
    ]
