"""Reading an archive: which studies' instances it says it has (C-FIND), and the instances themselves (C-GET).

PS3.4 C.4.1 and C.4.3, Study Root. What arrives is written as it came, after the Part 10 header that our receiver
writes, so that the same data set makes the same file. Nothing here decodes, and nothing reaches the receivers: the
objects come back in our own association, never to our port.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex

from pydicom import Dataset
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)
from pynetdicom import build_context, build_role, evt
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.presentation import PresentationContext

from config.settings import Destination
from gateway.dicom.contexts import MAX_CONTEXTS, TRANSFER_SYNTAXES
from gateway.dicom.header import is_uid
from gateway.dicom.part10 import file_meta
from gateway.dicom.refusals import STATUS_SUCCESS
from gateway.dicom.scu import ConnectionBroken, Refused, associated

FIND, GET = "1.2.840.10008.5.1.4.1.2.2.1", "1.2.840.10008.5.1.4.1.2.2.3"
_PENDING = frozenset({0xFF00, 0xFF01})
CANNOT_STORE = 0xA700
# Beside what the objects arrived in: what archives keep or turn them into, then every other syntax, as far as the
# contexts of one association reach. One context each, so that the archive has no reason to convert.
COMMON_SYNTAXES = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEG2000Lossless,
    RLELossless,
    JPEGBaseline8Bit,
    ExplicitVRBigEndian,
)

# For archives whose answers name no SOP class (it is an optional key; DCMTK's dcmqrscp knows none): as many as leave
# room for the usual transfer syntaxes. An object of another class is then listed and not sent.
_USUAL = (
    "1.2.840.10008.5.1.4.1.1.1",  # CR
    "1.2.840.10008.5.1.4.1.1.1.1",  # DX
    "1.2.840.10008.5.1.4.1.1.1.2",  # mammography
    "1.2.840.10008.5.1.4.1.1.2",  # CT
    "1.2.840.10008.5.1.4.1.1.2.1",  # enhanced CT
    "1.2.840.10008.5.1.4.1.1.4",  # MR
    "1.2.840.10008.5.1.4.1.1.4.1",  # enhanced MR
    "1.2.840.10008.5.1.4.1.1.6.1",  # ultrasound
    "1.2.840.10008.5.1.4.1.1.7",  # secondary capture
    "1.2.840.10008.5.1.4.1.1.11.1",  # grayscale presentation state
    "1.2.840.10008.5.1.4.1.1.12.1",  # XA
    "1.2.840.10008.5.1.4.1.1.20",  # NM
    "1.2.840.10008.5.1.4.1.1.66.4",  # segmentation
    "1.2.840.10008.5.1.4.1.1.88.22",  # enhanced SR
    "1.2.840.10008.5.1.4.1.1.88.33",  # comprehensive SR
    "1.2.840.10008.5.1.4.1.1.88.59",  # key object selection
    "1.2.840.10008.5.1.4.1.1.88.67",  # radiation dose SR
    "1.2.840.10008.5.1.4.1.1.128",  # PET
)


@dataclass(frozen=True, slots=True)
class Listed:
    """One instance that the archive says it has."""

    sop_instance_uid: str
    sop_class_uid: str
    series_uid: str


@dataclass(slots=True)
class Fetched:
    """What an archive gave."""

    listed: dict[str, Listed] = field(default_factory=dict)
    """By SOP Instance UID."""
    files: dict[str, Path] = field(default_factory=dict)
    """By SOP Instance UID; an object that is listed and not here was not sent."""


def find_instances(
    destination: Destination, calling_ae_title: str, study_uid: str, series_uid: str | None = None
) -> dict[str, Listed]:
    """Every instance of a study, or of one of its series, that the archive lists. Raises SendError."""
    found: dict[str, Listed] = {}
    contexts = [build_context(FIND, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])]
    with associated(destination, calling_ae_title, contexts) as association:
        # Hierarchical search, level by level: what every archive must support (PS3.4 C.4.1.3.1).
        series = _query(association.send_c_find, destination, "SERIES", study_uid, series_uid or "")
        for each in series:
            own_uid = str(each.get("SeriesInstanceUID", ""))
            if series_uid is not None and own_uid != series_uid:
                continue
            for instance in _query(association.send_c_find, destination, "IMAGE", study_uid, own_uid):
                uid = str(instance.get("SOPInstanceUID", ""))
                if is_uid(uid):
                    found[uid] = Listed(uid, str(instance.get("SOPClassUID", "")), own_uid)
    return found


def get_study(
    destination: Destination,
    calling_ae_title: str,
    study_uid: str,
    folder: Path,
    *,
    expected: Iterable[tuple[str, str]] = (),
    pace: Callable[[], None] = lambda: None,
    series_uid: str | None = None,
    listed: Callable[[int], None] = lambda _: None,
) -> Fetched:
    """Fetch a study, or one of its series, into `folder`: C-FIND for what there is, then C-GET, each in an association
    of its own.

    `expected`: (SOP class, transfer syntax) of the objects as they were first seen. `pace` is called before each object
    is acknowledged and may wait: the archive sends the next one only then. `listed` hears how many there are before the
    first one is asked for. Raises SendError.
    """
    fetched = Fetched(find_instances(destination, calling_ae_title, study_uid, series_uid))
    listed(len(fetched.listed))
    first = list(expected)
    classes = {each.sop_class_uid for each in fetched.listed.values()} | {sop_class for sop_class, _ in first}
    if "" in classes and not first:
        classes |= set(_USUAL)
    rest = sorted(TRANSFER_SYNTAXES - {str(syntax) for syntax in COMMON_SYNTAXES})
    syntaxes = [*(str(syntax) for syntax in COMMON_SYNTAXES), *rest]
    pairs = [*first, *((each, syntax) for syntax in syntaxes for each in sorted(classes) if each)]
    contexts = [build_context(each, syntax) for each, syntax in dict.fromkeys(pairs)][: MAX_CONTEXTS - 1]
    if not fetched.listed or not contexts:
        return fetched

    def keep(event: evt.Event) -> int:
        pace()
        return keep_instance(event, folder, fetched)

    _get(destination, calling_ae_title, retrieve_query(study_uid, series_uid), contexts, keep, fetched)
    return fetched


def retrieve_query(study_uid: str, series_uid: str | None) -> Dataset:
    """The identifier of a C-GET or C-MOVE (PS3.4 C.4.2.1.4)."""
    query = Dataset()
    query.QueryRetrieveLevel, query.StudyInstanceUID = "STUDY", study_uid
    if series_uid is not None:
        query.QueryRetrieveLevel, query.SeriesInstanceUID = "SERIES", series_uid
    return query


def _get(
    destination: Destination,
    calling_ae_title: str,
    query: Dataset,
    contexts: Sequence[PresentationContext],
    keep: Callable[[evt.Event], int],
    fetched: Fetched,
) -> None:
    roles = [build_role(each, scp_role=True) for each in dict.fromkeys(str(c.abstract_syntax) for c in contexts)]
    offered = [build_context(GET, [ExplicitVRLittleEndian, ImplicitVRLittleEndian]), *contexts]
    with associated(
        destination, calling_ae_title, offered, roles=roles, handlers=[(evt.EVT_C_STORE, keep)]
    ) as association:
        last = None
        with in_our_words(destination):
            for status, _ in association.send_c_get(query, GET):
                last = status
    final_status(destination, "C-GET", last, fetched)


def final_status(destination: Destination, request: str, last: Dataset | None, fetched: Fetched) -> None:
    """What the last answer to a C-GET or C-MOVE means (PS3.4 C.4.3.1.4). Raises SendError when nothing came of it."""
    if last is None or "Status" not in last:
        text = f"{destination.name} ended the association or gave no answer to {request}"
        raise ConnectionBroken(f"{text}; look at its log")
    code = int(last.Status)
    # What came is compared, whatever the end: an object that the archive cannot send must not hide the others.
    if code not in (0x0000, 0xB000) and not fetched.files:
        raise Refused(f"{destination.name} answers {request} with status 0x{code:04X}; look at its log", code)


def _query(
    send_c_find: Callable[..., Iterable[tuple[Dataset, Dataset | None]]],
    destination: Destination,
    level: str,
    study_uid: str,
    series_uid: str,
) -> list[Dataset]:
    query = Dataset()
    query.QueryRetrieveLevel, query.StudyInstanceUID, query.SeriesInstanceUID = level, study_uid, series_uid
    if level == "IMAGE":
        query.SOPInstanceUID = query.SOPClassUID = ""
    return find(send_c_find, destination, query)


def find(
    send_c_find: Callable[..., Iterable[tuple[Dataset, Dataset | None]]],
    destination: Destination,
    query: Dataset,
    *,
    most: int | None = None,
) -> list[Dataset]:
    """The answers to a C-FIND; those after `most` are dropped. Raises SendError."""
    answers: list[Dataset] = []
    with in_our_words(destination):
        for status, identifier in send_c_find(query, FIND):
            if "Status" not in status:
                raise ConnectionBroken(f"{destination.name} gave no answer to C-FIND; look at its log")
            if status.Status in _PENDING:
                if identifier is not None and (most is None or len(answers) < most):
                    answers.append(identifier)
            elif status.Status != 0x0000:
                code = int(status.Status)
                raise Refused(f"{destination.name} answers C-FIND with status 0x{code:04X}; look at its log", code)
    return answers


def keep_instance(event: evt.Event, folder: Path, fetched: Fetched) -> int:
    """Keep an object among those that were fetched; the status of the C-STORE that brought it."""
    try:
        uid, path = write_instance(event, folder)
    except (OSError, ValueError, TypeError):
        return CANNOT_STORE
    fetched.files[uid] = path
    return STATUS_SUCCESS


def write_instance(event: evt.Event, folder: Path) -> tuple[str, Path]:
    """Keep an object as it came, under a name that no peer chose. Raises ValueError, TypeError or OSError."""
    request = event.request
    if not isinstance(request, C_STORE) or request.DataSet is None:
        raise TypeError("no C-STORE with a data set")
    uid = str(request.AffectedSOPInstanceUID)
    if not is_uid(uid):
        raise ValueError("the object's UID is none")
    path = folder / f"{token_hex(16)}.dcm"
    with path.open("xb") as file:
        file.write(file_meta(str(request.AffectedSOPClassUID), uid, str(event.context.transfer_syntax)))
        file.write(request.DataSet.getvalue())
    return uid, path


@contextmanager
def in_our_words(destination: Destination) -> Iterator[None]:
    """Turns what pynetdicom raises for an association that is gone into a SendError."""
    try:
        yield
    except RuntimeError as fault:
        raise ConnectionBroken(f"{destination.name} ended the association; look at its log") from fault
    except ValueError as fault:
        text = f"{destination.name} does not offer what is asked of it: {fault}"
        raise Refused(text, None) from fault
